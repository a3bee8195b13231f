//! TLS of the gateway: its own certificates and their staples, handshakes, the certificates of
//! devices and their revocation, and a certification authority for development.
//!
//! Nothing here knows MQTT or the configuration file. Signatures are verified by the provider of
//! rustls (aws-lc-rs) alone; there is no cryptography of our own.

pub mod certificate;
pub mod crl;
pub mod generation;
pub mod identity;
pub mod material;
pub mod ocsp;
pub mod peer;
pub mod pki;
pub mod resolver;
pub mod revocation;
pub mod stapling;
pub mod stream;

mod asn1;
mod clock;
mod signature;
#[cfg(test)]
mod test_pki;
#[cfg(test)]
mod test_responder;

pub use certificate::{Certificate, CertificateError};
pub use clock::{Clock, now};
pub use revocation::{RevocationReason, Revoked};
