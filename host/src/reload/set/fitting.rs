//! Which of the changes that are wanted fit together: all of them, or as many as do.

use std::collections::BTreeSet;
use std::sync::Arc;

use portreeve_plugin::{Plugin, Role};

use super::{Around, PluginSet, Ready, Wanted};
use crate::config::Config;
use crate::gateway::Rules;
use crate::plugins::{LoadedPlugin, WhyNot, roles};
use crate::resolve::{Plugins, rules};

/// Changes that are tried two at a time, where none of them fits alone.
const PAIRED_MAX: usize = 16;

/// A change that is looked at.
#[derive(Clone, Copy)]
pub(super) enum Change<'a> {
    Configuration(&'a Config),
    Version(&'a Ready),
    Removal(&'a str),
}

/// What holds with some changes made.
pub(super) struct Fitted {
    pub(super) plugins: Plugins,
    pub(super) rules: Vec<Rules>,
}

impl PluginSet {
    /// Publishes as much of what is wanted as fits together, and `next` with it, which is the
    /// configuration that is wanted. Says what is wrong with it where it does not fit.
    pub(crate) fn settle(
        &mut self,
        around: Around<'_>,
        next: Option<&Config>,
        by: &str,
    ) -> Result<(), Vec<String>> {
        if next.is_none() && self.wanted.is_empty() {
            return Ok(());
        }
        self.checked.lock().clear();
        let wanted = std::mem::take(&mut self.wanted);
        let of_plugins = wanted.iter().map(|(name, wanted)| match wanted {
            Wanted::Version(ready) => Change::Version(ready),
            Wanted::Removal => Change::Removal(name),
        });
        let changes: Vec<Change<'_>> =
            next.map(Change::Configuration).into_iter().chain(of_plugins).collect();
        let some = |chosen: &BTreeSet<usize>| -> Vec<Change<'_>> {
            chosen.iter().filter_map(|index| changes.get(*index).copied()).collect()
        };
        let chosen = choose(changes.len(), |chosen| self.fitted(&some(chosen), around).is_ok());
        // With what was chosen, each of the others is a mistake.
        let why = |index: usize| -> Vec<String> {
            let with = chosen.iter().copied().chain([index]).collect();
            self.fitted(&some(&with), around).err().unwrap_or_default()
        };
        let refused: Vec<(usize, Vec<String>)> = (0..changes.len())
            .filter(|index| !chosen.contains(index))
            .map(|i| (i, why(i)))
            .collect();
        let fitted = match chosen.is_empty() {
            true => None,
            false => self.fitted(&some(&chosen), around).ok(),
        };
        let first_plugin = usize::from(next.is_some());
        let mut of_configuration = Ok(());
        let mut whys = std::collections::BTreeMap::new();
        for (index, mistakes) in refused {
            match index.checked_sub(first_plugin) {
                None => of_configuration = Err(mistakes),
                Some(index) => drop(whys.insert(index, mistakes)),
            }
        }
        let (plugins, rules) = match fitted {
            Some(Fitted { plugins, rules }) => (plugins, Some(rules)),
            None => (self.plugins.clone(), None),
        };
        let before = self.replace(plugins);
        for (index, (name, wanted)) in wanted.into_iter().enumerate() {
            if let Some(mistakes) = whys.remove(&index) {
                let mut why = WhyNot::DoesNotFit(mistakes.join("\n")).to_string();
                if matches!(wanted, Wanted::Removal) {
                    why = format!("it is still needed: {why}");
                }
                self.wanted.insert(name.clone(), wanted);
                self.refuse(&name, by, &why);
                continue;
            }
            match wanted {
                Wanted::Version(ready) => self.put(*ready, by),
                Wanted::Removal => {
                    if let Some(loaded) = before.get(&name) {
                        self.remove(&name, loaded.clone(), by);
                    }
                }
            }
        }
        if let Some(rules) = rules {
            publish(around, rules);
        }
        if let (Some(next), Ok(())) = (next, &of_configuration) {
            self.take_keys(&next.signature_keys);
        }
        self.show();
        of_configuration
    }

    /// Whether a configuration fits, by itself or together with the changes that wait.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn fits(&self, around: Around<'_>, next: &Config) -> Result<(), Vec<String>> {
        self.checked.lock().clear();
        let Err(mistakes) = self.fitted(&[Change::Configuration(next)], around) else {
            return Ok(());
        };
        let waiting = self.wanted.iter().map(|(name, wanted)| match wanted {
            Wanted::Version(ready) => Change::Version(ready),
            Wanted::Removal => Change::Removal(name),
        });
        let all: Vec<_> = std::iter::once(Change::Configuration(next)).chain(waiting).collect();
        self.fitted(&all, around).map(drop).map_err(|_with_others| mistakes)
    }

    /// These are the plugins from now on. Gives those before them.
    pub(super) fn replace(&mut self, next: Plugins) -> Plugins {
        let before = std::mem::replace(&mut self.plugins, next);
        for (name, loaded) in &before {
            let now = self.plugins.get(name);
            let is_another = now.is_some_and(|now| !Arc::ptr_eq(&now.plugin, &loaded.plugin));
            if is_another && let Some(tried) = self.candidates.remove(name) {
                loaded.plugin.abort(&tried.version);
            }
        }
        before
    }

    /// What holds with these changes.
    pub(super) fn fitted(
        &self,
        changes: &[Change<'_>],
        around: Around<'_>,
    ) -> Result<Fitted, Vec<String>> {
        let mut plugins = self.plugins.clone();
        let mut config = around.config;
        let mut tried = Vec::new();
        for change in changes {
            match *change {
                Change::Configuration(next) => config = next,
                Change::Removal(name) => drop(plugins.remove(name)),
                Change::Version(ready) => {
                    let loaded = plugins.entry(ready.name.clone()).or_insert_with(|| {
                        let new = || LoadedPlugin {
                            plugin: Plugin::new(Arc::clone(&ready.version), self.observer.clone()),
                            manifest: ready.manifest.clone(),
                            roles: roles(&ready.version),
                        };
                        ready.base.clone().unwrap_or_else(new)
                    });
                    match ready.stage {
                        Some(_) => tried.push(ready),
                        None => {
                            // Until the rules change, calls come for what the old version does:
                            // it goes on answering them where the new one does not do it.
                            let is_kept = |role: &Role| ready.version.is(*role);
                            if !loaded.roles.iter().all(is_kept) {
                                let version = Arc::clone(&ready.version);
                                loaded.plugin = Plugin::new(version, self.observer.clone());
                            }
                            become_of(loaded, ready);
                        }
                    }
                }
            }
        }
        self.check_signatures(&plugins, changes, &config.signature_keys)?;
        let around = Around { config, ..around };
        let rules = all_rules(around, &plugins)?;
        // What is on its way has to fit, too: nobody looks when it is promoted.
        if !tried.is_empty() {
            let mut promoted = plugins.clone();
            for ready in tried {
                if let Some(loaded) = promoted.get_mut(&ready.name) {
                    become_of(loaded, ready);
                }
            }
            all_rules(around, &promoted)?;
        }
        Ok(Fitted { plugins, rules })
    }
}

fn become_of(loaded: &mut LoadedPlugin, ready: &Ready) {
    loaded.manifest = ready.manifest.clone();
    loaded.roles = roles(&ready.version);
}

/// The largest set of changes that can be found without trying all sets: all of them, or what fits
/// one by one, or two by two.
fn choose(count: usize, fits: impl Fn(&BTreeSet<usize>) -> bool) -> BTreeSet<usize> {
    let all: BTreeSet<usize> = (0..count).collect();
    if fits(&all) {
        return all;
    }
    let mut chosen = BTreeSet::new();
    // Each turn but the last one adds a change.
    for _ in 0..=count {
        let left: Vec<usize> = all.difference(&chosen).copied().collect();
        let before = chosen.len();
        for index in &left {
            chosen.insert(*index);
            if !fits(&chosen) {
                chosen.remove(index);
            }
        }
        if chosen.len() > before {
            continue;
        }
        let pairs = left.iter().flat_map(|one| left.iter().map(move |other| (*one, *other)));
        let is_good = |(one, other): &(usize, usize)| {
            one < other && fits(&chosen.iter().copied().chain([*one, *other]).collect())
        };
        let pair = match left.len() <= PAIRED_MAX {
            true => pairs.into_iter().find(is_good),
            false => None,
        };
        let Some((one, other)) = pair else { break };
        chosen.extend([one, other]);
    }
    chosen
}

/// What holds for each gateway with these plugins; before there are gateways, for each that the
/// configuration names.
pub(super) fn all_rules(around: Around<'_>, plugins: &Plugins) -> Result<Vec<Rules>, Vec<String>> {
    let Around { config, gateways } = around;
    let mut mistakes = Vec::new();
    let mut all = Vec::new();
    if gateways.is_empty() {
        for configured in &config.gateways {
            all.extend(rules(configured, plugins, &mut mistakes));
        }
    }
    for gateway in gateways {
        let configured = config.gateways.iter().find(|other| *other.name == *gateway.name);
        match configured {
            Some(configured) => all.extend(rules(configured, plugins, &mut mistakes)),
            None => mistakes.push(format!(
                "gateway {:?} is not in the configuration any more; a gateway ends with a restart",
                gateway.name
            )),
        }
    }
    if mistakes.is_empty() { Ok(all) } else { Err(mistakes) }
}

/// From now on these hold.
pub(super) fn publish(around: Around<'_>, rules: Vec<Rules>) {
    around.gateways.iter().zip(rules).for_each(|(gateway, rules)| gateway.publish(rules));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(count: usize, fits: impl Fn(&BTreeSet<usize>) -> bool) -> Vec<usize> {
        choose(count, fits).into_iter().collect()
    }

    #[test]
    fn what_fits_is_chosen_without_what_does_not() {
        assert_eq!(chosen(3, |_| true), [0, 1, 2]);
        assert_eq!(chosen(3, |some| !some.contains(&1)), [0, 2]);
        assert_eq!(chosen(3, BTreeSet::is_empty), [] as [usize; 0]);
        // 0 needs 2, and 1 is bad.
        let fits = |some: &BTreeSet<usize>| {
            !some.contains(&1) && (!some.contains(&0) || some.contains(&2))
        };
        assert_eq!(chosen(3, fits), [0, 2]);
    }

    #[test]
    fn two_that_need_each_other_are_chosen_beside_a_bad_one() {
        let fits =
            |some: &BTreeSet<usize>| !some.contains(&2) && some.contains(&0) == some.contains(&3);
        assert_eq!(chosen(4, fits), [0, 1, 3]);
    }
}
