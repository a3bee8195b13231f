//! A gateway in a process of its own, verified by the ready plugin `https-verifier`.

use std::net::SocketAddr;
use std::process::Command;

use portreeve_mqtt::{Connect, ProtocolVersion};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::binary::{Process, binary, free_address};
use crate::client::{Client, V5, connect};
use crate::guests;
use crate::https_service::HttpsService;
use crate::pki::named;
use crate::plugins::put;

/// The address in the manifest that the plugin comes with.
const SHIPPED_URL: &str = "https://auth.example.com/verify";

/// The manifest that the plugin comes with, for this URL, with lines of `[settings]` and `[http_client]`.
///
/// # Panics
/// When the manifest is another than the one that this knows.
#[must_use]
pub fn manifest(url: &str, settings: &str, http_client: &str) -> String {
    let shipped = guests::manifest("https-verifier");
    assert!(shipped.contains(SHIPPED_URL) && shipped.contains("preset = \"portreeve\""));
    shipped
        .replace(SHIPPED_URL, url)
        .replace("preset = \"portreeve\"", settings)
        .replace("[http_client]\n", &format!("[http_client]\n{http_client}\n"))
}

/// `ca` for a service of `HttpsService`.
#[must_use]
pub fn trusting(authority: &str) -> String {
    format!("ca = {:?}", named(authority).crt)
}

/// A gateway in a process of its own, verified by the plugin.
pub struct HttpsGateway {
    folder: TempDir,
    /// Where it listens.
    pub address: SocketAddr,
    /// Its process.
    pub process: Process,
}

impl HttpsGateway {
    /// With this manifest.
    ///
    /// # Panics
    /// When it does not start.
    #[must_use]
    pub fn start(manifest: &str) -> Self {
        let (folder, address) = (tempfile::tempdir().unwrap(), free_address());
        let plugins = folder.path().join("plugins");
        std::fs::create_dir(&plugins).unwrap();
        put(&plugins, "https-verifier.toml", manifest);
        let component = std::fs::read(guests::component("https-verifier")).unwrap();
        put(&plugins, "https-verifier.wasm", component);
        let config = format!(
            "[log]\nlevel = \"debug\"\n[plugins]\ndirectory = \"plugins\"\n[data]\ndirectory = \"data\"\n\
             [[gateway]]\nname = \"main\"\nverification = \"plugin:https-verifier\"\n\
             [[gateway.listener]]\naddress = \"{address}\"\n"
        );
        let path = folder.path().join("gateway.toml");
        std::fs::write(&path, config).unwrap();
        let process = Process::start(&["--config", path.to_str().unwrap()]).unwrap();
        Self { folder, address, process }
    }

    /// Behind a service, with the preset of these settings.
    #[must_use]
    pub fn asking(service: &HttpsService, settings: &str) -> Self {
        Self::start(&manifest(&service.url("/verify"), settings, &trusting("root")))
    }

    /// A client of this user, and the code of its CONNACK.
    #[must_use]
    pub fn connect(&self, version: ProtocolVersion, user: &str, password: &[u8]) -> (Client, u8) {
        let mut client = Client::dial(self.address);
        let client_id = client_id(user);
        let login = Connect {
            user_name: Some(user),
            password: Some(password),
            ..connect(version, &client_id)
        };
        let code = client.connect_code(&login);
        (client, code)
    }

    /// The code of the CONNACK for a user on MQTT 5.
    #[must_use]
    pub fn code(&self, user: &str, password: &str) -> u8 {
        self.connect(V5, user, password.as_bytes()).1
    }

    /// What `portreeve` says to these arguments about this gateway.
    ///
    /// # Panics
    /// When it fails.
    pub fn command(&self, arguments: &[&str]) -> String {
        let data = self.folder.path().join("data");
        let mut command = Command::new(binary());
        command.args(arguments).args(["--data", data.to_str().unwrap()]);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {said}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Puts another manifest in the place of the one that it has.
    pub fn put_manifest(&self, manifest: &str) {
        put(&self.folder.path().join("plugins"), "https-verifier.toml", manifest);
    }

    /// What `portreeve plugin show` says.
    ///
    /// # Panics
    /// When it says nothing.
    #[must_use]
    pub fn show(&self) -> Value {
        let data = self.folder.path().join("data");
        let mut command = Command::new(binary());
        command.args(["plugin", "show", "https-verifier", "--data", data.to_str().unwrap()]);
        serde_json::from_slice(&command.output().unwrap().stdout).unwrap()
    }
}

/// A session belongs to its device: every user has a client identifier of its own.
fn client_id(user: &str) -> String {
    let is_plain = user.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    format!("c-{}", if is_plain { user } else { "odd" })
}

/// The verdict of `portreeve plugin call`, with everything that an admission has.
///
/// # Panics
/// When there is none.
#[must_use]
pub fn call(manifest: &str, user: &str, password: &str) -> Value {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "https-verifier.toml", manifest);
    let file = folder.path().join("https-verifier.wasm");
    std::fs::copy(guests::component("https-verifier"), &file).unwrap();
    let question = json!({"client_id": "client-1", "user_name": user, "password": password});
    let mut command = Command::new(binary());
    let output = command.args(["plugin", "call"]).arg(&file).arg(question.to_string()).output();
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"))
}
