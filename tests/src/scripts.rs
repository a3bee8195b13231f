//! The plugins that run scripts of users, and gateways with them.

use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use crate::gateway::TestGateway;
use crate::guests::workspace;

/// The component of `script-parser` or `function-verifier`, built once; the first build installs a
/// C compiler.
#[must_use]
pub fn component(name: &str) -> Vec<u8> {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let mut command = Command::new(workspace().join("tools/build-script-plugins"));
        assert!(command.status().expect("the tool runs").success(), "the plugins do not build");
        workspace().join("target/script-plugins")
    });
    std::fs::read(folder.join(format!("{name}.wasm"))).expect("the plugin was built")
}

/// Where `make script-plugins` puts a component.
#[must_use]
pub fn built(name: &str) -> PathBuf {
    workspace().join("target/script-plugins").join(format!("{name}.wasm"))
}

/// Where `portreeve plugin build` puts `function-verifier-python`.
#[must_use]
pub fn built_python() -> PathBuf {
    let name = "function-verifier-python";
    workspace().join("plugins-examples").join(name).join("build").join(format!("{name}.wasm"))
}

/// A script that is shipped as an example, such as `script-parser/scripts/tts.js`.
#[must_use]
pub fn example(path: &str) -> String {
    let path = workspace().join("plugins-examples").join(path);
    std::fs::read_to_string(path).expect("the example has this script")
}

/// A manifest whose script is the file `a.js`; `settings` are further lines of `[settings]`.
#[must_use]
pub fn manifest(preset: &str, settings: &str, more: &str) -> String {
    format!(
        "{more}\n[settings]\npreset = {preset:?}\nscript = {{ file = \"a.js\" }}\n\
         script_name = \"a.js\"\n{settings}\n"
    )
}

/// A gateway with one of the plugins, whose script is the file `a.js` of the gateway's folder.
#[must_use]
pub fn with_script(
    gateway: TestGateway,
    plugin: &str,
    manifest: &str,
    script: &str,
) -> TestGateway {
    std::fs::write(gateway.folder().join("a.js"), script).expect("the script is written");
    gateway.with_component(plugin, &component(plugin), manifest)
}
