//! Embeds what `portreeve plugin new` writes: the examples, which are its templates, the SDKs and
//! the contract.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// What an author makes or fetches, and what a project does not need of an SDK.
const LEFT_OUT: &[&str] = &[
    "build",
    "node_modules",
    "released",
    "package-lock.json",
    "target",
    "test",
    "tests",
    "__pycache__",
    ".venv",
    ".zig-cache",
    "compile_flags.txt",
    "build.zig",
    "zig-cache",
    "zig-out",
];

fn main() -> io::Result<()> {
    let root = PathBuf::from("..");
    let mut table = String::from(
        "/// Every file, by its path in the project, with its bytes and whether it can be run.\n\
         pub(super) static FILES: &[(&str, &[u8], bool)] = &[\n",
    );
    for folder in ["guest-sdk", "plugins-examples", "wit"] {
        add(&root.join(folder), folder, &mut table)?;
    }
    table.push_str("];\n");
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    fs::write(out.join("embedded.rs"), table)?;
    // Versions of the crates that a project in Rust uses are those of this workspace.
    println!("cargo:rerun-if-changed=../Cargo.toml");
    fs::copy(root.join("Cargo.toml"), out.join("workspace.toml"))?;
    Ok(())
}

fn add(folder: &Path, name: &str, table: &mut String) -> io::Result<()> {
    println!("cargo:rerun-if-changed={}", folder.display());
    let mut entries = fs::read_dir(folder)?.collect::<Result<Vec<_>, _>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let file_name = entry.file_name().to_string_lossy().into_owned();
        // Deeper down it is a part of an SDK's own build tool.
        let is_tool = file_name == "build" && name.matches('/').count() > 1;
        // The tests of examples are part of the templates.
        let is_test = file_name == "test" || file_name == "tests";
        let is_example_test = is_test && name.starts_with("plugins-examples/");
        if LEFT_OUT.contains(&file_name.as_str()) && !is_tool && !is_example_test {
            continue;
        }
        let inner = format!("{name}/{file_name}");
        if entry.file_type()?.is_dir() {
            add(&entry.path(), &inner, table)?;
        } else {
            println!("cargo:rerun-if-changed={}", entry.path().display());
            let path = fs::canonicalize(entry.path())?;
            let may_run = is_executable(&path)?;
            let line = writeln!(table, "    ({inner:?}, include_bytes!({path:?}), {may_run}),");
            line.map_err(io::Error::other)?;
        }
    }
    Ok(())
}

fn is_executable(path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::PermissionsExt;
    Ok(fs::metadata(path)?.permissions().mode() & 0o100 != 0)
}
