//! `settings`: what the manifest says, read-only.

use crate::bindings::portreeve::plugin::settings::Host;
use crate::instance::GuestState;

impl Host for GuestState {
    fn get(&mut self, key: String) -> Option<String> {
        self.shared.settings.get(&key).cloned()
    }

    fn all(&mut self) -> Vec<(String, String)> {
        let settings = self.shared.settings.iter();
        settings.map(|(key, value)| (key.clone(), value.clone())).collect()
    }
}
