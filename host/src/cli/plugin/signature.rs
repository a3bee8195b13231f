//! `portreeve plugin keygen`, `sign` and `verify`: in the format of minisign.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use portreeve::signature::{TrustedKeys, new_keys, sign, signature_path};
use serde_json::json;

use crate::cli::output;

/// Where the password of a secret key may stand: scripts have no terminal.
const PASSWORD_VARIABLE: &str = "PORTREEVE_KEY_PASSWORD";

/// Make a pair of keys to sign components with.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  portreeve plugin keygen --secret-key portreeve.key
  PORTREEVE_KEY_PASSWORD=… portreeve plugin keygen --secret-key portreeve.key

The public key stands beside the secret one as portreeve.pub; its second line goes into the
configuration: [plugins] signature_keys = [\"RW…\"]. minisign reads both.")]
pub(crate) struct Keygen {
    /// Where the secret key is written; the public one stands beside it, with the ending `.pub`.
    #[arg(long, value_name = "FILE", default_value = "portreeve.key")]
    secret_key: PathBuf,
}

impl Keygen {
    pub(crate) fn execute(self) -> ExitCode {
        match self.make() {
            Ok(public) => {
                output::say(&format!(
                    "{}: the secret key; {}: the public one",
                    self.secret_key.display(),
                    self.secret_key.with_extension("pub").display()
                ));
                if password().is_none() {
                    output::say(&format!(
                        "It has no password; {PASSWORD_VARIABLE} gives it one. Keep it where only you can read."
                    ));
                }
                output::say(
                    "The gateway accepts what it signs with this line in its configuration:",
                );
                output::say(&format!("  [plugins]\n  signature_keys = [{public:?}]"));
                ExitCode::SUCCESS
            }
            Err(error) => output::fail(&error),
        }
    }

    fn make(&self) -> Result<String, String> {
        let (secret, public) = new_keys(password()).map_err(|error| error.to_string())?;
        write_new(&self.secret_key, secret.as_bytes(), 0o600)?;
        write_new(&self.secret_key.with_extension("pub"), public.as_bytes(), 0o644)?;
        Ok(public.lines().nth(1).unwrap_or_default().to_owned())
    }
}

/// A secret key that is overwritten is lost.
fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), String> {
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create_new(true).mode(mode).open(path);
    file.and_then(|mut file| file.write_all(bytes))
        .map_err(|error| format!("{} cannot be written: {error}", path.display()))
}

fn password() -> Option<String> {
    std::env::var(PASSWORD_VARIABLE).ok()
}

/// Sign components: a signature FILE.minisig beside each.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  portreeve plugin sign --secret-key portreeve.key my-parser.wasm
  minisign -S -s portreeve.key -m my-parser.wasm        # the same

A key with a password asks for it at the terminal, or takes it from PORTREEVE_KEY_PASSWORD. Put the
signature into the plugin directory before the component: until both are there, the version before
goes on.")]
pub(crate) struct Sign {
    /// The components.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// The secret key.
    #[arg(long, value_name = "FILE", default_value = "portreeve.key")]
    secret_key: PathBuf,
}

impl Sign {
    pub(crate) fn execute(self) -> ExitCode {
        let key = match fs::read_to_string(&self.secret_key) {
            Ok(key) => key,
            Err(error) => {
                return output::fail(&format!(
                    "{} cannot be read: {error}; `portreeve plugin keygen` makes one",
                    self.secret_key.display()
                ));
            }
        };
        for file in &self.files {
            match sign_file(file, &key) {
                Ok(path) => output::say(&format!("{}: signed", path.display())),
                Err(error) => return output::fail(&format!("{}: {error}", file.display())),
            }
        }
        ExitCode::SUCCESS
    }
}

fn sign_file(file: &Path, key: &str) -> Result<PathBuf, String> {
    let component = fs::read(file).map_err(|error| format!("cannot be read: {error}"))?;
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let comment = format!(
        "timestamp:{}\tfile:{name}",
        std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs())
    );
    let signature =
        sign(&component, key, password(), &comment).map_err(|error| error.to_string())?;
    let path = signature_path(file);
    // Moved into place: a gateway may be looking.
    let partial = path.with_extension("partial");
    fs::write(&partial, signature)
        .and_then(|()| fs::rename(&partial, &path))
        .map_err(|error| format!("{} cannot be written: {error}", path.display()))?;
    Ok(path)
}

/// Verify the signatures of components, as a gateway with these keys would.
#[derive(Debug, Args)]
pub(crate) struct Verify {
    /// The components; each has its signature beside it as FILE.minisig.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// A public key: its line of base64, or the path of its file. Can be said more than once.
    #[arg(long = "key", value_name = "KEY", required = true)]
    keys: Vec<String>,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

impl Verify {
    pub(crate) fn execute(self) -> ExitCode {
        let mut trusted = TrustedKeys::default();
        for key in &self.keys {
            let text = fs::read_to_string(key).unwrap_or_else(|_| key.clone());
            if let Err(error) = trusted.add(&text) {
                return output::fail(&format!("{key:?} {error}"));
            }
        }
        let results: Vec<_> =
            self.files.iter().map(|file| (file, verify_file(file, &trusted))).collect();
        let is_ok = results.iter().all(|(_, result)| result.is_ok());
        if self.json {
            let files = results.iter().map(|(file, result)| {
                json!({ "file": file, "key": result.as_ref().ok(), "error": result.as_ref().err() })
            });
            output::json(&json!({ "ok": is_ok, "files": files.collect::<Vec<_>>() }));
        } else {
            let mut mistakes = Vec::new();
            for (file, result) in &results {
                match result {
                    Ok(number) => {
                        output::say(&format!("{}: signed with key {number}", file.display()));
                    }
                    Err(error) => mistakes.push(format!("{}: {error}", file.display())),
                }
            }
            let _code = output::fail_all(&mistakes);
        }
        if is_ok { ExitCode::SUCCESS } else { ExitCode::from(output::FAILED) }
    }
}

fn verify_file(file: &Path, trusted: &TrustedKeys) -> Result<String, String> {
    let component = fs::read(file).map_err(|error| format!("cannot be read: {error}"))?;
    let signature = fs::read_to_string(signature_path(file)).ok();
    trusted.verify(&component, signature.as_deref()).map_err(|error| error.to_string())
}
