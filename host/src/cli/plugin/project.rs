//! A plugin's project: a folder with `plugin.toml`, which says how it is built and tested.

use std::path::{Path, PathBuf};
use std::process::Command;

use portreeve::plugin_json::Case;
use serde::Deserialize;

/// Files of cases in one project.
const CASE_FILES_MAX: usize = 1_000;

/// What `plugin.toml` says.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProjectFile {
    build: Build,
    #[serde(default)]
    test: Option<Test>,
}

/// `[build]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Build {
    /// Run by `sh` in the folder.
    command: String,
    /// The component that it leaves.
    output: PathBuf,
    /// Files and folders that it is made of.
    #[serde(default)]
    watch: Vec<PathBuf>,
}

/// `[test]`: the language's own unit tests.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Test {
    command: String,
}

/// A project.
#[derive(Debug)]
pub(crate) struct Project {
    folder: PathBuf,
    file: ProjectFile,
}

impl Project {
    /// Opens the project in a folder.
    ///
    /// # Errors
    /// What is wrong with its `plugin.toml`.
    pub(crate) fn open(folder: &Path) -> Result<Self, String> {
        let path = folder.join("plugin.toml");
        let text = std::fs::read_to_string(&path).map_err(|error| {
            format!(
                "{}: {error}; `portreeve plugin new` makes a project, and DIR says where it is",
                path.display()
            )
        })?;
        let file = toml::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self { folder: folder.to_owned(), file })
    }

    /// The component that a build leaves.
    pub(crate) fn output(&self) -> PathBuf {
        self.folder.join(&self.file.build.output)
    }

    /// What it is made of.
    pub(crate) fn watched(&self) -> Vec<PathBuf> {
        self.file.build.watch.iter().map(|path| self.folder.join(path)).collect()
    }

    /// Builds it; what the tools print goes to the terminal.
    ///
    /// # Errors
    /// That the command failed, or left no component.
    pub(crate) fn build(&self) -> Result<PathBuf, String> {
        let output = self.output();
        if let Some(parent) = output.parent() {
            std::fs::create_dir_all(parent)
                .map_err(|error| format!("{}: {error}", parent.display()))?;
        }
        self.run("build", &self.file.build.command)?;
        if !output.is_file() {
            return Err(format!(
                "[build] command left no {}; [build] output names what it leaves",
                output.display()
            ));
        }
        Ok(output)
    }

    /// Runs the language's own tests, if there are any.
    ///
    /// # Errors
    /// That they failed.
    pub(crate) fn unit_tests(&self) -> Result<(), String> {
        self.file.test.as_ref().map_or(Ok(()), |test| self.run("test", &test.command))
    }

    fn run(&self, table: &str, command: &str) -> Result<(), String> {
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(command).current_dir(&self.folder);
        // Build tools of some languages have the last step done by this program.
        if let Ok(portreeve) = std::env::current_exe() {
            shell.env("PORTREEVE", portreeve);
        }
        let status = shell.status();
        let status = status.map_err(|error| format!("sh cannot be run: {error}"))?;
        if status.success() {
            return Ok(());
        }
        Err(format!(
            "[{table}] command of {} failed: {status}",
            self.folder.join("plugin.toml").display()
        ))
    }

    /// The cases in `cases/`, with the file that each stands in.
    ///
    /// # Errors
    /// A file that cannot be read, by name.
    pub(crate) fn cases(&self) -> Result<Vec<(String, Case)>, String> {
        cases(&self.folder.join("cases"))
    }
}

/// The cases of a folder; none where there is no such folder.
pub(crate) fn cases(folder: &Path) -> Result<Vec<(String, Case)>, String> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Ok(Vec::new()) };
    let mut paths: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .take(CASE_FILES_MAX)
        .collect();
    paths.sort();
    let mut found = Vec::new();
    for path in paths {
        let faulty = |error: String| format!("{}: {error}", path.display());
        let text = std::fs::read_to_string(&path).map_err(|error| faulty(error.to_string()))?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let cases = Case::list(&text).map_err(faulty)?;
        found.extend(cases.into_iter().map(|case| (name.clone(), case)));
    }
    Ok(found)
}
