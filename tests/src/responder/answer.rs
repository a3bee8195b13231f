//! OCSP answers, good ones and every kind of bad one, written byte by byte (RFC 6960 §4.2.1).

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock};

use crate::der::{
    BIT_STRING, ENUMERATED, INTEGER, OCTET_STRING, Value, bit_string, constructed, extension, now,
    oid, sequence, time, tlv,
};
use crate::pki::{Certificate, digest, named, sign};

const HOUR: i64 = 3600;
const NONCE: &str = "1.3.6.1.5.5.7.48.1.2";
const SHA256: &str = "2.16.840.1.101.3.4.2.1";
const SHA512: &str = "2.16.840.1.101.3.4.2.3";

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Its first `CertID`, as DER.
    pub cert_id: Vec<u8>,
    /// The serial number in it: hex, upper case, whole bytes.
    pub serial: String,
    /// The hash in it: `sha1` or `sha256`.
    pub hash: &'static str,
    /// The content of its nonce's OCTET STRING.
    pub nonce: Option<Vec<u8>>,
}

impl Question {
    /// Reads a request (RFC 6960 §4.1.1).
    #[must_use]
    pub fn read(request: &[u8]) -> Option<Self> {
        let (request, rest) = Value::first(request)?;
        let tbs = request.at(&[0]).filter(|_| rest.is_empty())?;
        let list = tbs.parts().into_iter().find(|part| part.tag == 0x30)?;
        let cert_id = list.at(&[0, 0])?;
        let serial = hex::encode_upper(cert_id.at(&[3])?.content);
        let hash = if cert_id.at(&[0, 0])?.whole == oid(SHA256) { "sha256" } else { "sha1" };
        let extensions = tbs.parts().into_iter().find(|part| part.tag == 0xa2);
        let nonce = extensions.and_then(|extensions| {
            let all = extensions.at(&[0])?.parts();
            let nonce = all
                .into_iter()
                .find(|one| one.at(&[0]).is_some_and(|id| id.whole == oid(NONCE)))?;
            let value = nonce.parts().last()?.content;
            Some(Value::first(value)?.0.content.to_vec())
        });
        Some(Self { cert_id: cert_id.whole.to_vec(), serial, hash, nonce })
    }
}

/// SHA-1 of a signer's public key, which names the responder. Kept: an answer is asked for often.
fn key_hash(signer: &'static str) -> Vec<u8> {
    static HASHES: OnceLock<Mutex<HashMap<&'static str, Vec<u8>>>> = OnceLock::new();
    let mut hashes = HASHES.get_or_init(Mutex::default).lock().expect("nobody panicked");
    hashes.entry(signer).or_insert_with(|| digest("sha1", &named(signer).public_key())).clone()
}

/// What an answer says of one certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Not revoked.
    Good,
    /// Revoked for this reason (RFC 5280 §5.3.1).
    Revoked(u8),
    /// Not known.
    Unknown,
}

impl Status {
    fn bytes(self) -> Vec<u8> {
        match self {
            Self::Good => tlv(0x80, []),
            Self::Revoked(reason) => constructed(
                0xa1,
                &[time(now() - HOUR), constructed(0xa0, &[tlv(ENUMERATED, [reason])])],
            ),
            Self::Unknown => tlv(0x82, []),
        }
    }
}

/// An answer in the making. Times are seconds from now.
#[derive(Debug, Clone)]
pub struct Answer {
    status: Status,
    cert_id: Vec<u8>,
    this_update: i64,
    next_update: Option<i64>,
    nonce: Option<Vec<u8>>,
    /// What stands before the single response that is asked for.
    first: Vec<u8>,
    version: Vec<u8>,
    more_extensions: Vec<u8>,
    signer: &'static str,
    hash: &'static str,
    certificates: Vec<&'static str>,
}

fn single(cert_id: &[u8], status: Status, this_update: i64, next_update: Option<i64>) -> Vec<u8> {
    let next = next_update.map(|next| constructed(0xa0, &[time(now() + next)]));
    sequence(&[
        cert_id.to_vec(),
        status.bytes(),
        time(now() + this_update),
        next.unwrap_or_default(),
    ])
}

fn with_parts(cert_id: &[u8], change: impl FnOnce(&mut Vec<Vec<u8>>)) -> Vec<u8> {
    let (value, _) = Value::first(cert_id).expect("it was read before");
    let mut parts = value.parts().iter().map(|part| part.whole.to_vec()).collect();
    change(&mut parts);
    sequence(&parts)
}

