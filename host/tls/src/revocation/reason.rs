//! Why a certificate was revoked (RFC 5280 §5.3.1).

use std::fmt;

/// A CRLReason. One that the standard does not know is [`Unspecified`](Self::Unspecified).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum RevocationReason {
    /// No reason is given.
    #[default]
    Unspecified,
    /// The private key is known to somebody else.
    KeyCompromise,
    /// The private key of the authority is known to somebody else.
    CaCompromise,
    /// The subject's name changed.
    AffiliationChanged,
    /// There is a newer certificate.
    Superseded,
    /// It is not needed any more.
    CessationOfOperation,
    /// Revoked for now; may become good again.
    CertificateHold,
    /// A hold that ended.
    RemoveFromCrl,
    /// What it attests is not so any more.
    PrivilegeWithdrawn,
    /// The private key of an attribute authority is known to somebody else.
    AaCompromise,
}

impl RevocationReason {
    /// The reason with this code.
    #[must_use]
    pub const fn from_code(code: u8) -> Self {
        match code {
            1 => Self::KeyCompromise,
            2 => Self::CaCompromise,
            3 => Self::AffiliationChanged,
            4 => Self::Superseded,
            5 => Self::CessationOfOperation,
            6 => Self::CertificateHold,
            8 => Self::RemoveFromCrl,
            9 => Self::PrivilegeWithdrawn,
            10 => Self::AaCompromise,
            _ => Self::Unspecified,
        }
    }

    /// The name of the standard.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::KeyCompromise => "keyCompromise",
            Self::CaCompromise => "cACompromise",
            Self::AffiliationChanged => "affiliationChanged",
            Self::Superseded => "superseded",
            Self::CessationOfOperation => "cessationOfOperation",
            Self::CertificateHold => "certificateHold",
            Self::RemoveFromCrl => "removeFromCRL",
            Self::PrivilegeWithdrawn => "privilegeWithdrawn",
            Self::AaCompromise => "aACompromise",
        }
    }
}

impl fmt::Display for RevocationReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// That, since when and why a certificate is revoked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revoked {
    /// Seconds since the Unix epoch.
    pub since: i64,
    /// Why.
    pub reason: RevocationReason,
}
