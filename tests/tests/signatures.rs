//! Where the configuration names keys, nothing runs that they did not sign. Keys and signatures are
//! those of minisign.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::allow_attributes,
    reason = "tests stop at the first surprise"
)]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use portreeve_tests::binary::{Process, binary, free_address};
use portreeve_tests::plugins::{manifest, put, variant};
use portreeve_tests::{Client, V5};
use tempfile::TempDir;

struct Setup {
    folder: TempDir,
    address: SocketAddr,
}

impl Setup {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("plugins")).unwrap();
        Self { folder, address: free_address() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What `portreeve plugin …` says, and whether it was content.
    fn command(&self, arguments: &[&str]) -> (bool, String) {
        let mut command = Command::new(binary());
        let output = command.current_dir(&self.folder).arg("plugin").args(arguments).output();
        let output = output.unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(said).unwrap())
    }

    fn said(&self, arguments: &[&str]) -> String {
        let (is_content, said) = self.command(arguments);
        assert!(is_content, "{said}");
        said
    }

    /// A pair of keys NAME.key and NAME.pub.
    fn keygen(&self, name: &str) {
        self.said(&["keygen", "--secret-key", &format!("{name}.key")]);
    }

    /// Puts a version of the plugin in place, signed with this key.
    fn put_signed(&self, number: u32, key: &str) {
        self.sign(number, key);
        let signature = std::fs::read(self.path("versioned.wasm.minisig")).unwrap();
        put(&self.path("plugins"), "versioned.wasm.minisig", signature);
        put(&self.path("plugins"), "versioned.toml", manifest(&number.to_string(), ""));
        put(&self.path("plugins"), "versioned.wasm", variant("versioned", number));
    }

    fn sign(&self, number: u32, key: &str) {
        std::fs::write(self.path("versioned.wasm"), variant("versioned", number)).unwrap();
        self.said(&["sign", "--secret-key", &format!("{key}.key"), "versioned.wasm"]);
    }

    fn configure(&self, keys: &str) {
        self.configure_with(&format!("signature_keys = {keys}"));
    }

    fn configure_with(&self, plugins: &str) {
        let text = format!(
            "[plugins]\ndirectory = \"plugins\"\n{plugins}\n[data]\ndirectory = \"data\"\n\
             [[gateway]]\nname = \"test\"\nverification = \"open\"\n[[gateway.listener]]\naddress = \"{}\"\n\
             [[gateway.binding]]\nplugin = \"versioned\"\ntopic = \"a/in\"\nmay_publish = [\"a/out\"]\n",
            self.address
        );
        put(self.folder.path(), "gateway.toml", text);
    }

    fn start(&self) -> Result<Process, String> {
        Process::start(&["--config", self.path("gateway.toml").to_str().unwrap()])
    }

    fn client(&self) -> Client {
        let mut client = Client::dial(self.address);
        client.connect(V5, "client");
        client.subscribe("a/out", 0);
        client
    }
}

fn answer(client: &mut Client) -> String {
    client.publish_at_least_once("a/in", "x");
    client.next_publish().text()
}

