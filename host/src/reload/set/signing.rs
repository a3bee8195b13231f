//! Whether other keys accept what serves.

use std::collections::BTreeSet;

use super::fitting::Change;
use super::{PluginSet, Wanted};
use crate::plugins::short;
use crate::resolve::Plugins;
use crate::signature::TrustedKeys;

impl PluginSet {
    /// From now on these keys hold. What waits was accepted by the ones before, and is read and
    /// verified again; what was removed does not come back without its files.
    pub(super) fn take_keys(&mut self, keys: &TrustedKeys) {
        if *keys == self.keys {
            return;
        }
        self.keys = keys.clone();
        self.wanted.retain(|_, wanted| matches!(wanted, Wanted::Removal));
        self.departed.clear();
    }

    /// Why these keys do not accept a version that was kept. Looked up once for each round of
    /// changes, which are tried in many combinations.
    fn refusal(&self, name: &str, digest: &str, keys: &TrustedKeys) -> Option<String> {
        let version = (name.to_owned(), digest.to_owned());
        if let Some(known) = self.checked.lock().get(&version) {
            return known.clone();
        }
        let refused = match self.kept(name, digest) {
            Some(source) => source.signed_by(keys).err().map(|error| error.to_string()),
            None => Some("its files are not there any more".to_owned()),
        };
        self.checked.lock().insert(version, refused.clone());
        refused
    }

    /// Whether `keys` accept all that would serve, or be on its way, with these changes made.
    pub(super) fn check_signatures(
        &self,
        plugins: &Plugins,
        changes: &[Change<'_>],
        keys: &TrustedKeys,
    ) -> Result<(), Vec<String>> {
        if *keys == self.keys || keys.is_empty() {
            return Ok(());
        }
        let mut mistakes = Vec::new();
        for (name, loaded) in plugins {
            let mut digests = BTreeSet::new();
            let mut is_replaced = false;
            for change in changes {
                if let Change::Version(ready) = change
                    && ready.name == *name
                {
                    digests.insert(ready.version.digest().to_owned());
                    is_replaced |= ready.stage.is_none();
                }
            }
            if !is_replaced {
                let candidate = loaded.plugin.rollout().map(|status| status.candidate);
                let serving = candidate.into_iter().chain([loaded.plugin.live()]);
                digests.extend(serving.map(|version| version.digest().to_owned()));
            }
            for digest in digests {
                if let Some(why) = self.refusal(name, &digest, keys) {
                    mistakes.push(format!(
                        "[plugins] signature_keys: plugin {name}, version {}: {why}; sign it with one of the new keys first",
                        short(&digest)
                    ));
                }
            }
        }
        if mistakes.is_empty() { Ok(()) } else { Err(mistakes) }
    }
}
