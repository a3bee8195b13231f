//! Guests, built once for each run of a test program; a build without changes takes 0.3 s.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The folder of the workspace.
#[must_use]
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the workspace").to_owned()
}

const EXAMPLES: [&str; 5] =
    ["allow-list", "hmac-password", "https-verifier", "sensor-frame", "json-to-fields"];

fn build() -> PathBuf {
    let mut command = Command::new(env!("CARGO"));
    command
        .current_dir(workspace())
        .args(["build", "--quiet", "--profile", "guest", "--target", "wasm32-wasip2"])
        .args([
            "--target-dir",
            "target/guests",
            "-p",
            "portreeve-test-guests",
            "--examples",
            "--bins",
        ]);
    assert!(command.status().expect("cargo runs").success(), "the guests do not build");
    let mut command = Command::new(env!("CARGO"));
    command
        .current_dir(workspace())
        .args(["build", "--quiet", "--profile", "guest", "--target", "wasm32-wasip2"])
        .args(["--target-dir", "target/guests"]);
    for example in EXAMPLES {
        command.args(["-p", example]);
    }
    assert!(command.status().expect("cargo runs").success(), "the example plugins do not build");
    workspace().join("target/guests/wasm32-wasip2/guest")
}

/// The component of a guest: an example plugin, a guest of `tests/guests`, or `wrong-world`.
#[must_use]
pub fn component(name: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(build);
    let file = format!("{}.wasm", name.replace('-', "_"));
    let path = if EXAMPLES.contains(&name) {
        folder.join(file)
    } else if name == "wrong-world" {
        folder.join("wrong-world.wasm")
    } else {
        folder.join("examples").join(file)
    };
    assert!(path.exists(), "{} was not built", path.display());
    path
}

/// The manifest of an example plugin.
#[must_use]
pub fn manifest(example: &str) -> String {
    let path = workspace().join(format!("plugins-examples/{example}/{example}.toml"));
    std::fs::read_to_string(path).expect("the example has a manifest")
}
