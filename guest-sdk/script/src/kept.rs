//! What an instance keeps from call to call.

use crate::error::{Fault, ScriptError};

/// A value that is made when it is first needed, and made again after its script ran out of
/// memory.
#[derive(Debug)]
pub struct Kept<T>(Option<T>);

impl<T> Kept<T> {
    /// Nothing yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(None)
    }

    /// Uses the value; `make` makes it where there is none.
    ///
    /// # Errors
    /// What `make` or `use_it` say.
    pub fn with<R>(
        &mut self,
        make: impl FnOnce() -> Result<T, ScriptError>,
        use_it: impl FnOnce(&mut T) -> Result<R, ScriptError>,
    ) -> Result<R, ScriptError> {
        let value = match &mut self.0 {
            Some(value) => value,
            none => none.insert(make()?),
        };
        let result = use_it(value);
        // A full memory stays full, and a script without one fails for every device.
        if matches!(&result, Err(error) if error.fault == Fault::Memory) {
            self.0 = None;
        }
        result
    }
}

impl<T> Default for Kept<T> {
    fn default() -> Self {
        Self::new()
    }
}
