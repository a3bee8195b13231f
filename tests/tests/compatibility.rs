//! Plugins that were built against a released version of the contract load, and answer as they did
//! then. `tools/freeze-contract` made the archives; none of them is ever changed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::allow_attributes,
    reason = "tests stop at the first surprise"
)]

use std::path::{Path, PathBuf};
use std::process::Command;

use portreeve::plugin_json::Case;
use portreeve::plugins::load_plugin;
use portreeve_plugin::{CodeCache, Engine};
use portreeve_tests::guests::workspace;

const LANGUAGES: [&str; 6] = ["rust", "js", "python", "c", "zig", "go"];

/// Versions that were released, as their archives are named.
fn released() -> Vec<String> {
    let entries = std::fs::read_dir(workspace().join("tests/compatibility")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter_map(|name| name.strip_suffix(".tar.xz").map(str::to_owned)).collect()
}

fn unpack(version: &str, folder: &Path) -> PathBuf {
    let archive = workspace().join(format!("tests/compatibility/{version}.tar.xz"));
    let status = Command::new("tar").arg("-xJf").arg(archive).arg("-C").arg(folder).status();
    assert!(status.unwrap().success(), "tar and xz unpack it");
    folder.join(version)
}

#[tokio::test(flavor = "multi_thread")]
async fn plugins_of_every_released_version_answer_as_they_did() {
    let versions = released();
    assert!(versions.contains(&"0.1.0".to_owned()), "{versions:?}");
    let engine = Engine::new().unwrap();
    // Compiled code is kept from run to run: Python takes a while.
    let cache = workspace().join("target/compatibility-code");
    std::fs::create_dir_all(&cache).unwrap();
    let cache = CodeCache::open(&cache).ok();
    for version in versions {
        let folder = tempfile::tempdir().unwrap();
        let folder = unpack(&version, folder.path());
        for language in LANGUAGES {
            for (kind, at_least) in [("verifier", 8), ("parser", 16)] {
                let file = folder.join(format!("{language}-{kind}.wasm"));
                let loaded = load_plugin(&engine, &file, cache.as_ref()).await;
                let (plugin, _) =
                    loaded.unwrap_or_else(|why| panic!("{version} {language}: {why}"));
                let text = std::fs::read_to_string(file.with_extension("json")).unwrap();
                let cases = Case::list(&text).unwrap();
                assert!(cases.len() >= at_least, "{language} {kind} has {} cases", cases.len());
                for case in &cases {
                    let answer = case.ask(&plugin).await;
                    if let Err(wrong) = case.judge(&answer) {
                        panic!("{version} {language} {kind}, {:?}: {wrong}", case.name);
                    }
                }
                println!("{version} {language} {kind}: {} cases", cases.len());
            }
        }
    }
}

/// The text of a contract without its comments: those may still become clearer.
fn shape(folder: &Path) -> Vec<String> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "wit"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "{} holds a contract", folder.display());
    let texts = files.iter().map(|path| std::fs::read_to_string(path).unwrap());
    let lines = texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>());
    lines
        .map(|line| line.split("//").next().unwrap_or_default().trim().to_owned())
        .filter(|line| !line.is_empty())
        .collect()
}

#[test]
fn a_released_contract_does_not_change() {
    let wit = workspace().join("wit");
    let current = shape(&wit);
    let version = current.iter().find_map(|line| line.strip_prefix("package portreeve:plugin@"));
    let version = version.unwrap().trim_end_matches(';').to_owned();
    let frozen = wit.join("released").join(&version);
    if released().contains(&version) {
        assert_eq!(current, shape(&frozen), "{version} is frozen; what changes is another version");
    }
}
