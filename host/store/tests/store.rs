//! The store as the gateway uses it: what was stored is there after opening again, what is damaged
//! is refused.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::type_complexity,
    clippy::allow_attributes,
    missing_docs,
    reason = "tests stop at the first surprise"
)]

use std::fs;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use portreeve_store::{
    Body, BodyId, CertificateRecord, Changes, Contents, DeviceRecord, Durability, EntryRecord,
    MessageRecord, OpenError, SessionId, SessionRecord, Store, Stored, StoredSession,
    SubscriptionRecord, Tally, salvage,
};

fn id(number: u64) -> SessionId {
    SessionId(NonZeroU64::new(number).unwrap())
}

fn session(client_id: &str) -> SessionRecord {
    SessionRecord {
        product: "default".to_owned(),
        client_id: client_id.to_owned(),
        device_name: "device-1".to_owned(),
        gateway: "main".to_owned(),
        expiry_seconds: 60,
        detached_at_ms: None,
        last_sent: 0,
        will: None,
    }
}

fn message(payload: &[u8]) -> Vec<u8> {
    let properties = &[];
    let record =
        MessageRecord { topic: "a/b", payload, qos: 1, properties, expires_at_ms: Some(7) };
    record.to_bytes()
}

fn entry(body: Body<'_>) -> EntryRecord<'_> {
    EntryRecord::Message { qos: 1, retain: false, identifiers: vec![5], share: None, body }
}

fn open(path: &Path) -> (Store, Contents) {
    Store::open(path, Durability::Process).unwrap()
}

fn store_and_wait(store: &Store, changes: Changes) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(store.submit(changes).unwrap().stored()).unwrap();
}

#[derive(Default, Debug)]
struct Seen {
    devices: Vec<(DeviceRecord, Option<u64>)>,
    sessions: Vec<StoredSession>,
    retained: Vec<Vec<u8>>,
}

fn seen(contents: &Contents) -> (Seen, Tally, Changes) {
    let mut seen = Seen::default();
    let visited = contents.visit(
        |stored| {
            match stored {
                Stored::Device(device, at) => seen.devices.push((device, at)),
                Stored::Session(session) => seen.sessions.push(session),
                Stored::Retained(Body::Inline(bytes)) => seen.retained.push(bytes.to_vec()),
                Stored::Retained(Body::Shared(id)) => {
                    seen.retained.push(contents.body(BodyId(id))?);
                }
            }
            Ok(())
        },
        |_| {},
    );
    let (tally, orphans) = visited.unwrap();
    (seen, tally, orphans)
}

fn device(name: &str) -> DeviceRecord {
    DeviceRecord {
        product: "default".to_owned(),
        name: name.to_owned(),
        attributes: vec![("site".to_owned(), "7".to_owned())],
        enabled: true,
        is_imported: true,
        serial_number: Some(format!("SN_{name}")),
        user_name: Some(name.to_owned()),
        password_hash: Some("$argon2id$".to_owned()),
        certificate: Some(CertificateRecord::Fingerprint([7; 32])),
        permissions: Some(vec![(3, "a/#".to_owned())]),
        created_at: 1_600_000_000,
    }
}

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    (folder, path)
}

#[test]
fn everything_that_was_stored_is_there_after_opening_again() {
    let (_folder, path) = folder();
    let (store, contents) = open(&path);
    drop(contents);
    let body = store.next_body();
    let mut changes = Changes::default();
    changes.put_session(id(1), &session("one"));
    let filter = "a/+".to_owned();
    changes.put_subscription(id(1), &SubscriptionRecord { filter, options: 1, identifier: None });
    changes.put_body(body, message(b"shared"));
    changes.enqueue(id(1), 1, &entry(Body::Inline(&message(b"first"))));
    changes.enqueue(id(1), 2, &entry(Body::Shared(body.0)));
    changes.received(id(1), 77);
    changes.retain("a/b", Body::Shared(body.0));
    changes.retain("a/gone", Body::Inline(&message(b"gone")));
    for name in ["device-1", "device-2", "device-3"] {
        changes.put_device(&device(name));
    }
    store_and_wait(&store, changes);
    let mut changes = Changes::default();
    changes.device_seen("default", "device-0", 1);
    changes.device_seen("default", "device-2", 1_700_000_000);
    changes.device_seen("default", "device-3", 2);
    changes.unretain("a/gone");
    store_and_wait(&store, changes);
    let mut changes = Changes::default();
    changes.remove_device("default", "device-3");
    changes.entry_released(id(1), 1);
    store_and_wait(&store, changes);
    store.close();

    let (store, contents) = open(&path);
    let (seen, tally, orphans) = seen(&contents);
    // That a device was seen which is none.
    assert_eq!((tally.orphans, orphans.is_empty()), (1, false));
    assert_eq!(tally.records_of_one_session(), (1, 1, 2, 1));
    let stored = &seen.sessions[0];
    assert_eq!((stored.id, &stored.session), (id(1), &session("one")));
    assert_eq!(stored.received, [77]);
    assert_eq!(stored.subscriptions[0].filter, "a/+");
    let numbers: Vec<u64> = stored.entries.iter().map(|(number, _)| *number).collect();
    assert_eq!(numbers, [1, 2]);
    assert_eq!(seen.retained, [message(b"shared")]);
    let devices = vec![(device("device-1"), None), (device("device-2"), Some(1_700_000_000))];
    assert_eq!(seen.devices, devices);
    assert!(store.next_body().0 > body.0);
}

