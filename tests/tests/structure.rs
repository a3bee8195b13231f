//! The structure that the documentation promises.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::allow_attributes,
    reason = "tests stop at the first surprise"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use portreeve_tests::guests::workspace;

const FILE_LINES_MAX: usize = 700;

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn no_file_is_longer_than_700_lines() {
    for folder in ["host", "guest-sdk", "plugins-examples"] {
        let mut found = Vec::new();
        sources(&workspace().join(folder), &mut found);
        for path in found {
            let lines = std::fs::read_to_string(&path).unwrap().lines().count();
            assert!(lines <= FILE_LINES_MAX, "{} has {lines} lines", path.display());
        }
    }
}

/// The modules of `host/src/lib.rs` in their order.
fn modules() -> Vec<String> {
    let text = std::fs::read_to_string(workspace().join("host/src/lib.rs")).unwrap();
    let names = text.lines().filter_map(|line| {
        let line = line.strip_prefix("pub ").unwrap_or(line);
        line.strip_prefix("mod ")?.strip_suffix(';').map(str::to_owned)
    });
    names.collect()
}

#[test]
fn a_module_uses_only_modules_that_stand_below_it() {
    let modules = modules();
    let place: BTreeMap<&str, usize> =
        modules.iter().enumerate().map(|(place, name)| (name.as_str(), place)).collect();
    assert!(place.len() > 15, "{modules:?}");
    let source = workspace().join("host/src");
    let mut found = Vec::new();
    sources(&source, &mut found);
    let mut arrows = 0;
    for path in found {
        let relative = path.strip_prefix(&source).unwrap();
        let own =
            relative.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs").to_owned();
        let Some(&own_place) = place.get(own.as_str()) else { continue };
        for (number, line) in std::fs::read_to_string(&path).unwrap().lines().enumerate() {
            for used in line.split("crate::").skip(1) {
                let names =
                    used.trim_start_matches('{').split(|c: char| !c.is_alphanumeric() && c != '_');
                let Some(&used_place) = names.clone().next().and_then(|name| place.get(name))
                else {
                    continue;
                };
                arrows += 1;
                assert!(
                    used_place >= own_place,
                    "{}:{}: {own} uses {}, which stands above it in lib.rs",
                    relative.display(),
                    number + 1,
                    modules[used_place]
                );
            }
        }
    }
    assert!(arrows > 40, "only {arrows} uses were found");
}

#[test]
fn leaves_do_not_name_one_another() {
    for (leaf, others) in [
        ("host/mqtt", ["portreeve_plugin", "portreeve_store", "portreeve::"]),
        ("host/plugin", ["portreeve_mqtt", "portreeve_store", "portreeve::"]),
        ("host/store", ["portreeve_mqtt", "portreeve_plugin", "portreeve::"]),
    ] {
        let mut found = Vec::new();
        sources(&workspace().join(leaf).join("src"), &mut found);
        for path in found {
            let text = std::fs::read_to_string(&path).unwrap();
            for other in others {
                let names_it = text
                    .lines()
                    .any(|line| line.contains(other) && !line.contains("portreeve::plugin"));
                assert!(
                    !names_it || path.ends_with("bindings.rs"),
                    "{} names {other}",
                    path.display()
                );
            }
        }
    }
}

/// Each SDK is complete, since `plugin new` copies it: what several of them need is there more than once,
/// and is the same.
#[test]
fn copies_in_the_sdks_are_equal() {
    for (file, sdks) in [("tools.py", &["c", "zig"][..]), ("tests/cases.py", &["c", "zig", "go"])] {
        let read = |sdk: &str| {
            std::fs::read_to_string(workspace().join("guest-sdk").join(sdk).join(file)).unwrap()
        };
        let first = read(sdks[0]);
        for sdk in &sdks[1..] {
            assert!(read(sdk) == first, "guest-sdk/{sdk}/{file} is not that of {}", sdks[0]);
        }
    }
}