/// The same certificate of `int` by another hash.
fn cert_id_by(cert_id: &[u8], hash: &str, id: &str) -> Vec<u8> {
    let issuer = named("int");
    with_parts(cert_id, |parts| {
        parts[0] = sequence(&[oid(id), vec![5, 0]]);
        parts[1] = tlv(OCTET_STRING, digest(hash, &issuer.subject()));
        parts[2] = tlv(OCTET_STRING, digest(hash, &issuer.public_key()));
    })
}

fn other_serial(cert_id: &[u8]) -> Vec<u8> {
    with_parts(cert_id, |parts| parts[3] = tlv(INTEGER, [0x12, 0x34, 0x56]))
}

/// A response with nothing but this status (RFC 6960 §4.2.1).
fn only(status: u8) -> Vec<u8> {
    sequence(&[tlv(ENUMERATED, [status])])
}

impl Answer {
    /// Good, now, for an hour, by a delegate, with the nonce that was asked with.
    fn good(question: &Question) -> Self {
        Self {
            status: Status::Good,
            cert_id: question.cert_id.clone(),
            this_update: -60,
            next_update: Some(HOUR),
            nonce: question.nonce.clone(),
            first: Vec::new(),
            version: Vec::new(),
            more_extensions: Vec::new(),
            signer: "oc_good",
            hash: "sha256",
            certificates: vec!["oc_good"],
        }
    }

    fn signed_by(mut self, signer: &'static str) -> Self {
        (self.signer, self.certificates) = (signer, vec![signer]);
        self
    }

    fn status(mut self, status: Status) -> Self {
        self.status = status;
        self
    }

    fn at(mut self, this_update: i64, next_update: Option<i64>) -> Self {
        (self.this_update, self.next_update) = (this_update, next_update);
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let signer: &Certificate = named(self.signer);
        let responder = constructed(0xa2, &[tlv(OCTET_STRING, key_hash(self.signer))]);
        let nonce =
            self.nonce.as_ref().map(|nonce| extension(NONCE, false, &tlv(OCTET_STRING, nonce)));
        let extensions = [nonce.unwrap_or_default(), self.more_extensions.clone()].concat();
        let extensions = if extensions.is_empty() {
            Vec::new()
        } else {
            constructed(0xa1, &[sequence(&[extensions])])
        };
        let asked = single(&self.cert_id, self.status, self.this_update, self.next_update);
        let tbs = sequence(&[
            self.version.clone(),
            responder,
            time(now() + self.this_update),
            sequence(&[self.first.clone(), asked]),
            extensions,
        ]);
        let (signature, algorithm) = sign(signer, self.hash, &tbs);
        let certificates: Vec<Vec<u8>> =
            self.certificates.iter().map(|name| named(name).der()).collect();
        let certificates = if certificates.is_empty() {
            Vec::new()
        } else {
            constructed(0xa0, &[sequence(&certificates)])
        };
        wrapped(&sequence(&[tbs, algorithm, bit_string(&signature), certificates]))
    }
}

/// A basic response as a successful response.
fn wrapped(basic: &[u8]) -> Vec<u8> {
    sequence(&[
        tlv(ENUMERATED, [0]),
        constructed(0xa0, &[sequence(&[oid("1.3.6.1.5.5.7.48.1.1"), tlv(OCTET_STRING, basic)])]),
    ])
}

/// The same response, its signed part with a length in more bytes than needed: BER, not DER.
fn with_long_length(response: &[u8]) -> Vec<u8> {
    let (whole, _) = Value::first(response).expect("it was made here");
    let octets = whole.at(&[1, 0, 1]).expect("a basic response");
    let (basic, _) = Value::first(octets.content).expect("a basic response");
    let length = u16::try_from(basic.content.len()).expect("it is short").to_be_bytes();
    wrapped(&[&[0x30, 0x83, 0], &length[..], basic.content].concat())
}

/// One bit of the signature turned.
fn flipped(mut response: Vec<u8>) -> Vec<u8> {
    let (whole, _) = Value::first(&response).expect("it was made here");
    let octets = whole.at(&[1, 0, 1]).expect("a basic response");
    let (basic, _) = Value::first(octets.content).expect("a basic response");
    let signature = basic.at(&[2]).filter(|part| part.tag == BIT_STRING).expect("a signature");
    let place = signature.content.as_ptr().addr() - response.as_ptr().addr() + 20;
    response[place] ^= 1;
    response
}

