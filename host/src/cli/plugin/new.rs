//! `portreeve plugin new`: a project that builds and has a passing test. The templates are the
//! examples; SDK and contract are copied along, so that nothing else has to be there.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use crate::cli::output;

mod embedded {
    include!(concat!(env!("OUT_DIR"), "/embedded.rs"));
}

use embedded::FILES;

/// `Cargo.toml` of the workspace that the templates come from.
const WORKSPACE: &str = include_str!(concat!(env!("OUT_DIR"), "/workspace.toml"));

/// A language that plugins are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Language {
    Rust,
    Js,
    Python,
    C,
    Zig,
    Go,
}

impl Language {
    const fn folder(self) -> &'static str {
        match self {
            Self::Rust => "rust",
            Self::Js => "js",
            Self::Python => "python",
            Self::C => "c",
            Self::Zig => "zig",
            Self::Go => "go",
        }
    }
}

/// What the plugin does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Decides who a connecting device is.
    Verifier,
    /// Translates messages.
    Parser,
}

/// Make a project that builds and has a passing test.
#[derive(Debug, Args)]
pub(crate) struct New {
    /// The plugin's name, and that of its folder.
    name: String,
    /// The language.
    #[arg(long, value_enum)]
    lang: Language,
    /// What it does.
    #[arg(long, value_enum)]
    kind: Kind,
    /// The folder to make it in; a new one of the plugin's name where it is left out.
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,
}

impl New {
    pub(crate) fn execute(self) -> ExitCode {
        match self.make() {
            Ok(folder) => {
                output::say(&format!("made {}; go on with:", folder.display()));
                output::say(&format!("  cd {}", folder.display()));
                output::say("  portreeve plugin build");
                output::say("  portreeve plugin test");
                output::say("  portreeve plugin serve --watch");
                ExitCode::SUCCESS
            }
            Err(error) => output::fail(&error),
        }
    }

    fn make(&self) -> Result<PathBuf, String> {
        let is_allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let begins_well = self.name.starts_with(|c: char| c.is_ascii_lowercase());
        if !begins_well || self.name.len() > 64 || !self.name.chars().all(is_allowed) {
            return Err(format!(
                "{:?} cannot be the name of a project: use up to 64 of a-z 0-9 -, a letter first",
                self.name
            ));
        }
        let folder = self.into.clone().unwrap_or_else(|| PathBuf::from(&self.name));
        if fs::read_dir(&folder).is_ok_and(|mut entries| entries.next().is_some()) {
            return Err(format!("{} is not empty; --into names another folder", folder.display()));
        }
        let language = self.lang.folder();
        let example = match self.kind {
            Kind::Verifier => "allow-list",
            Kind::Parser => "sensor-frame",
        };
        let template = match self.lang {
            Language::Rust => example.to_owned(),
            _ => format!("{example}-{language}"),
        };
        let sdk = format!("guest-sdk/{language}/");
        let own = format!("plugins-examples/{template}/");
        for (path, bytes, may_run) in FILES {
            let (to, bytes) = if let Some(rest) = path.strip_prefix(own.as_str()) {
                let to = rest.replace(&template, &self.name);
                (folder.join(to), self.own_file(rest, bytes, &template))
            } else if let Some(rest) = path.strip_prefix(sdk.as_str()) {
                (folder.join("sdk").join(rest), sdk_file(bytes))
            } else if path.starts_with("wit/") {
                (folder.join(path), bytes.to_vec())
            } else {
                continue;
            };
            write(&to, &bytes, *may_run)?;
        }
        Ok(folder)
    }

    /// A file of the template under the new name, with the SDK where it is now.
    fn own_file(&self, path: &str, bytes: &[u8], template: &str) -> Vec<u8> {
        let Ok(text) = std::str::from_utf8(bytes) else { return bytes.to_vec() };
        let sdk = format!("../../guest-sdk/{}", self.lang.folder());
        let mut text = text
            .replace(&sdk, "sdk")
            .replace(template, &self.name)
            .replace(&template.replace('-', "_"), &self.name.replace('-', "_"));
        if path == "Cargo.toml" {
            text.push_str(&workspace_of(&text));
        }
        text.into_bytes()
    }
}

/// A file of an SDK; the contract is nearer than it was.
fn sdk_file(bytes: &[u8]) -> Vec<u8> {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.replace("\"../../wit\"", "\"../wit\"").into_bytes(),
        Err(_) => bytes.to_vec(),
    }
}

/// What the SDK itself inherits.
const SDK_NEEDS: [&str; 2] = ["wasip2", "wit-bindgen"];

/// What a Rust project inherits in the place where it comes from: versions, lints and the profile
/// that plugins are built with.
fn workspace_of(manifest: &str) -> String {
    let lines = |begin: &str| {
        let after = WORKSPACE.split_once(begin).map_or("", |(_, after)| after);
        after.split("\n[").next().unwrap_or_default().trim().to_owned()
    };
    let dependencies = lines("[workspace.dependencies]\n");
    let is_used = |line: &&str| {
        let name = line.split(" =").next().unwrap_or_default();
        SDK_NEEDS.contains(&name) || manifest.contains(&format!("\n{name}.workspace"))
    };
    let used: Vec<&str> = dependencies
        .lines()
        .filter(|line| !line.starts_with("portreeve"))
        .filter(is_used)
        .collect();
    format!(
        "\n# The SDK stands in `sdk`, and inherits from here as the plugin does.\n[workspace]\nmembers = [\"sdk\"]\n\n\
         [workspace.package]\n{}\n\n[workspace.dependencies]\nportreeve-guest = {{ path = \"sdk\" }}\n{}\n\n\
         [workspace.lints]\n\n[profile.guest]\n{}\n",
        lines("[workspace.package]\n"),
        used.join("\n"),
        lines("[profile.guest]\n")
            .lines()
            .filter(|line| !line.starts_with('#'))
            .collect::<Vec<_>>()
            .join("\n"),
    )
}

fn write(path: &Path, bytes: &[u8], may_run: bool) -> Result<(), String> {
    let written = path
        .parent()
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| fs::write(path, bytes))
        .and_then(|()| {
            let mode = if may_run { 0o755 } else { 0o644 };
            fs::set_permissions(path, fs::Permissions::from_mode(mode))
        });
    written.map_err(|error| format!("{} cannot be written: {error}", path.display()))
}
