use super::*;
use crate::Clock;
use crate::asn1::field;
use crate::test_pki::PKI;

const SEQUENCE: u8 = 0x30;
const ECDSA_SHA256: &[u8] = &[SEQUENCE, 10, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];
const SHA_1_RSA: &[u8] = &[SEQUENCE, 13, 6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 5, 5, 0];
const ECDSA_SHA1: &[u8] = &[SEQUENCE, 9, 6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 1];

fn now() -> i64 {
    Clock::default().now()
}

/// Checks a response about a certificate of `int`.
fn check_with(
    bytes: &[u8],
    name: &str,
    now: i64,
    rules: &Rules,
) -> Result<CheckedResponse, ResponseFault> {
    let issuer = PKI.certificate("int");
    let certificate = PKI.certificate(name);
    let question = Question { issuer: &issuer, serial: &certificate.serial, nonce: None };
    check(bytes, &question, now, rules)
}

fn check_now(bytes: &[u8], name: &str) -> Result<CheckedResponse, ResponseFault> {
    check_with(bytes, name, now(), &Rules::default())
}

fn time(seconds: i64) -> Vec<u8> {
    let time = time::OffsetDateTime::from_unix_timestamp(seconds).unwrap();
    let (date, clock) = (time.date(), time.time());
    let text = format!(
        "{:04}{:02}{:02}{:02}{:02}{:02}Z",
        date.year(),
        u8::from(date.month()),
        date.day(),
        clock.hour(),
        clock.minute(),
        clock.second()
    );
    field(0x18, &[text.as_bytes()])
}

const GOOD: &[u8] = &[0x80, 0];
const UNKNOWN: &[u8] = &[0x82, 0];

fn revoked() -> Vec<u8> {
    field(0xa1, &[&time(1_700_000_000), &field(0xa0, &[&[10, 1, 1]])])
}

/// A response that OpenSSL would not make.
struct Made {
    version: Vec<u8>,
    singles: Vec<Vec<u8>>,
    extensions: Vec<u8>,
    produced_at: i64,
    signer: &'static str,
    algorithm: &'static [u8],
    digest: &'static str,
}

/// The CertID and the rest of a SingleResponse about `dev`.
fn single(hash: usize, status: &[u8], this_update: i64, rest: &[u8]) -> Vec<u8> {
    let issuer = PKI.certificate("int");
    let digest = |bytes: &[u8]| -> Vec<u8> {
        use sha2::Digest;
        match hash {
            1 => <sha1::Sha1 as sha1::Digest>::digest(bytes).to_vec(),
            256 => sha2::Sha256::digest(bytes).to_vec(),
            384 => sha2::Sha384::digest(bytes).to_vec(),
            _ => sha2::Sha512::digest(bytes).to_vec(),
        }
    };
    let id: &[u8] = match hash {
        1 => &[6, 5, 0x2b, 0x0e, 3, 2, 0x1a],
        256 => &[6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1],
        384 => &[6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 2],
        _ => &[6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 3],
    };
    let id = field(
        SEQUENCE,
        &[
            &field(SEQUENCE, &[id]),
            &field(4, &[&digest(&issuer.subject_der)]),
            &field(4, &[&digest(&issuer.public_key)]),
            &field(2, &[&PKI.certificate("dev").serial]),
        ],
    );
    field(SEQUENCE, &[&id, status, &time(this_update), rest])
}

impl Made {
    fn of(singles: Vec<Vec<u8>>) -> Self {
        Self {
            version: Vec::new(),
            singles,
            extensions: Vec::new(),
            produced_at: now(),
            signer: "int",
            algorithm: ECDSA_SHA256,
            digest: "sha256",
        }
    }

    fn encode(&self) -> Vec<u8> {
        let signer = PKI.certificate(self.signer);
        let singles: Vec<&[u8]> = self.singles.iter().map(Vec::as_slice).collect();
        let extensions = if self.extensions.is_empty() {
            Vec::new()
        } else {
            field(0xa1, &[&field(SEQUENCE, &[&self.extensions])])
        };
        let tbs = field(
            SEQUENCE,
            &[
                &self.version,
                &field(0xa1, &[&signer.subject_der]),
                &time(self.produced_at),
                &field(SEQUENCE, &singles),
                &extensions,
            ],
        );
        let signature = PKI.sign(self.signer, self.digest, &tbs);
        let certificates = field(0xa0, &[&field(SEQUENCE, &[signer.der()])]);
        let basic =
            field(SEQUENCE, &[&tbs, self.algorithm, &field(3, &[&[0], &signature]), &certificates]);
        outer(&basic)
    }