trait OfOneSession {
    fn records_of_one_session(&self) -> (u64, u64, u64, u64);
}

impl OfOneSession for Tally {
    fn records_of_one_session(&self) -> (u64, u64, u64, u64) {
        (self.sessions, self.subscriptions, self.entries, self.received)
    }
}

#[test]
fn what_belongs_to_nothing_is_named_and_can_be_taken_away() {
    let (_folder, path) = folder();
    let (store, contents) = open(&path);
    drop(contents);
    let mut changes = Changes::default();
    changes.put_session(id(5), &session("five"));
    for number in [4, 5, 6] {
        changes.enqueue(id(number), 1, &entry(Body::Inline(&message(b"m"))));
        changes.received(id(number), 3);
    }
    changes.put_body(store.next_body(), message(b"nobody's"));
    store_and_wait(&store, changes);
    store.close();
    let (store, contents) = open(&path);
    let (seen_first, tally, orphans) = seen(&contents);
    drop(contents);
    assert_eq!((tally.orphans, seen_first.sessions[0].entries.len()), (5, 1));
    store.note(orphans);
    store.close();
    assert_eq!(seen(&open(&path).1).1.orphans, 0);
}

#[test]
fn a_store_that_is_in_use_or_foreign_or_newer_is_refused() {
    let (folder, path) = folder();
    let (store, contents) = open(&path);
    assert!(matches!(Store::open(&path, Durability::Process), Err(OpenError::InUse(_))));
    drop(contents);
    store.close();
    let foreign = folder.path().join("foreign");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("thesis.txt"), "years of work").unwrap();
    let error = Store::open(&foreign, Durability::Process).unwrap_err();
    assert!(matches!(error, OpenError::Foreign { .. }), "{error}");
    assert_eq!(fs::read_dir(&foreign).unwrap().count(), 1);

    let database = fjall::Database::builder(&path).open().unwrap();
    let meta = database.keyspace("meta", fjall::KeyspaceCreateOptions::default).unwrap();
    meta.insert("format", 3_u32.to_be_bytes()).unwrap();
    drop((meta, database));
    let error = Store::open(&path, Durability::Process).unwrap_err();
    assert!(matches!(error, OpenError::Newer { found: 3, known: 2, .. }), "{error}");
}

#[test]
fn the_devices_of_a_store_of_format_1_are_there_in_format_2() {
    #[derive(serde::Serialize)]
    struct OldDevice {
        product: &'static str,
        name: &'static str,
        attributes: Vec<(&'static str, &'static str)>,
        enabled: bool,
    }
    let (_folder, path) = folder();
    let (store, contents) = open(&path);
    drop(contents);
    store.close();
    let database = fjall::Database::builder(&path).open().unwrap();
    let keyspace = |name| database.keyspace(name, fjall::KeyspaceCreateOptions::default).unwrap();
    for name in ["registry", "seen"] {
        database.delete_keyspace(keyspace(name)).unwrap();
    }
    let attributes = vec![("site", "7")];
    let old = OldDevice { product: "default", name: "device-1", attributes, enabled: false };
    keyspace("devices").insert(b"default\0device-1", postcard::to_stdvec(&old).unwrap()).unwrap();
    keyspace("meta").insert("format", 1_u32.to_be_bytes()).unwrap();
    drop(database);
    for _ in 0..2 {
        let (store, contents) = open(&path);
        let (seen, tally, _) = seen(&contents);
        assert_eq!(tally.devices, 1);
        let (device, at) = &seen.devices[0];
        assert_eq!((device.name.as_str(), device.enabled, *at), ("device-1", false, None));
        assert_eq!((device.is_imported, device.attributes[0].1.as_str()), (false, "7"));
        drop(contents);
        store.close();
    }
}

