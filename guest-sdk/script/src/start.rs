//! What runs when an instance starts.

/// Runs `begin` when an instance of the plugin starts, before it is called. An error ends the
/// instance: a version of the plugin whose first instance does not start is refused, and the
/// version before it goes on serving.
#[macro_export]
macro_rules! export_start {
    ($begin:path) => {
        const _: fn() -> Result<(), $crate::ScriptError> = $begin;
        #[cfg(target_family = "wasm")]
        const _: () = {
            // SAFETY: a component's core module has one `_initialize`, which is this.
            #[unsafe(export_name = "_initialize")]
            #[expect(unsafe_code, reason = "the name that a component's start function has")]
            extern "C" fn initialize() {
                $crate::start($begin);
            }
        };
    };
}

/// Runs `begin`, and ends the instance where it fails.
pub fn start(begin: fn() -> Result<(), crate::ScriptError>) {
    #[cfg(target_family = "wasm")]
    wit_bindgen::rt::run_ctors_once();
    if let Err(error) = begin() {
        portreeve_guest::log::error(&format!("the script cannot be used: {error}"));
        std::process::abort();
    }
}