    fn check(&self) -> Result<CheckedStatus, ResponseFault> {
        check_now(&self.encode(), "dev").map(|checked| checked.status)
    }
}

fn outer(basic: &[u8]) -> Vec<u8> {
    let id = [6, 9, 0x2b, 6, 1, 5, 5, 7, 0x30, 1, 1];
    let bytes = field(SEQUENCE, &[&id, &field(4, &[basic])]);
    field(SEQUENCE, &[&[10, 1, 0], &field(0xa0, &[&bytes])])
}

fn extension(critical: bool) -> Vec<u8> {
    let critical: &[u8] = if critical { &[1, 1, 0xff] } else { &[] };
    field(SEQUENCE, &[&[6, 3, 0x2a, 3, 4], critical, &[4, 2, 5, 0]])
}

#[test]
fn a_delegate_of_each_kind_of_key_may_sign_and_so_may_the_issuer() {
    for signer in ["oc_good", "oc_521", "oc_ed", "oc_rsa", "int"] {
        for options in ["-nmin 60", "-nmin 60 -resp_key_id"] {
            let good = PKI.respond("dev", signer, options);
            let checked = check_now(&good, "dev").unwrap_or_else(|e| panic!("{signer}: {e}"));
            assert_eq!(checked.status, CheckedStatus::Good);
            assert_eq!(checked.next_update, Some(checked.this_update + 3600));
        }
    }
    let revoked = check_now(&PKI.respond("rev", "oc_good", "-nmin 60"), "rev").unwrap();
    let CheckedStatus::Revoked(revoked) = revoked.status else { panic!("{revoked:?}") };
    assert_eq!(revoked.reason, crate::RevocationReason::KeyCompromise);
    assert_eq!(revoked.since, 1_767_225_600);
    let unknown = check_now(&PKI.respond("oc_good", "oc_good", "-nmin 60"), "oc_good").unwrap();
    assert_eq!(unknown.status, CheckedStatus::Unknown);
}

#[test]
fn nobody_else_may_sign() {
    let fault = |signer: &str, options: &str| {
        check_now(&PKI.respond("dev", signer, &format!("-nmin 60 {options}")), "dev").unwrap_err()
    };
    assert!(matches!(fault("oc_noeku", ""), ResponseFault::Delegate(_)));
    assert!(matches!(fault("dev", ""), ResponseFault::Delegate(_)));
    assert!(matches!(fault("oc_other", ""), ResponseFault::Delegate(_)));
    assert!(matches!(fault("root", ""), ResponseFault::Delegate(_)));
    assert_eq!(fault("oc_rsa1024", ""), ResponseFault::Signature, "a small key verifies nothing");
    assert_eq!(fault("oc_good", "-resp_no_certs"), ResponseFault::NoSigner);
    assert_eq!(fault("intevil", "-resp_no_certs"), ResponseFault::Signature);
    assert!(matches!(fault("intevil", ""), ResponseFault::Delegate(_)));
    assert_eq!(fault("intevil", "-resp_key_id -resp_no_certs"), ResponseFault::NoSigner);
}

#[test]
fn a_delegate_without_nocheck_is_a_matter_of_policy_and_an_expired_one_is_not() {
    let response = PKI.respond("dev", "oc_check", "-nmin 60");
    assert!(check_now(&response, "dev").is_ok());
    let rules = Rules { accept_delegate_without_nocheck: false, ..Rules::default() };
    assert_eq!(
        check_with(&response, "dev", now(), &rules),
        Err(ResponseFault::DelegateWithoutNocheck)
    );
    let response = PKI.respond("dev", "oc_good", "-nmin 60");
    assert!(check_with(&response, "dev", now(), &rules).is_ok());
    let later = now() + 31 * 86_400;
    assert!(matches!(check_with(&response, "dev", later, &rules), Err(ResponseFault::Delegate(_))));
}

