//! Disks that are full, read-only or slow: publishers are refused in clear words, the process lives,
//! and nothing that was acknowledged is lost.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::allow_attributes,
    reason = "tests stop at the first surprise"
)]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use portreeve_mqtt::{AcknowledgementKind, Connect, PropertiesBuf, Property};
use portreeve_tests::binary::{Process, binary, free_address};
use portreeve_tests::client::{Client, connect};
use portreeve_tests::{V5, V311};
use tempfile::TempDir;

/// A file system of some megabytes in memory, in a mount namespace of its own.
struct SmallDisk {
    holder: Child,
    folder: TempDir,
}

impl SmallDisk {
    fn of_megabytes(megabytes: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let script = format!(
            "mount -t tmpfs -o size={megabytes}m tmpfs {0} && echo mounted && exec sleep 600",
            folder.path().display()
        );
        // Who is not root is root in a user namespace of its own.
        let mut holder = Command::new("unshare")
            .args(["--map-root-user", "--mount", "sh", "-c", &script])
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare is in util-linux");
        let mut line = String::new();
        let stdout = std::io::BufReader::new(holder.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut { stdout }, &mut line).unwrap();
        assert_eq!(line, "mounted\n");
        Self { holder, folder }
    }

    /// A command that sees the disk.
    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args(["--preserve-credentials", "--user", "--mount", "--target"])
            .arg(self.holder.id().to_string())
            .arg(program);
        command
    }

    /// A path on the disk as it is seen from outside.
    fn path(&self, name: &str) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.holder.id()));
        root.join(self.folder.path().strip_prefix("/").unwrap()).join(name)
    }

    fn fill(&self) {
        let mut ballast = std::fs::File::create(self.path("ballast")).unwrap();
        let chunk = vec![1; 1 << 16];
        while std::io::Write::write_all(&mut ballast, &chunk).is_ok() {}
        while std::io::Write::write_all(&mut ballast, &[1]).is_ok() {}
    }

    fn empty(&self) {
        std::fs::remove_file(self.path("ballast")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _gone = self.holder.kill();
        let _status = self.holder.wait();
    }
}

fn start_on(disk: &SmallDisk, address: SocketAddr, durability: &str) -> Process {
    let mut command = disk.command(&binary());
    command
        .args(["run", "--listen", &address.to_string(), "--verification", "open"])
        .args(["--durability", durability, "--data"])
        .arg(disk.folder.path().join("data"));
    Process::start_by(&mut command).unwrap_or_else(|said| panic!("the gateway ended: {said}"))
}

fn persistent(address: SocketAddr, client_id: &str) -> (Client, bool) {
    let mut client = Client::dial(address);
    let expiry: PropertiesBuf = [Property::SessionExpiryInterval(3600)].into_iter().collect();
    let present = client.connect_with(&Connect {
        clean_start: false,
        properties: expiry.as_properties(),
        ..connect(V5, client_id)
    });
    (client, present)
}

/// A message that needs blocks of its own on the disk.
fn message(number: u32) -> Vec<u8> {
    let mut payload = format!("{number:06}").into_bytes();
    payload.resize(40_000, b'.');
    payload
}

#[test]
fn a_full_disk_refuses_new_messages_and_loses_none_that_it_took() {
    for durability in ["process", "power"] {
        let (disk, address) = (SmallDisk::of_megabytes(24), free_address());
        let mut gateway = start_on(&disk, address, durability);
        let (mut subscriber, _) = persistent(address, "subscriber");
        subscriber.subscribe("t", 1);
        subscriber.disconnect();
        let mut publisher = Client::dial(address);
        publisher.connect(V5, "publisher");
        let mut taken = Vec::new();
        for number in 0..20 {
            assert_eq!(publisher.publish_at_least_once("t", message(number)), 0);
            taken.push(number);
        }
        disk.fill();
        let mut refused = 0;
        for number in 100..120 {
            match publisher.publish_at_least_once("t", message(number)) {
                0 => taken.push(number),
                0x97 => refused += 1,
                other => panic!("answered {other:#04x}"),
            }
        }
        assert!(refused > 10, "{refused} of 20 refused");
        // MQTT 3.1.1 has no word for it: no acknowledgement, and the connection ends.
        let mut old = Client::dial(address);
        old.connect(V311, "old");
        old.publish_with("t", &message(200), 1, false, Some(9), &PropertiesBuf::new());
        assert_eq!(old.expect_close(), "");
        // A session that would have to be stored is refused, others are let in.
        let mut lasting = Client::dial(address);
        let expiry: PropertiesBuf = [Property::SessionExpiryInterval(60)].into_iter().collect();
        let properties = expiry.as_properties();
        let code = lasting.connect_code(&Connect { properties, ..connect(V5, "lasting") });
        assert_eq!(code, 0x88);
        // What promises nothing is answered.
        publisher.publish_with("$SYS/x", b"x", 2, false, Some(11), &PropertiesBuf::new());
        assert_eq!(publisher.next_hex(), "5003000b87");
        // What need not be stored goes on.
        let mut other = Client::dial(address);
        other.connect(V5, "other");
        other.subscribe("live", 0);
        publisher.publish("live", "still here");
        assert_eq!(other.next_publish().text(), "still here");
        assert!(gateway.is_alive());

        disk.empty();
        let deadline = Instant::now() + Duration::from_secs(20);
        while publisher.publish_at_least_once("t", message(300)) != 0 {
            assert!(Instant::now() < deadline, "space is back, and nothing is taken");
            sleep(Duration::from_millis(100));
        }
        taken.push(300);
        assert_eq!(publisher.publish_at_least_once("t", message(301)), 0);
        taken.push(301);
        gateway.kill();
        let _gateway = start_on(&disk, address, durability);
        let (mut subscriber, present) = persistent(address, "subscriber");
        assert!(present);
        let mut got = Vec::new();
        for _ in 0..taken.len() {
            let message = subscriber.next_publish();
            got.push(String::from_utf8_lossy(&message.payload[..6]).parse::<u32>().unwrap());
            subscriber.acknowledge(AcknowledgementKind::Puback, message.packet_id.unwrap());
        }
        assert_eq!(got, taken, "{durability}");
        subscriber.expect_silence();
    }
}