fn wait_for(client: &mut Client, wanted: &str) {
    let begin = Instant::now();
    while answer(client) != wanted {
        assert!(begin.elapsed() < Duration::from_secs(30), "not in time: {wanted}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn nothing_runs_that_is_not_signed_and_keys_rotate() {
    let setup = Setup::new();
    setup.keygen("old");
    setup.keygen("new");
    setup.keygen("stranger");
    setup.configure("[\"old.pub\"]");

    // Not signed: it does not start.
    put(&setup.path("plugins"), "versioned.toml", manifest("0", ""));
    put(&setup.path("plugins"), "versioned.wasm", variant("versioned", 0));
    let said = setup.start().err().expect("it must not start");
    assert!(said.contains("it is not signed") && said.contains("versioned"), "{said}");

    setup.put_signed(1, "old");
    let gateway = setup.start().unwrap();
    let mut client = setup.client();
    assert_eq!(answer(&mut client), "1:x");

    // Another component with the signature of the one before it.
    put(&setup.path("plugins"), "versioned.wasm", variant("versioned", 2));
    gateway.wait_for_log("its signature does not fit");
    assert_eq!(answer(&mut client), "1:x");
    // Signed by somebody else.
    setup.put_signed(3, "stranger");
    gateway.wait_for_log("which is none of [plugins] signature_keys");
    assert_eq!(answer(&mut client), "1:x");
    // Signed as it should be.
    setup.put_signed(4, "old");
    wait_for(&mut client, "4:x");

    // The old key cannot go while what serves is signed with it.
    setup.configure("[\"new.pub\"]");
    let line = gateway.wait_for_log("configuration refused");
    assert!(line.contains("plugin versioned") && line.contains("sign it with"), "{line}");
    setup.configure("[\"old.pub\", \"new.pub\"]");
    gateway.wait_for_log("configuration is live");
    setup.put_signed(5, "new");
    wait_for(&mut client, "5:x");
    setup.configure("[\"new.pub\"]");
    gateway.wait_for_log("configuration is live");
    setup.put_signed(6, "old");
    gateway.wait_for_log("which is none of [plugins] signature_keys");
    assert_eq!(answer(&mut client), "5:x");

    // Over a restart: the version in the directory is refused, the kept one is signed.
    drop(gateway);
    let _gateway = setup.start().unwrap();
    assert_eq!(answer(&mut setup.client()), "5:x");
}

#[test]
fn what_was_read_before_the_keys_changed_is_verified_with_the_new_ones() {
    let setup = Setup::new();
    setup.keygen("key");
    setup.configure_with("watch = \"off\"");
    setup.put_signed(1, "key");
    let gateway = setup.start().unwrap();
    let mut client = setup.client();
    assert_eq!(answer(&mut client), "1:x");
    // Not signed, and from now on that counts.
    put(&setup.path("plugins"), "versioned.toml", manifest("2", ""));
    put(&setup.path("plugins"), "versioned.wasm", variant("versioned", 2));
    setup.configure_with("watch = \"off\"\nsignature_keys = [\"key.pub\"]");
    let data = setup.path("data");
    for _ in 0..3 {
        let (_, said) = setup.command(&["reload", "--data", data.to_str().unwrap()]);
        assert!(said.contains("refused: versioned") || said.contains("serve"), "{said}");
        assert_eq!(answer(&mut client), "1:x", "{said}");
    }
    let history = setup.said(&["history", "versioned", "--data", data.to_str().unwrap()]);
    assert!(history.contains("its signature does not fit"), "{history}");
    drop(gateway);
}

#[test]
fn a_kept_version_whose_signature_was_changed_does_not_run() {
    let setup = Setup::new();
    setup.keygen("key");
    setup.configure("[\"key.pub\"]");
    setup.put_signed(1, "key");
    drop(setup.start().unwrap());
    // Somebody who can write to both directories, and has no key.
    std::fs::remove_file(setup.path("plugins/versioned.wasm.minisig")).unwrap();
    for entry in std::fs::read_dir(setup.path("data/plugins/versioned")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|end| end == "wasm") {
            std::fs::write(path, variant("versioned", 9)).unwrap();
        }
    }
    let said = setup.start().err().expect("it must not start");
    assert!(said.contains("it is not signed"), "{said}");
}

#[test]
fn minisign_reads_what_we_write_and_the_other_way_round() {
    let setup = Setup::new();
    let minisign = |arguments: &[&str]| {
        let output = Command::new("minisign")
            .current_dir(&setup.folder)
            .args(arguments)
            .output()
            .expect("minisign is installed");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    setup.keygen("ours");
    setup.sign(1, "ours");
    minisign(&["-V", "-p", "ours.pub", "-m", "versioned.wasm"]);
    minisign(&["-G", "-W", "-p", "theirs.pub", "-s", "theirs.key"]);
    for format in ["-H", "-l"] {
        minisign(&["-S", format, "-s", "theirs.key", "-m", "versioned.wasm"]);
        let said = setup.said(&["verify", "--key", "theirs.pub", "versioned.wasm"]);
        assert!(said.contains("signed with key"), "{said}");
    }
    let (is_content, said) = setup.command(&["verify", "--key", "ours.pub", "versioned.wasm"]);
    assert!(!is_content && said.contains("none of"), "{said}");
    setup.sign(2, "theirs");
    minisign(&["-V", "-p", "theirs.pub", "-m", "versioned.wasm"]);
}