/// The answer of a behaviour that is no whole signed response.
fn broken(behaviour: &str, question: &Question) -> Option<Vec<u8>> {
    let good = || Answer::good(question);
    Some(match behaviour {
        "ber" => with_long_length(&good().bytes()),
        "flip" => flipped(good().bytes()),
        "trunc" => {
            let bytes = good().bytes();
            bytes[..bytes.len() / 2].to_vec()
        }
        "trail" => [good().bytes(), b"more".to_vec()].concat(),
        "empty" => Vec::new(),
        "html" => b"<html><body>It works!</body></html>".to_vec(),
        "malformedrequest" => only(1),
        "internal" => only(2),
        "trylater" => only(3),
        "sigrequired" => only(5),
        "unauthorized" => only(6),
        _ => return None,
    })
}

/// The answer of a behaviour that differs in its bytes only; `None` where the name says something else.
#[must_use]
pub fn answer(behaviour: &str, question: &Question) -> Option<Vec<u8>> {
    if let Some(bytes) = broken(behaviour, question) {
        return Some(bytes);
    }
    let good = || Answer::good(question);
    let revoked = || good().status(Status::Revoked(1));
    let made = match behaviour {
        "good" => good(),
        "revoked" => revoked(),
        "hold" => good().status(Status::Revoked(6)).at(-60, Some(2)),
        "unknown" => good().status(Status::Unknown),
        "other" => Answer { cert_id: other_serial(&question.cert_id), ..good() },
        "otherissuer" => Answer {
            cert_id: with_parts(&question.cert_id, |parts| {
                parts[1] = tlv(OCTET_STRING, digest(question.hash, &named("sibling").subject()));
                parts[2] = tlv(OCTET_STRING, digest(question.hash, &named("sibling").public_key()));
            }),
            ..good()
        },
        "stale" => good().at(-2 * HOUR, Some(-HOUR)),
        "short" => good().at(-60, Some(2)),
        "brief" => good().at(0, Some(10)),
        "future" => good().at(HOUR, Some(2 * HOUR)),
        "future2" => good().at(120, Some(HOUR)),
        "past2" => good().at(-HOUR, Some(-120)),
        "nonext" => good().at(-5, None),
        "nonextold" => good().at(-72 * HOUR, None),
        "evilsigned" => good().signed_by("oc_evil"),
        "revevil" => revoked().signed_by("oc_evil"),
        "leafsigned" => good().signed_by("dev_ec"),
        "noeku" => good().signed_by("oc_noeku"),
        "otherca" => good().signed_by("oc_otherca"),
        "expired" => good().signed_by("oc_exp"),
        "nonocheck" => good().signed_by("oc_nonocheck"),
        "nocerts" => Answer { certificates: Vec::new(), ..good() },
        "issuersigned" => Answer { signer: "int", certificates: Vec::new(), ..good() },
        "rsa" => good().signed_by("oc_rsa"),
        "ed25519" => good().signed_by("oc_ed"),
        "p384" => Answer { hash: "sha384", ..good().signed_by("oc_384") },
        "p521" => Answer { hash: "sha512", ..good().signed_by("oc_521") },
        "sha1signature" => Answer { hash: "sha1", ..good().signed_by("oc_rsa") },
        "sha1ecdsa" => Answer { hash: "sha1", ..good() },
        "rsa1024" => good().signed_by("oc_rsa1024"),
        "badnonce" => Answer { nonce: Some(vec![0x5a; 32]), ..good() },
        "nononce" => Answer { nonce: None, ..good() },
        "sha256id" => Answer { cert_id: cert_id_by(&question.cert_id, "sha256", SHA256), ..good() },
        "sha512id" => Answer { cert_id: cert_id_by(&question.cert_id, "sha512", SHA512), ..good() },
        // The pair of a rollback: revoked now, and good as of a while before.
        "newrevoked" => revoked().at(-30, Some(2)),
        "oldgood" => good().at(-HOUR, Some(HOUR)),
        "critical" => {
            Answer { more_extensions: extension("1.3.6.1.4.1.55555.1", true, &[5, 0]), ..good() }
        }
        "twosingles" => Answer {
            first: single(&other_serial(&question.cert_id), Status::Good, -60, Some(HOUR)),
            ..revoked()
        },
        "twogood" => Answer {
            first: single(&other_serial(&question.cert_id), Status::Revoked(1), -60, Some(HOUR)),
            ..good()
        },
        "version" => Answer { version: constructed(0xa0, &[tlv(INTEGER, [0])]), ..good() },
        _ => return None,
    };
    Some(made.bytes())
}
