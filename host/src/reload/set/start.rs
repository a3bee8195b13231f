//! Which versions serve when the process starts.

use std::path::{Path, PathBuf};

use portreeve_plugin::Stage;

use super::fitting::Change;
use super::{Around, PluginSet, Ready, Wanted};
use crate::plugins::scan::Changes;
use crate::plugins::{PLUGINS_MAX, Source, WhyNot, read_source};

/// The version in the directory, and the one that was live before the restart.
struct Begin {
    path: PathBuf,
    source: Source,
    ready: Ready,
    last: Option<String>,
}

impl PluginSet {
    /// Loads what the directory holds when the process starts: the version that was live before
    /// where the one in the directory cannot be used, does not fit, or has to be tried first.
    pub(crate) async fn start(&mut self, changes: Changes, around: Around<'_>) {
        let mut begins = Vec::new();
        for (index, (name, path)) in changes.changed.into_iter().enumerate() {
            let last = self.archive.of(&name).live.first().cloned();
            let loaded = match index < PLUGINS_MAX {
                true => self.begun(&name, &path).await,
                false => Err(WhyNot::TooMany),
            };
            match loaded {
                Ok((source, ready)) => begins.push(Begin { path, source, ready, last }),
                Err(why) => {
                    if let Some(earlier) = self.start_kept(&name, &path, last).await {
                        self.put(earlier, "start");
                    }
                    self.refuse(&name, "start", &why.to_string());
                }
            }
        }
        let misfits = self.fall_back(&begins, around).await;
        for (begin, misfit) in begins.into_iter().zip(misfits) {
            match misfit {
                None => self.start_one(begin).await,
                Some((earlier, why)) => self.start_misfit(begin, earlier, &why).await,
            }
        }
        self.show();
    }

    async fn begun(&self, name: &str, path: &Path) -> Result<(Source, Ready), WhyNot> {
        let source = read_source(path)?;
        if self.archive.of(name).barred.contains(&source.digest) {
            return Err(WhyNot::Barred { name: name.to_owned(), digest: source.digest });
        }
        let ready = self.started(source.clone(), None, None).await?;
        Ok((source, ready))
    }

    /// Where configuration and plugins do not fit together: for each version, the one before it that
    /// serves in its place, and why.
    async fn fall_back(
        &self,
        begins: &[Begin],
        around: Around<'_>,
    ) -> Vec<Option<(Ready, String)>> {
        let mut none: Vec<Option<(Ready, String)>> = begins.iter().map(|_| None).collect();
        let versions = |swapped: &[Option<Ready>]| -> Result<(), Vec<String>> {
            let pairs = begins.iter().zip(swapped);
            let changes: Vec<Change<'_>> = pairs
                .map(|(begin, earlier)| Change::Version(earlier.as_ref().unwrap_or(&begin.ready)))
                .collect();
            self.fitted(&changes, around).map(drop)
        };
        let mut swapped: Vec<Option<Ready>> = begins.iter().map(|_| None).collect();
        let Err(mistakes) = versions(&swapped) else { return none };
        let why = mistakes.join("\n");
        // One by one, and then all of them.
        let mut all: Vec<Option<Ready>> = Vec::new();
        for (index, begin) in begins.iter().enumerate() {
            // A start that failed may have noted the version in the directory as the last one.
            let Ready { name, digest, .. } = &begin.ready;
            let live = self.archive.of(name).live;
            let other = live.into_iter().find(|other| other != digest);
            let earlier = self.start_kept(name, &begin.path, other).await;
            if let (Some(earlier), Some(place)) = (earlier, swapped.get_mut(index)) {
                *place = Some(earlier);
                if versions(&swapped).is_ok() {
                    break;
                }
                all.push(swapped.get_mut(index).and_then(Option::take));
            } else {
                all.push(None);
            }
        }
        if versions(&swapped).is_err() {
            all.resize_with(begins.len(), || None);
            swapped = all;
        }
        if versions(&swapped).is_ok() {
            none = swapped.into_iter().map(|one| one.map(|ready| (ready, why.clone()))).collect();
        }
        none
    }

    /// The version in the directory serves, or is tried first.
    async fn start_one(&mut self, begin: Begin) {
        let Begin { path, source, ready, last } = begin;
        let is_last = last.as_ref().is_none_or(|last| *last == ready.digest);
        let stage = source.manifest.plugin.rollout.first_stage().filter(|_| !is_last);
        let earlier = match stage {
            Some(_) => self.start_kept(&ready.name, &path, last).await,
            None => None,
        };
        let Some(earlier) = earlier else { return self.put(ready, "start") };
        let name = ready.name;
        self.put(earlier, "start");
        match self.start_beside(source, stage).await {
            Ok(candidate) => self.put(candidate, "start"),
            Err(why) => self.refuse(&name, "start", &why.to_string()),
        }
    }

    /// The version before it serves, and the one in the directory waits until it fits.
    async fn start_misfit(&mut self, begin: Begin, earlier: Ready, why: &str) {
        let (name, source) = (begin.ready.name, begin.source);
        self.put(earlier, "start");
        let stage = source.manifest.plugin.rollout.first_stage();
        if let Ok(ready) = self.start_beside(source, stage).await {
            self.wanted.insert(name.clone(), Wanted::Version(Box::new(ready)));
        }
        self.refuse(&name, "start", why);
    }

    /// Starts a version with the state of the one that serves.
    async fn start_beside(&self, source: Source, stage: Option<Stage>) -> Result<Ready, WhyNot> {
        let state = self.plugins.get(&source.name).map(|loaded| loaded.plugin.state());
        self.started(source, stage, state).await
    }

    async fn start_kept(&self, name: &str, path: &Path, last: Option<String>) -> Option<Ready> {
        let source = self.archive.kept(&path.with_extension("toml"), name, &last?)?;
        self.started(source, None, None).await.ok()
    }
}