#[test]
fn acknowledgements_that_came_while_the_disk_was_full_are_stored_later() {
    let (disk, address) = (SmallDisk::of_megabytes(24), free_address());
    let gateway = start_on(&disk, address, "process");
    let (mut subscriber, _) = persistent(address, "subscriber");
    subscriber.subscribe("t", 1);
    let mut publisher = Client::dial(address);
    publisher.connect(V5, "publisher");
    for number in 0..5 {
        publisher.publish_at_least_once("t", message(number));
    }
    let ids: Vec<u16> = (0..5).map(|_| subscriber.next_publish().packet_id.unwrap()).collect();
    disk.fill();
    while publisher.publish_at_least_once("t", message(9)) == 0 {}
    for id in &ids {
        subscriber.acknowledge(AcknowledgementKind::Puback, *id);
    }
    disk.empty();
    gateway.wait_for_log("the store writes again");
    sleep(Duration::from_millis(200));
    gateway.kill();
    let _gateway = start_on(&disk, address, "process");
    let (mut subscriber, _) = persistent(address, "subscriber");
    let again = subscriber.next_within(Duration::from_millis(300), |packet| format!("{packet:?}"));
    let first_five = |text: &String| (0..5).any(|number| text.contains(&format!("{number:06}")));
    assert!(!again.as_ref().is_some_and(first_five), "{again:?}");
}

#[test]
fn a_directory_that_cannot_be_written_is_refused_at_the_start() {
    let disk = SmallDisk::of_megabytes(4);
    let remounted = disk
        .command(Path::new("mount"))
        .args(["-o", "remount,ro"])
        .arg(disk.folder.path())
        .status()
        .unwrap();
    assert!(remounted.success());
    let mut command = disk.command(&binary());
    command
        .args(["run", "--listen", "127.0.0.1:0", "--verification", "open", "--data"])
        .arg(disk.folder.path().join("data"));
    let said = Process::start_by(&mut command).err().expect("it must not start");
    assert!(said.contains("data") && said.contains("Read-only file system"), "{said}");
}

/// A library that makes every fsync take as long as the file `slow` beside it says.
fn slow_disk_library(folder: &Path) -> PathBuf {
    let source = folder.join("slow.c");
    std::fs::write(
        &source,
        r#"
        #define _GNU_SOURCE
        #include <dlfcn.h>
        #include <stdio.h>
        #include <stdlib.h>
        #include <unistd.h>
        static void wait_a_while(void) {
            FILE *file = fopen(getenv("SLOW_DISK"), "r");
            int milliseconds = 0;
            if (!file) return;
            if (fscanf(file, "%d", &milliseconds) == 1) usleep(milliseconds * 1000);
            fclose(file);
        }
        int fsync(int fd) {
            wait_a_while();
            return ((int (*)(int))dlsym(RTLD_NEXT, "fsync"))(fd);
        }
        int fdatasync(int fd) {
            wait_a_while();
            return ((int (*)(int))dlsym(RTLD_NEXT, "fdatasync"))(fd);
        }
        "#,
    )
    .unwrap();
    let library = folder.join("slow.so");
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-o"])
        .arg(&library)
        .arg(&source)
        .arg("-ldl")
        .status()
        .expect("a C compiler");
    assert!(built.success());
    library
}

#[test]
fn a_slow_disk_delays_acknowledgements_and_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let (library, slow) = (slow_disk_library(folder.path()), folder.path().join("slow"));
    let address = free_address();
    let mut command = Command::new(binary());
    command
        .args(["run", "--listen", &address.to_string(), "--verification", "open"])
        .args(["--durability", "power", "--data"])
        .arg(folder.path().join("data"))
        .env("LD_PRELOAD", &library)
        .env("SLOW_DISK", &slow);
    let _gateway = Process::start_by(&mut command).unwrap();
    let (mut subscriber, _) = persistent(address, "subscriber");
    subscriber.subscribe("t", 1);
    subscriber.disconnect();
    let mut publisher = Client::dial(address);
    publisher.connect(V5, "publisher");
    let mut other = Client::dial(address);
    other.connect(V5, "other");
    other.subscribe("live", 1);
    std::fs::write(&slow, "1000").unwrap();
    let begin = Instant::now();
    publisher.publish_with("t", b"x", 1, false, Some(7), &PropertiesBuf::new());
    let mut slowest = Duration::ZERO;
    for _ in 0..20 {
        let begin = Instant::now();
        other.publish_with("live", b"x", 1, false, Some(8), &PropertiesBuf::new());
        let _puback_and_message = (other.next_bytes(), other.next_bytes());
        slowest = slowest.max(begin.elapsed());
    }
    assert!(slowest < Duration::from_millis(500), "{slowest:?}");
    assert_eq!(publisher.next_hex(), "40020007");
    assert!(begin.elapsed() >= Duration::from_millis(900), "{:?}", begin.elapsed());
}
