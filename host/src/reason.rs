//! Why a connection does not come about or ends, and the one place that maps it to the wire.

use std::time::Duration;

use portreeve_mqtt::{DecodeError, PacketType, ProtocolVersion, ReasonCode};
use portreeve_plugin::contract::RefusalReason;

/// A CONNECT that is turned away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) reason_code: ReasonCode,
    /// For the log and, on MQTT 5, the peer.
    pub(crate) message: String,
    pub(crate) server_reference: Option<String>,
    /// When to try again, as far as it is known.
    pub(crate) retry_after: Option<Duration>,
    /// The peer said goodbye itself and gets no answer.
    pub(crate) is_silent: bool,
}

impl Refusal {
    pub(crate) fn silent(message: impl Into<String>) -> Self {
        Self { is_silent: true, ..Self::new(ReasonCode::UnspecifiedError, message) }
    }

    pub(crate) fn new(reason_code: ReasonCode, message: impl Into<String>) -> Self {
        Self {
            reason_code,
            message: message.into(),
            server_reference: None,
            retry_after: None,
            is_silent: false,
        }
    }

    /// With the time after which the peer may try again.
    pub(crate) fn retry_after(self, wait: Duration) -> Self {
        Self { retry_after: Some(wait), ..self }
    }

    /// The code for CONNACK. MQTT 3.1.1 has one for malformed credentials and one for credentials
    /// that are not accepted; wrong ones are the latter there.
    pub(crate) const fn connack_code(&self, version: ProtocolVersion) -> ReasonCode {
        match (version, self.reason_code) {
            (ProtocolVersion::V5, code) => code,
            (_, ReasonCode::BadUserNameOrPassword) => ReasonCode::NotAuthorized,
            (_, code) => code,
        }
    }
}

impl Refusal {
    /// The code for DISCONNECT, of a client that was let in before.
    pub(crate) fn disconnect_code(&self) -> ReasonCode {
        let code = self.reason_code;
        if code.allowed_in(PacketType::Disconnect) { code } else { ReasonCode::NotAuthorized }
    }
}

/// The reason code for what a verifier says.
pub(crate) const fn of_refusal(reason: RefusalReason) -> ReasonCode {
    match reason {
        RefusalReason::BadUserNameOrPassword => ReasonCode::BadUserNameOrPassword,
        RefusalReason::NotAuthorized => ReasonCode::NotAuthorized,
        RefusalReason::Banned => ReasonCode::Banned,
        RefusalReason::ServerBusy => ReasonCode::ServerBusy,
        RefusalReason::QuotaExceeded => ReasonCode::QuotaExceeded,
        RefusalReason::UseAnotherServer => ReasonCode::UseAnotherServer,
    }
}

/// Why an established connection ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Close {
    /// The peer said DISCONNECT without asking for its will.
    Normal,
    /// The peer said DISCONNECT 0x04.
    WithWill,
    /// The network connection is gone.
    Lost,
    /// The gateway ends it; on MQTT 5 it says why.
    ByServer {
        /// What DISCONNECT says.
        reason_code: ReasonCode,
        /// What the log says.
        message: String,
    },
}

impl Close {
    pub(crate) fn new(reason_code: ReasonCode, message: impl Into<String>) -> Self {
        Self::ByServer { reason_code, message: message.into() }
    }

    /// A refusal of a client that was let in before.
    pub(crate) fn from_refusal(refusal: &Refusal) -> Self {
        Self::new(refusal.disconnect_code(), refusal.message.clone())
    }

    /// A packet that the protocol does not allow here.
    pub(crate) fn protocol(message: &'static str, statement: &'static str) -> Self {
        Self::new(ReasonCode::ProtocolError, format!("{message} ({statement})"))
    }

    /// Whether the will may wait for the gateway's next start: it ends itself, so that its clients
    /// are not gone for good (MQTT 3.1.1 §3.1.2.5).
    pub(crate) const fn defers_will(&self) -> bool {
        matches!(self, Self::ByServer { reason_code: ReasonCode::ServerShuttingDown, .. })
    }
}

impl From<DecodeError> for Close {
    fn from(error: DecodeError) -> Self {
        Self::new(error.reason_code(), error.to_string())
    }
}