/// A store with 20 commits, closed.
fn twenty_commits(path: &Path) {
    let (store, contents) = open(path);
    drop(contents);
    for number in 1..=20 {
        let mut changes = Changes::default();
        changes.put_session(id(number), &session(&format!("client-{number}")));
        store_and_wait(&store, changes);
    }
    store.close();
}

#[test]
fn a_missing_or_damaged_file_is_refused_and_nothing_is_emptied() {
    let (folder, path) = folder();
    twenty_commits(&path);
    let whole = folder.path().join("whole");
    copy(&path, &whole);
    let journal = path.join("0.jnl");
    let bytes = fs::read(&journal).unwrap();
    let used = bytes.iter().rposition(|&byte| byte != 0).unwrap();
    let damages: [(&str, Box<dyn Fn()>); 5] = [
        ("the version", Box::new(|| fs::remove_file(path.join("version")).unwrap())),
        ("the journal", Box::new(|| fs::remove_file(&journal).unwrap())),
        ("a part", Box::new(|| fs::remove_file(path.join("keyspaces/2/current")).unwrap())),
        ("all parts", Box::new(|| fs::remove_dir_all(path.join("keyspaces")).unwrap())),
        (
            "a byte in the middle",
            Box::new(|| {
                let mut bytes = bytes.clone();
                bytes[used / 2] ^= 0x40;
                fs::write(&journal, bytes).unwrap();
            }),
        ),
    ];
    for (what, damage) in damages {
        fs::remove_dir_all(&path).unwrap();
        copy(&whole, &path);
        damage();
        let before = sizes(&path);
        let error = Store::open(&path, Durability::Process).unwrap_err();
        assert!(matches!(error, OpenError::Damaged { .. }), "{what}: {error}");
        assert!(error.to_string().contains("portreeve store salvage"), "{error}");
        assert_eq!(sizes(&path), before, "{what} missing: nothing may change");
    }
}

#[test]
fn what_is_in_front_of_the_damage_can_be_saved() {
    let (folder, path) = folder();
    twenty_commits(&path);
    let journal = path.join("0.jnl");
    let mut bytes = fs::read(&journal).unwrap();
    let used = bytes.iter().rposition(|&byte| byte != 0).unwrap();
    bytes[used / 2] ^= 0x40;
    fs::write(&journal, bytes).unwrap();
    let saved = salvage(&path, &folder.path().join("saved")).unwrap();
    assert!((5..20).contains(&saved.tally.sessions) && saved.lost_bytes > 0, "{saved:?}");
    assert!(Store::open(&path, Durability::Process).is_err(), "the original is as it was");
    let (_store, contents) = open(&folder.path().join("saved"));
    assert_eq!(seen(&contents).1.sessions, saved.tally.sessions);
    assert!(salvage(&path, &folder.path().join("saved")).is_err(), "nothing is overwritten");
}

#[test]
fn a_commit_that_was_being_written_is_dropped_and_the_others_are_there() {
    let (_folder, path) = folder();
    twenty_commits(&path);
    let journal = path.join("0.jnl");
    let bytes = fs::read(&journal).unwrap();
    let used = bytes.iter().rposition(|&byte| byte != 0).unwrap();
    fs::write(&journal, &bytes[..used - 20]).unwrap();
    let (store, contents) = open(&path);
    assert_eq!(seen(&contents).1.sessions, 19);
    drop(contents);
    let mut changes = Changes::default();
    changes.put_session(id(99), &session("after"));
    store_and_wait(&store, changes);
    store.close();
    assert_eq!(seen(&open(&path).1).1.sessions, 20);
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to.join(entry.file_name()));
        } else {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

fn sizes(path: &Path) -> Vec<(PathBuf, u64)> {
    let mut sizes = Vec::new();
    for entry in fs::read_dir(path).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            sizes.extend(self::sizes(&entry.path()));
        } else {
            sizes.push((entry.path(), entry.metadata().unwrap().len()));
        }
    }
    sizes.sort();
    sizes
}