#[test]
fn an_answer_about_another_certificate_says_nothing() {
    let response = PKI.respond("dev", "oc_good", "-nmin 60");
    assert_eq!(check_now(&response, "rev"), Err(ResponseFault::OtherCertificate));
    // The same name and serial number, another key.
    let (issuer, certificate) = (PKI.certificate("intevil"), PKI.certificate("dev"));
    let question = Question { issuer: &issuer, serial: &certificate.serial, nonce: None };
    assert!(check(&response, &question, now(), &Rules::default()).is_err());
}

#[test]
fn each_hash_of_the_certificate_id_is_computed_anew() {
    for hash in [1, 256, 384, 512] {
        assert_eq!(Made::of(vec![single(hash, GOOD, now(), &[])]).check(), Ok(CheckedStatus::Good));
    }
}

#[test]
fn of_two_answers_the_worst_one_counts() {
    let statuses = |one: &[u8], two: &[u8]| {
        Made::of(vec![single(1, one, now(), &[]), single(256, two, now() - 60, &[])]).check()
    };
    assert!(matches!(statuses(GOOD, &revoked()), Ok(CheckedStatus::Revoked(_))));
    assert!(matches!(statuses(&revoked(), UNKNOWN), Ok(CheckedStatus::Revoked(_))));
    assert_eq!(statuses(UNKNOWN, GOOD), Ok(CheckedStatus::Unknown));
    assert_eq!(statuses(GOOD, GOOD), Ok(CheckedStatus::Good));
}

#[test]
fn unknown_critical_extensions_are_refused_and_a_version_may_be_written_out() {
    let mut made = Made::of(vec![single(1, GOOD, now(), &[])]);
    made.version = vec![0xa0, 3, 2, 1, 0];
    assert_eq!(made.check(), Ok(CheckedStatus::Good));
    made.version = vec![0xa0, 3, 2, 1, 1];
    assert!(matches!(made.check(), Err(ResponseFault::Malformed(_))));
    made.version = Vec::new();
    made.extensions = extension(false);
    assert_eq!(made.check(), Ok(CheckedStatus::Good));
    made.extensions = extension(true);
    assert_eq!(made.check(), Err(ResponseFault::CriticalExtension("1.2.3.4".to_owned())));
    made.extensions = [extension(false), extension(false)].concat();
    assert!(matches!(made.check(), Err(ResponseFault::Malformed(_))));

    let critical = field(0xa1, &[&field(SEQUENCE, &[&extension(true)])]);
    let single = Made::of(vec![single(1, GOOD, now(), &critical)]).check();
    assert_eq!(single, Err(ResponseFault::CriticalExtension("1.2.3.4".to_owned())));
}

#[test]
fn sha_1_is_no_signature() {
    let mut made = Made::of(vec![single(1, GOOD, now(), &[])]);
    (made.digest, made.algorithm) = ("sha1", ECDSA_SHA1);
    assert_eq!(made.check(), Err(ResponseFault::Algorithm));
    (made.signer, made.algorithm) = ("oc_rsa", SHA_1_RSA);
    assert_eq!(made.check(), Err(ResponseFault::Algorithm));
}

#[test]
fn a_response_has_its_time() {
    let now = now();
    let next = |next_update| field(0xa0, &[&time(next_update)]);
    let at = |this_update, rest: &[u8]| Made::of(vec![single(1, GOOD, this_update, rest)]).check();
    assert_eq!(at(now + 120, &[]), Ok(CheckedStatus::Good), "within the skew");
    assert!(matches!(at(now + 3600, &[]), Err(ResponseFault::NotYet(_))));
    assert!(matches!(at(now - 7200, &next(now - 3600)), Err(ResponseFault::Stale(_))));
    assert_eq!(at(now - 7200, &next(now - 60)), Ok(CheckedStatus::Good), "within the skew");
    assert!(matches!(at(now - 3 * 86_400, &[]), Err(ResponseFault::Stale(_))));
    assert_eq!(at(now - 60, &next(now - 61)), Err(ResponseFault::TimeOrder));
    let mut made = Made::of(vec![single(1, GOOD, now, &[])]);
    made.produced_at = now + 3600;
    assert!(matches!(made.check(), Err(ResponseFault::NotYet(_))));
    let made = Made::of(vec![single(1, GOOD, now - 60, &[])]).encode();
    let checked = check_now(&made, "dev").unwrap();
    assert_eq!(checked.usable_until, now - 60 + 3600);
}

