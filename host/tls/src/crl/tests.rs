use std::fs;

use super::*;
use crate::test_pki::{PKI, openssl};
use crate::{Clock, RevocationReason};

fn now() -> i64 {
    Clock::default().now()
}

fn read(bytes: &[u8]) -> Result<Crl, CrlFault> {
    let issuers = ["root", "int", "other", "nocrl"].map(|name| PKI.certificate(name));
    Crl::read(bytes, &issuers, now(), &CrlRules::default())
}

fn der(pem: &[u8]) -> Vec<u8> {
    CertificateRevocationListDer::from_pem_slice(pem).unwrap().to_vec()
}

fn status(set: &CrlSet, name: &str, at: i64) -> CrlStatus {
    set.status(&PKI.certificate("int"), &PKI.certificate(name), at)
}

#[test]
fn a_list_says_who_is_revoked_in_pem_and_in_der() {
    let pem = PKI.list("int", 7, "", "");
    for bytes in [pem.clone(), der(&pem)] {
        let list = Arc::new(read(&bytes).unwrap());
        assert_eq!((list.len(), list.number().as_deref()), (1, Some("07")));
        assert!(list.age(now()) < 60 && list.issuer() == "CN=int");
        let set = CrlSet::new([list]);
        assert_eq!(status(&set, "dev", now()), CrlStatus::Good);
        let CrlStatus::Revoked(revoked) = status(&set, "rev", now()) else { panic!("not revoked") };
        assert_eq!(revoked.reason, RevocationReason::KeyCompromise);
        let later = now() + 40 * 86_400;
        assert!(matches!(status(&set, "dev", later), CrlStatus::Expired { .. }));
        assert!(matches!(status(&set, "rev", later), CrlStatus::Revoked(_)), "revoked wins");
        let other = PKI.certificate("intevil");
        let dev = PKI.certificate("dev");
        assert_eq!(set.status(&other, &dev, now()), CrlStatus::NoList, "another key");
    }
}

#[test]
fn lists_of_look_alikes_and_strangers_are_refused() {
    let fault = |issuer: &str| read(&PKI.list(issuer, 1, "", "")).unwrap_err();
    assert_eq!(fault("intevil"), CrlFault::Signature("CN=int".to_owned()));
    assert!(matches!(fault("oc_good"), CrlFault::UnknownIssuer(_)));
    assert_eq!(fault("nocrl"), CrlFault::MayNotSign("CN=nocrl".to_owned()));
}

#[test]
fn what_is_not_supported_is_refused_with_its_name() {
    let fault = |extensions: &str| read(&PKI.list("int", 1, extensions, "")).unwrap_err();
    let point = |content: &str| format!("issuingDistributionPoint=critical,@p\n[p]\n{content}");
    assert_eq!(fault("2.5.29.27=critical,ASN1:INTEGER:1"), CrlFault::Delta);
    assert_eq!(fault(&point("indirectCRL=TRUE")), CrlFault::Indirect);
    assert_eq!(fault(&point("onlyAA=TRUE")), CrlFault::AttributeCertificates);
    assert_eq!(fault(&point("onlysomereasons=keyCompromise")), CrlFault::SomeReasons);
    assert_eq!(
        fault("1.2.3.4=critical,ASN1:NULL"),
        CrlFault::CriticalExtension("1.2.3.4".to_owned())
    );
    assert!(read(&PKI.list("int", 1, "1.2.3.4=ASN1:NULL", "")).is_ok());
    let list = PKI.list("int", 1, "", "");
    assert_eq!(read(&[list.clone(), list].concat()), Err(CrlFault::NotOne(2)));
    assert_eq!(read(b"garbage"), Err(CrlFault::NotOne(0)));
}

#[test]
fn a_list_is_about_what_its_distribution_point_says() {
    let set = |content: &str| {
        let extensions = format!("issuingDistributionPoint=critical,@p\n[p]\n{content}");
        CrlSet::new([Arc::new(read(&PKI.list("int", 1, &extensions, "")).unwrap())])
    };
    assert_eq!(status(&set("onlyuser=TRUE"), "dev", now()), CrlStatus::Good);
    assert_eq!(status(&set("onlyCA=TRUE"), "dev", now()), CrlStatus::NoList);
    let point = |url: &str| set(&format!("fullname=URI:{url}"));
    assert_eq!(status(&point("http://crl.test/int.crl"), "dev", now()), CrlStatus::Good);
    let other = point("http://crl.test/other.crl");
    assert_eq!(status(&other, "dev", now()), CrlStatus::NoList);
    assert!(matches!(status(&other, "rev", now()), CrlStatus::Revoked(_)));
}

