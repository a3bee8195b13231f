use std::sync::Arc;

use super::{Admitting, Change, Changed, Filter, NotAdmitted, NotChanged, Registry, Said, What};
use crate::devices::password::{HashCost, PasswordHash};
use crate::devices::{
    CertificateMatch, Certified, ConfiguredDevice, Device, DeviceName, DeviceSpec, Origin,
};

const CHEAP: HashCost = HashCost { memory_kib: 64, passes: 1 };

fn name(text: &str) -> DeviceName {
    DeviceName::parse(text).unwrap()
}

fn admitting(text: &str, attributes: &[(&str, &str)]) -> Admitting {
    let attribute = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Admitting {
        name: name(text),
        attributes: attributes.iter().map(attribute).collect(),
        permissions: None,
        may_be_taken: false,
        enables: false,
    }
}

fn said(json: &str) -> Said {
    let spec: DeviceSpec = serde_json::from_str(json).unwrap();
    let spec = spec.check().unwrap();
    let hashed = |password: &Option<_>| {
        password
            .as_ref()
            .map(|password: &crate::devices::NewPassword| password.hashed(None, CHEAP).unwrap())
    };
    let password: Option<Option<PasswordHash>> = spec.password.as_ref().map(hashed);
    Said { spec, password }
}

fn change(registry: &Registry, device: &str, what: What) -> Result<Changed, NotChanged> {
    let change = Change { product: "p".to_owned(), name: name(device), what };
    registry.change(vec![change], false).unwrap().results.remove(0)
}

fn add(registry: &Registry, json: &str) -> Result<Changed, NotChanged> {
    let said = said(json);
    let device = said.spec.device_name().unwrap();
    change(registry, device.as_str(), What::Add(said))
}

#[test]
fn an_admitted_device_is_created_once_and_keeps_its_latest_attributes() {
    let registry = Registry::new(1, None);
    let first = registry.admit("p", admitting("dev-1", &[])).unwrap();
    assert_eq!((first.is_new, first.entry.device.origin), (true, Origin::AutoCreated));
    let again = registry.admit("p", admitting("dev-1", &[("site", "7")])).unwrap();
    assert!(!again.is_new && Arc::ptr_eq(&again.entry.standing, &first.entry.standing));
    assert_eq!((again.entry.device.attributes.len(), registry.count()), (1, 1));
    let same = registry.admit("p", admitting("dev-1", &[("site", "7")])).unwrap();
    assert!(Arc::ptr_eq(&same.entry, &again.entry), "nothing changed");
    assert!(matches!(registry.admit("p", admitting("dev-2", &[])), Err(NotAdmitted::Full(1))));
}

