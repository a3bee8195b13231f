//! Asks a user's own service over HTTPS who a connecting device is.
//!
//! Everything is a setting of the manifest, and a preset has one for each: Portreeve's own
//! contract, or that of a service that was written for something else.

mod acl;
mod ask;
mod body;
mod decision;
mod json;
mod permissions;
mod placeholder;
mod pointers;
mod presets;
mod request;
mod settings;
mod sign;
mod source;
mod stop;
mod target;
mod template;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod verdict;

use std::sync::Arc;

use portreeve_guest::{Connect, Error, Refusal, Verdict, Verifier, export_verifier};

use crate::placeholder::Peer;
use crate::settings::Settings;
use crate::stop::Stop;

struct HttpsVerifier;

impl Verifier for HttpsVerifier {
    fn verify(connect: Connect) -> Result<Verdict, Error> {
        match ask_about(&*settings()?, &connect) {
            Ok(verdict) => Ok(verdict),
            Err(Stop::Refused(refusal)) => Ok(refusal.into()),
            Err(Stop::Failed(error)) => Err(error),
        }
    }
}

fn ask_about(settings: &Settings, connect: &Connect) -> Result<Verdict, Stop> {
    if connect.authentication_method.is_some() && !settings.tells_authentication_data() {
        return Err(Refusal::not_authorized("there is no enhanced authentication here").into());
    }
    let peer = Peer { connect, product: &settings.product };
    let request = request::request(settings, &peer)?;
    let response = ask::ask(settings, &request)?;
    verdict::verdict(settings, &peer, &response)
}

/// The settings do not change while an instance lives: they are read once.
#[cfg(target_family = "wasm")]
fn settings() -> Result<Arc<Settings>, Error> {
    use std::sync::OnceLock;
    static READ: OnceLock<Result<Arc<Settings>, String>> = OnceLock::new();
    let read = || read().map_err(|error| error.to_string());
    READ.get_or_init(read).clone().map_err(Error::new)
}

/// Each test has settings of its own.
#[cfg(not(target_family = "wasm"))]
fn settings() -> Result<Arc<Settings>, Error> {
    read()
}

fn read() -> Result<Arc<Settings>, Error> {
    Settings::new(portreeve_guest::settings::all()).map(Arc::new)
}

export_verifier!(HttpsVerifier);
