//! `portreeve store`: looks at a store that no gateway has open.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Subcommand;
use portreeve_store::{Durability, Store, Tally, salvage};
use serde_json::{Value, json};

use super::output;

/// Work with the store of a gateway that does not run.
#[derive(Debug, Subcommand)]
pub(crate) enum StoreCommand {
    /// Read a store through and say what it holds, or what is wrong with it.
    Check {
        /// The store: the folder `store` of the data directory.
        #[arg(value_name = "STORE")]
        store: PathBuf,
        /// Print the result as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Copy what can be read of a damaged store into a new folder. The store is not changed.
    Salvage {
        /// The damaged store.
        #[arg(value_name = "STORE")]
        store: PathBuf,
        /// The folder to make; put it in the place of the damaged one.
        #[arg(value_name = "NEW_DIRECTORY")]
        to: PathBuf,
        /// Print the result as JSON.
        #[arg(long)]
        json: bool,
    },
}

impl StoreCommand {
    pub(crate) fn execute(self) -> ExitCode {
        match self {
            Self::Check { store, json } => {
                if !store.join("version").is_file() {
                    let path = store.display();
                    return output::fail(&format!(
                        "{path} is no store; name the folder \"store\" of the data directory"
                    ));
                }
                let read =
                    Store::open(&store, Durability::Process).and_then(|(store, contents)| {
                        let (tally, _orphans) = contents.visit(|_| Ok(()), |_| {})?;
                        drop(contents);
                        store.close();
                        Ok(tally)
                    });
                match read {
                    Ok(tally) => say(&tally, json!({ "ok": true }), json),
                    Err(error) if json => {
                        output::json(&json!({ "ok": false, "error": error.to_string() }));
                        ExitCode::from(output::FAILED)
                    }
                    Err(error) => output::fail(&error.to_string()),
                }
            }
            Self::Salvage { store, to, json } => match salvage(&store, &to) {
                Ok(saved) => {
                    let lost = saved.lost_bytes;
                    let code = say(&saved.tally, json!({ "ok": true, "lost_bytes": lost }), json);
                    if !json {
                        output::say(&format!("bytes of journals that could not be used: {lost}"));
                    }
                    code
                }
                Err(error) => output::fail(&error.to_string()),
            },
        }
    }
}

fn say(tally: &Tally, mut found: Value, json: bool) -> ExitCode {
    let Tally { devices, sessions, subscriptions, entries, received, retained, orphans, missing } =
        *tally;
    let counts = [
        ("sessions", sessions),
        ("subscriptions", subscriptions),
        ("messages", entries),
        ("received", received),
        ("retained", retained),
        ("devices", devices),
        ("orphans", orphans),
        ("missing", missing),
    ];
    if json {
        if let Some(found) = found.as_object_mut() {
            found.extend(counts.map(|(name, count)| (name.to_owned(), count.into())));
        }
        output::json(&found);
    } else {
        counts.iter().for_each(|(name, count)| output::say(&format!("{name}: {count}")));
    }
    ExitCode::SUCCESS
}
