//! Runs a user's function that decides who connects: one that was made for a cloud, as it is.
//! `preset` in `[settings]` says for which; README.md tells what else there is to set.

mod contract;
mod event;
mod glob;
mod lambda;
mod policy;
mod verifier;

#[cfg(test)]
mod tests;

use std::cell::RefCell;

use portreeve_guest::{Connect, Error, Refusal, Verdict, Verifier, export_verifier};
use portreeve_script::{Fault, Kept, ScriptError, export_start};

use verifier::FunctionVerifier;

struct Plugin;

thread_local! {
    static VERIFIER: RefCell<Kept<FunctionVerifier>> = const { RefCell::new(Kept::new()) };
}

impl Verifier for Plugin {
    fn verify(request: Connect) -> Result<Verdict, Error> {
        // The function knows names and passwords, and no exchange of proofs.
        if request.authentication_method.is_some() {
            return Ok(Refusal::not_authorized("enhanced authentication is not offered").into());
        }
        VERIFIER.with_borrow_mut(|kept| {
            let mut refuses_errors = true;
            let verdict = kept.with(FunctionVerifier::from_settings, |verifier| {
                refuses_errors = verifier.refuses_errors;
                verifier.verify(&request)
            });
            verdict.or_else(|error| failed(error, refuses_errors))
        })
    }
}

/// A function that fails admits nobody. What made it fail may be what the device sent: then it is
/// refused, since a plugin that fails for three devices is not asked for anybody.
fn failed(error: ScriptError, refuses_errors: bool) -> Result<Verdict, Error> {
    let is_the_functions = matches!(error.fault, Fault::Thrown | Fault::Result | Fault::Unsettled);
    if !is_the_functions || !refuses_errors {
        return Err(error.into());
    }
    // Its text may hold what the device must not know.
    portreeve_guest::log::warn(&format!("the function failed, nobody is admitted: {error}"));
    Ok(Refusal::not_authorized("the function that verifies devices failed").into())
}

/// A script that cannot be used is found before the first device.
fn begin() -> Result<(), ScriptError> {
    VERIFIER.with_borrow_mut(|kept| kept.with(FunctionVerifier::from_settings, |_| Ok(())))
}

export_verifier!(Plugin);
export_start!(begin);