#[test]
fn an_older_list_never_replaces_a_newer_one() {
    let lists: Vec<_> =
        [9, 7, 8].map(|number| Arc::new(read(&PKI.list("int", number, "", "")).unwrap())).into();
    for order in [[0, 1, 2], [1, 2, 0], [2, 0, 1]] {
        let set = CrlSet::new(order.map(|index| Arc::clone(&lists[index])));
        let used: Vec<_> = set.iter().filter_map(|list| list.number()).collect();
        assert_eq!(used, ["09"]);
    }
}

#[test]
fn a_list_has_its_time_and_its_size() {
    let list = PKI.list("int", 1, "", "");
    let issuers = [PKI.certificate("int")];
    let earlier = Crl::read(&list, &issuers, now() - 3600, &CrlRules::default());
    assert!(matches!(earlier, Err(CrlFault::NotYet(_))));
    let rules = CrlRules { bytes_max: 100, ..CrlRules::default() };
    let large = Crl::read(&list, &issuers, now(), &rules);
    assert!(matches!(large, Err(CrlFault::TooLarge { .. })));
}

#[test]
fn no_bit_of_a_good_list_can_be_flipped_and_nothing_can_be_cut_or_added() {
    let good = der(&PKI.list("int", 1, "", ""));
    let issuers = [PKI.certificate("int")];
    let read = |bytes: &[u8]| Crl::read(bytes, &issuers, now(), &CrlRules::default());
    assert!(read(&good).is_ok());
    let mut flipped = good.clone();
    for bit in 0..good.len() * 8 {
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(read(&flipped).is_err(), "bit {bit}");
        flipped[bit / 8] = good[bit / 8];
    }
    for length in 0..good.len() {
        assert!(read(&good[..length]).is_err(), "{length} bytes");
    }
    let mut longer = good;
    longer.push(0);
    assert!(read(&longer).is_err());
}

#[test]
fn a_list_without_extensions_may_be_of_the_first_version() {
    let directory = PKI.directory();
    let path = directory.path();
    let configuration =
        "[ca]\ndefault_ca=c\n[c]\ndatabase=index\ndefault_md=sha256\ndefault_crl_days=30\n";
    fs::write(path.join("ca.cnf"), configuration).unwrap();
    fs::write(path.join("index"), "R\t401231235959Z\t260101000000Z\t1001\tunknown\t/CN=dev\n")
        .unwrap();
    openssl(path, "ca -config ca.cnf -gencrl -cert int.crt -keyfile int.key -out list.pem");
    let list = read(&fs::read(path.join("list.pem")).unwrap()).unwrap();
    assert_eq!((list.len(), list.number()), (1, None));
}

#[test]
fn the_seeds_of_the_fuzz_targets_are_good() {
    let seed =
        |name: &str| fs::read(format!("{}/fuzz/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    let certificate = |name: &str| Arc::new(Certificate::parse(seed(name).into()).unwrap());
    let issuer = certificate("issuer.der");
    let dev = certificate("seeds/certificate/dev.der");
    let made_at: i64 = include!("../../fuzz/now");
    for name in ["list.der", "list.pem"] {
        let issuers = [Arc::clone(&issuer)];
        let bytes = seed(&format!("seeds/crl/{name}"));
        let list = Crl::read(&bytes, &issuers, made_at, &CrlRules::default()).unwrap();
        let set = CrlSet::new([Arc::new(list)]);
        assert_eq!(set.status(&issuer, &dev, made_at), CrlStatus::Good);
    }
    let question = crate::ocsp::Question { issuer: &issuer, serial: &dev.serial, nonce: None };
    let response = seed("seeds/ocsp_response/good");
    let checked = crate::ocsp::check(&response, &question, made_at, &crate::ocsp::Rules::default());
    assert_eq!(checked.unwrap().status, crate::ocsp::CheckedStatus::Good);
}