#[test]
fn a_verifier_takes_no_imported_name_and_enables_nobody_unless_it_may() {
    let registry = Registry::new(9, None);
    add(&registry, r#"{"name":"dev-1","user_name":"u","password":"x"}"#).unwrap();
    let taken = registry.admit("p", admitting("dev-1", &[]));
    assert!(matches!(taken, Err(NotAdmitted::Taken(_))), "{taken:?}");
    let admitted = registry.admit("p", Admitting { may_be_taken: true, ..admitting("dev-1", &[]) });
    assert_eq!(admitted.unwrap().entry.device.origin, Origin::Imported);
    registry.admit("p", admitting("dev-2", &[])).unwrap();
    change(&registry, "dev-2", What::Change(said(r#"{"enabled":false}"#))).unwrap();
    let disabled = registry.admit("p", admitting("dev-2", &[]));
    assert!(matches!(disabled, Err(NotAdmitted::Disabled(_))), "{disabled:?}");
    let enabled = registry.admit("p", Admitting { enables: true, ..admitting("dev-2", &[]) });
    assert!(enabled.unwrap().entry.device.enabled);
}

#[test]
fn a_device_is_found_by_user_name_in_its_product_and_by_its_certificate() {
    let registry = Registry::new(9, None);
    add(&registry, r#"{"name":"dev-1","user_name":"user-1","password":"x"}"#).unwrap();
    add(&registry, r#"{"name":"dev-2","certificate_common_name":"two"}"#).unwrap();
    let both = format!(
        r#"{{"name":"dev-3","user_name":"user-3","password":"x","certificate_fingerprint":"{}"}}"#,
        "07".repeat(32)
    );
    add(&registry, &both).unwrap();
    let who = |product: &str, user_name: &str, shown: Option<(u8, Option<&str>)>| {
        let shown =
            shown.map(|(byte, common_name)| Certified { fingerprint: [byte; 32], common_name });
        let candidate = registry.candidate(product, user_name, shown)?;
        Some((candidate.entry.device.name.as_str().to_owned(), candidate.is_certified))
    };
    let is = |name: &str, is_certified| Some((name.to_owned(), is_certified));
    assert_eq!(who("p", "user-1", None), is("dev-1", false));
    assert_eq!(who("q", "user-1", None), None);
    assert_eq!(who("p", "", Some((1, Some("two")))), is("dev-2", true));
    assert_eq!(who("p", "user-1", Some((1, Some("two")))), is("dev-2", true));
    assert_eq!(who("p", "user-3", None), None, "it has to have its certificate");
    assert_eq!(who("p", "user-3", Some((8, Some("three")))), None);
    assert_eq!(who("p", "other", Some((7, None))), is("dev-3", true));
}

#[test]
fn what_tells_a_device_is_that_of_no_other() {
    let registry = Registry::new(9, None);
    add(&registry, r#"{"name":"dev-1","user_name":"u","serial_number":"SN1","password":"x"}"#)
        .unwrap();
    for json in [
        r#"{"name":"dev-2","user_name":"u","password":"x"}"#,
        r#"{"name":"dev-2","serial_number":"SN1"}"#,
    ] {
        let refused = add(&registry, json);
        assert!(matches!(refused, Err(NotChanged::Taken { .. })), "{refused:?}");
    }
    assert!(matches!(add(&registry, r#"{"name":"dev-1"}"#), Err(NotChanged::Exists(_))));
    let nameless = add(&registry, r#"{"name":"dev-4","password":"x"}"#);
    assert!(matches!(nameless, Err(NotChanged::Invalid(_))), "{nameless:?}");
    // What another one gave up is free.
    change(&registry, "dev-1", What::Change(said(r#"{"serial_number":""}"#))).unwrap();
    assert_eq!(add(&registry, r#"{"name":"dev-2","serial_number":"SN1"}"#), Ok(Changed::Created));
    assert_eq!(registry.count(), 2);
}

#[test]
fn a_change_of_credentials_ends_the_standing_and_one_of_attributes_does_not() {
    let registry = Registry::new(9, None);
    add(&registry, r#"{"name":"dev-1","user_name":"u","password":"x"}"#).unwrap();
    let standing = || Arc::clone(&registry.find("p", "dev-1").unwrap().standing);
    let first = standing();
    first.prove(registry.key().proof(b"x"));
    let attributes = r#"{"attributes":{"site":"7"},"serial_number":"SN1"}"#;
    assert_eq!(change(&registry, "dev-1", What::Change(said(attributes))), Ok(Changed::Updated));
    assert!(Arc::ptr_eq(&standing(), &first) && !first.is_over());
    assert_eq!(change(&registry, "dev-1", What::Change(said(attributes))), Ok(Changed::Unchanged));
    for json in [r#"{"password":"y"}"#, r#"{"enabled":false}"#, r#"{"permissions":[]}"#] {
        let before = standing();
        change(&registry, "dev-1", What::Change(said(json))).unwrap();
        assert!(before.is_over() && !standing().is_over(), "{json}");
        assert!(standing().proof().is_none(), "the old password is not known again");
    }
    let before = standing();
    assert_eq!(change(&registry, "dev-1", What::Delete), Ok(Changed::Deleted));
    assert!(before.is_over() && registry.find("p", "dev-1").is_none() && registry.count() == 0);
    let gone = change(&registry, "dev-1", What::Delete);
    assert!(matches!(gone, Err(NotChanged::Unknown(..))));
}

#[test]
fn a_dry_run_says_what_would_be_and_changes_nothing() {
    let registry = Registry::new(2, None);
    let import = |dry_run| {
        let change = |json: &str| {
            let said = said(json);
            let name = said.spec.device_name().unwrap();
            Change { product: "p".to_owned(), name, what: What::Import(said) }
        };
        let changes = vec![
            change(
                r#"{"name":"dev-1","user_name":"u","password_hash":"$7$1$c2FsdHNhbHRzYWx0$uKOnGlB96NW52C525k4dCZN7vZVCcO7a61UrWqLkF9wMgDc9tLLxyyNWxle3U/+dMuXRs/YCLVQ35bovhn5Lfw=="}"#,
            ),
            change(r#"{"name":"dev-2","user_name":"u"}"#),
            change(r#"{"name":"dev-3","user_name":"v"}"#),
            change(r#"{"name":"dev-4","user_name":"w"}"#),
        ];
        registry.change(changes, dry_run).unwrap().results
    };
    let would = import(true);
    assert_eq!(registry.count(), 0);
    assert_eq!(would, import(false));
    assert_eq!((would[0].clone(), would[2].clone()), (Ok(Changed::Created), Ok(Changed::Created)));
    assert!(matches!(would[1], Err(NotChanged::Taken { .. })));
    assert!(matches!(would[3], Err(NotChanged::Full(2))));
    let again = import(false);
    assert_eq!(
        (again[0].clone(), again[2].clone()),
        (Ok(Changed::Unchanged), Ok(Changed::Unchanged))
    );
}

#[test]
fn pages_come_in_order_and_whole() {
    let registry = Registry::new(1_000, None);
    for product in ["p", "q"] {
        for number in 0..25 {
            registry.admit(product, admitting(&format!("dev-{number:02}"), &[])).unwrap();
        }
    }
    add(&registry, r#"{"name":"meter-1","user_name":"u","password":"x"}"#).unwrap();
    let mut filter = Filter::default();
    let mut names = Vec::new();
    loop {
        let page = registry.page(&filter, 10);
        let key = |entry: &Arc<crate::devices::Entry>| {
            (entry.device.product.to_string(), entry.device.name.to_string())
        };
        names.extend(page.entries.iter().map(key));
        filter.after = page.next;
        if filter.after.is_none() {
            break;
        }
    }
    assert_eq!(names.len(), 51);
    assert!(names.is_sorted());
    let count = |filter: Filter| registry.page(&filter, 1_000).entries.len();
    let of = |text: &str| Some(text.to_owned());
    assert_eq!(count(Filter { prefix: of("dev-1"), ..Filter::default() }), 20);
    assert_eq!(count(Filter { prefix: of("dev-1"), product: of("q"), ..Filter::default() }), 10);
    assert_eq!(count(Filter { user_name: of("u"), ..Filter::default() }), 1);
    assert_eq!(count(Filter { origin: Some(Origin::Imported), ..Filter::default() }), 1);
    assert_eq!(count(Filter { enabled: Some(false), ..Filter::default() }), 0);
    let after = Some(("p".to_owned(), "a".to_owned()));
    assert_eq!(count(Filter { prefix: of("meter"), after, ..Filter::default() }), 1);
}

#[test]
fn devices_of_the_configuration_change_with_it_alone() {
    let registry = Registry::new(9, None);
    let device =
        Device { origin: Origin::Configured, ..Device::unregistered(name("dev-1"), "p".into()) };
    let configured = ConfiguredDevice {
        device,
        serial_number: None,
        user_name: "u".to_owned(),
        password: b"secret".to_vec(),
        certificate: Some(CertificateMatch::CommonName("one".to_owned())),
    };
    registry.configure(&configured).unwrap();
    let entry = registry.find("p", "dev-1").unwrap();
    assert!(entry.needs_password() && entry.credentials.password.is_none());
    let proof = entry.standing.proof().unwrap();
    assert!(registry.key().is_of(&proof, b"secret") && !registry.key().is_of(&proof, b"Secret"));
    for what in [What::Delete, What::Change(said(r#"{"enabled":false}"#))] {
        assert!(matches!(change(&registry, "dev-1", what), Err(NotChanged::Configured(_))));
    }
}