#[test]
fn a_nonce_that_comes_back_is_the_one_that_was_sent() {
    let (issuer, certificate) = (PKI.certificate("int"), PKI.certificate("dev"));
    let request = crate::ocsp::Request::new(
        &issuer,
        &certificate,
        crate::ocsp::CertificateIdHash::Sha1,
        true,
    )
    .unwrap();
    let response = PKI.respond_to(request.der(), "oc_good", "-nmin 60");
    let without = PKI.respond("dev", "oc_good", "-nmin 60");
    let optional = Rules::default();
    let required = Rules { is_nonce_required: true, ..Rules::default() };
    let with = |response: &[u8], nonce: Option<&[u8]>, rules: &Rules| {
        let question = Question { issuer: &issuer, serial: &certificate.serial, nonce };
        check(response, &question, now(), rules).map(|checked| checked.status)
    };
    assert_eq!(with(&response, request.nonce(), &required), Ok(CheckedStatus::Good));
    assert_eq!(with(&response, None, &optional), Ok(CheckedStatus::Good));
    assert_eq!(with(&response, Some(&[7; 32]), &optional), Err(ResponseFault::Nonce));
    assert_eq!(with(&without, request.nonce(), &optional), Ok(CheckedStatus::Good));
    assert_eq!(with(&without, request.nonce(), &required), Err(ResponseFault::NonceMissing));
}

#[test]
fn a_responder_that_has_no_answer_is_unavailable() {
    let statuses = [
        (1, Unavailable::MalformedRequest),
        (2, Unavailable::InternalError),
        (3, Unavailable::TryLater),
        (5, Unavailable::SigRequired),
        (6, Unavailable::Unauthorized),
    ];
    for (code, status) in statuses {
        let fault = check_now(&[SEQUENCE, 3, 10, 1, code], "dev").unwrap_err();
        assert_eq!(fault.kind(), FaultKind::Unavailable(status));
    }
    for odd in [&[SEQUENCE, 3, 10, 1, 4][..], &[SEQUENCE, 3, 10, 1, 0], b"", b"<html></html>"] {
        let fault = check_now(odd, "dev").unwrap_err();
        assert_eq!(fault.kind(), FaultKind::Invalid(Invalid::Malformed), "{odd:?}");
    }
}

#[test]
fn no_bit_of_a_good_response_can_be_flipped_and_nothing_can_be_cut_or_added() {
    for (signer, options) in [
        ("oc_good", "-nmin 60"),
        ("oc_ed", "-nmin 60 -resp_key_id"),
        ("int", "-nmin 60 -resp_no_certs"),
    ] {
        let good = PKI.respond("dev", signer, options);
        let (issuer, certificate) = (PKI.certificate("int"), PKI.certificate("dev"));
        let question = Question { issuer: &issuer, serial: &certificate.serial, nonce: None };
        let check = |bytes: &[u8]| check(bytes, &question, now(), &Rules::default());
        assert!(check(&good).is_ok());
        let mut flipped = good.clone();
        for bit in 0..good.len() * 8 {
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(check(&flipped).is_err(), "{signer}: bit {bit}");
            flipped[bit / 8] = good[bit / 8];
        }
        for length in 0..good.len() {
            assert!(check(&good[..length]).is_err(), "{signer}: {length} bytes");
        }
        let mut longer = good.clone();
        longer.push(0);
        assert!(check(&longer).is_err());
    }
}

#[test]
fn lengths_of_ber_are_refused() {
    let mut made = Made::of(vec![single(1, GOOD, now(), &[])]).encode();
    assert_eq!(made[..2], [SEQUENCE, 0x82]);
    // A longer length of the same value.
    made.splice(1..2, [0x83, 0]);
    assert!(matches!(check_now(&made, "dev"), Err(ResponseFault::Malformed(_))));
}
