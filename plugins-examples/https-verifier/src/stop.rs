//! Why a CONNECT is not let in before, or instead of, a verdict of the service.

use portreeve_guest::{Error, Refusal, RefusalReason};

/// What ends the question. Whatever a device can bring about by itself is a refusal: an error
/// counts against the plugin, and the gateway's breaker opens after some of them.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The device's own doing.
    Refused(Refusal),
    /// The service's or the operator's.
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Credentials that cannot be asked about.
pub(crate) fn bad_credentials(why: impl Into<String>) -> Refusal {
    Refusal::new(RefusalReason::BadUserNameOrPassword, why)
}
