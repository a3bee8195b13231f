//! What an operator does to a plugin.

use std::sync::Arc;

use portreeve_plugin::{Plugin, Stage};

use super::fitting::{Change, Fitted, publish};
use super::{Around, PluginSet, Ready};
use crate::plugins::archive::Happened;
use crate::plugins::{Source, read_source, short};

impl PluginSet {
    /// Goes back to the version that was live before, or to `to`. `saw` is the version on its way
    /// when the operator asked.
    ///
    /// # Errors
    /// Why not.
    pub(crate) async fn roll_back(
        &mut self,
        name: &str,
        to: Option<&str>,
        saw: Option<&str>,
        around: Around<'_>,
        by: &str,
    ) -> Result<String, String> {
        let plugin = self.plugin(name)?;
        if to.is_none() {
            let status = is_as_seen(&plugin, saw)?;
            if let Some(candidate) = status.map(|status| status.candidate) {
                if !plugin.abort(&candidate) {
                    return Err(another(name));
                }
                self.rolled_back(name, &candidate, by, "by command");
                self.show();
                let live = plugin.live();
                return Ok(format!("{name}: {} goes on serving", short(live.digest())));
            }
        }
        let digest = self.target(name, to)?;
        let source = self.kept(name, &digest).ok_or_else(|| {
            format!(
                "the files of version {} were not kept; versions are kept where the gateway has a data directory",
                short(&digest)
            )
        })?;
        let ready = self
            .started(source, None, Some(plugin.state()))
            .await
            .map_err(|why| format!("version {} does not start: {why}", short(&digest)))?;
        let replaced = plugin.live();
        self.publish_one(ready, around, by)?;
        if replaced.digest() != digest {
            self.archive.bar(name, replaced.digest());
            let reason = "by command";
            self.archive.record(name, replaced.digest(), by, Happened::RolledBack, reason);
        }
        self.tidy(name);
        self.show();
        Ok(format!(
            "{name}: {} serves, {} is not loaded again until its files change",
            short(&digest),
            short(replaced.digest())
        ))
    }

    /// The one version that is meant.
    fn target(&self, name: &str, to: Option<&str>) -> Result<String, String> {
        let remembered = self.archive.of(name);
        let Some(to) = to else {
            let earlier = remembered.live.into_iter().nth(1);
            return earlier.ok_or_else(|| format!("{name} has no earlier version to go back to"));
        };
        let mut known: Vec<String> = remembered.live.into_iter().skip(1).collect();
        known.extend(remembered.barred);
        meant(name, &known, to)
    }

    /// The version on its way takes its next step. `saw` is the one that was on its way when the
    /// operator asked.
    ///
    /// # Errors
    /// Why not.
    pub(crate) async fn promote(
        &mut self,
        name: &str,
        saw: Option<&str>,
        around: Around<'_>,
        by: &str,
    ) -> Result<String, String> {
        let plugin = self.plugin(name)?;
        let none = || format!("no version of {name} is on its way");
        let status = is_as_seen(&plugin, saw)?.ok_or_else(none)?;
        let candidate = status.candidate;
        let digest = candidate.digest().to_owned();
        if status.stage == Stage::Canary {
            let done = self.promote_tried(name, &candidate, around, by);
            self.show();
            return done.map(|()| format!("{name}: {} serves", short(&digest)));
        }
        let tried = self.candidates.get(name).ok_or_else(none)?;
        let stage = tried.manifest.plugin.rollout.canary.map(|_| Stage::Canary);
        let source = self.kept(name, &digest).ok_or_else(|| {
            format!("the files of version {} are not there any more", short(&digest))
        })?;
        // What it wrote into its copy of the state counts no more.
        let ready = self.started(source, stage, Some(plugin.state())).await;
        let ready = ready.map_err(|why| why.to_string())?;
        // It may have been taken back while it was started anew.
        if !plugin.rollout().is_some_and(|now| Arc::ptr_eq(&now.candidate, &candidate)) {
            return Err(another(name));
        }
        self.publish_one(ready, around, by)?;
        self.show();
        Ok(match stage {
            Some(stage) => format!("{name}: {} is in {}", short(&digest), stage.name()),
            None => format!("{name}: {} serves", short(&digest)),
        })
    }

    /// Publishes one version, if it fits.
    fn publish_one(&mut self, ready: Ready, around: Around<'_>, by: &str) -> Result<(), String> {
        let fitted = self.fitted(&[Change::Version(&ready)], around);
        let Fitted { plugins, rules } = fitted.map_err(|mistakes| {
            format!("version {} does not fit: {}", short(&ready.digest), mistakes.join("\n"))
        })?;
        self.replace(plugins);
        self.put(ready, by);
        publish(around, rules);
        Ok(())
    }

    fn plugin(&self, name: &str) -> Result<Arc<Plugin>, String> {
        let loaded = self.plugins.get(name);
        loaded.map(|loaded| Arc::clone(&loaded.plugin)).ok_or_else(|| {
            let names: Vec<&str> = self.plugins.keys().map(String::as_str).collect();
            match names.is_empty() {
                true => format!("there is no plugin {name:?}; none is loaded"),
                false => format!("there is no plugin {name:?}; there are {}", names.join(", ")),
            }
        })
    }

    /// The files of a version: those that were kept, or those in the directory.
    pub(super) fn kept(&self, name: &str, digest: &str) -> Option<Source> {
        let path = self.directory.as_ref()?.join(format!("{name}.wasm"));
        let kept = self.archive.kept(&path.with_extension("toml"), name, digest);
        kept.or_else(|| read_source(&path).ok().filter(|source| source.digest == digest))
    }
}

/// The one version among those that are `known` which begins with `to`.
fn meant(name: &str, known: &[String], to: &str) -> Result<String, String> {
    let listed = |known: &[String]| -> String {
        let known: Vec<&str> = known.iter().map(|digest| short(digest)).collect();
        known.join(", ")
    };
    if to.is_empty() {
        let known = listed(known);
        return Err(format!("--to needs the first digits of a version; there are {known}"));
    }
    let all: Vec<String> = known.iter().filter(|digest| digest.starts_with(to)).cloned().collect();
    match all.as_slice() {
        [] => Err(format!("{name} has no version {to}; there are {}", listed(known))),
        [one] => Ok(one.clone()),
        several => Err(format!("{to} can be {}; say more digits of one of them", listed(several))),
    }
}

/// The version on its way, if it is still the one that the operator saw.
fn is_as_seen(
    plugin: &Plugin,
    saw: Option<&str>,
) -> Result<Option<portreeve_plugin::RolloutStatus>, String> {
    let status = plugin.rollout();
    let now = status.as_ref().map(|status| status.candidate.digest());
    if now == saw { Ok(status) } else { Err(another(plugin.name())) }
}

fn another(name: &str) -> String {
    format!(
        "the version of {name} that was on its way has changed just now; see `portreeve plugin show \
         {name}`, and say it again"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_to_go_back_to_is_meant_by_its_first_digits() {
        let known = ["abc1", "abd2", "f003"].map(str::to_owned);
        assert_eq!(meant("a", &known, "abd").as_deref(), Ok("abd2"));
        for (to, wanted) in [("", "first digits"), ("ab", "can be abc1, abd2"), ("9", "no version")]
        {
            let told = meant("a", &known, to).unwrap_err();
            assert!(told.contains(wanted), "{told}");
        }
    }
}
