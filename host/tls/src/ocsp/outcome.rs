//! What is known of a certificate after its responder was asked. *Unavailable* and *invalid* are
//! kept apart: only the former can be forgiven.

use std::fmt;

use crate::revocation::Revoked;

/// The status of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// The responder says that it is not revoked.
    Good,
    /// It is revoked.
    Revoked(Revoked),
    /// The responder does not know it (RFC 6960 §2.2).
    Unknown,
    /// There was no answer.
    Unavailable(Unavailable),
    /// There was an answer that cannot be believed.
    Invalid(Invalid),
}

macro_rules! kinds {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $label:literal, $text:literal;)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)*
        }

        impl $name {
            /// Each of them, in their order.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Its name in metrics.
            #[must_use]
            pub const fn label(self) -> &'static str {
                match self { $(Self::$variant => $label,)* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self { $(Self::$variant => $text,)* })
            }
        }
    };
}

kinds! {
    /// Why there is no answer.
    Unavailable {
        /// The certificate names no responder, and none is configured.
        NoResponder = "no_responder", "no responder is known";
        /// It names responders, none of which may be asked.
        NotAllowed = "not_allowed", "none of the responders that it names may be asked";
        /// No connection, or it broke.
        Connect = "connect", "the responder cannot be reached";
        /// No whole response in time.
        Timeout = "timeout", "no whole response in time";
        /// A status of HTTP other than 200, redirects among them.
        HttpStatus = "http_status", "the responder answers with an HTTP error";
        /// More bytes than any response has.
        TooLarge = "too_large", "the response is too large";
        /// As many requests as may be are under way.
        Busy = "busy", "too many requests are under way";
        /// It failed so often that it is left alone for a while.
        CircuitOpen = "circuit_open", "the responder failed often and is left alone for a while";
        /// `tryLater` (RFC 6960 §2.3).
        TryLater = "try_later", "the responder says tryLater";
        /// `internalError`.
        InternalError = "internal_error", "the responder says internalError";
        /// `malformedRequest`.
        MalformedRequest = "malformed_request", "the responder says malformedRequest";
        /// `sigRequired`.
        SigRequired = "sig_required", "the responder says sigRequired";
        /// `unauthorized`: often said of certificates of other authorities (RFC 5019 §2.2.3).
        Unauthorized = "unauthorized", "the responder says unauthorized";
        /// Ours: the request could not be made, or its task ended.
        Failed = "failed", "the request could not be made";
    }
}

kinds! {
    /// Why an answer is not believed.
    Invalid {
        /// Not DER of a response.
        Malformed = "malformed", "the response is malformed";
        /// A critical extension that nobody here knows.
        CriticalExtension = "critical_extension", "the response has an unknown critical extension";
        /// Nobody who may sign it is named by it.
        Signer = "signer", "the response is signed by nobody who may";
        /// Its delegate's certificate is not one.
        Delegate = "delegate", "the certificate of the response's delegate is not accepted";
        /// The signature is wrong.
        Signature = "signature", "the response's signature is wrong";
        /// The signature's algorithm is not accepted.
        Algorithm = "algorithm", "the response's signature algorithm is not accepted";
        /// It is about other certificates.
        OtherCertificate = "other_certificate", "the response is about another certificate";
        /// Not the nonce that was sent.
        Nonce = "nonce", "the response has another nonce";
        /// No nonce although it is demanded.
        NonceMissing = "nonce_missing", "the response has no nonce";
        /// From the future.
        NotYet = "not_yet", "the response is from the future";
        /// Too old.
        Stale = "stale", "the response is stale";
    }
}
