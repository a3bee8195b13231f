//! Files that no gateway may take.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use crate::der;
use crate::pki::{Lab, named, openssl};
use crate::tls_gateway::RunningTls;

/// What is done to a file.
#[derive(Debug, Clone)]
enum How {
    Bytes(Vec<u8>),
    Gone,
    /// The same bytes, and everybody may read them.
    Open,
}

/// A kind of broken file.
#[derive(Debug, Clone)]
pub(super) struct Broken {
    pub(super) name: String,
    file: &'static str,
    how: How,
}

impl Broken {
    fn bytes(name: &str, file: &'static str, bytes: impl Into<Vec<u8>>) -> Self {
        Self { name: format!("{file}: {name}"), file, how: How::Bytes(bytes.into()) }
    }

    /// Puts it there; what was there before.
    pub(super) fn put(&self, gateway: &RunningTls) -> Vec<u8> {
        let path = gateway.lab().file(self.file);
        let good = fs::read(&path).expect("it was written");
        match &self.how {
            How::Bytes(bytes) => gateway.put(self.file, bytes),
            How::Gone => fs::remove_file(path).expect("it was there"),
            How::Open => {
                gateway.put(self.file, &good);
                fs::set_permissions(path, Permissions::from_mode(0o644)).expect("it is ours");
            }
        }
        good
    }

    /// Puts back what was there.
    pub(super) fn restore(&self, gateway: &RunningTls, good: &[u8]) {
        gateway.put(self.file, good);
    }
}

/// Every kind.
pub(super) fn kinds() -> Vec<Broken> {
    let lab = Lab::new();
    let read = |path: &std::path::Path| fs::read(path).expect("it was made");
    let none: &[&str] = &[];
    let crl = |name: &str, issuer: &str| read(&lab.crl(name, named(issuer), none));
    let mut flipped = der::from_pem(&String::from_utf8(crl("good", "int")).expect("PEM"));
    if let Some(last) = flipped.last_mut() {
        *last ^= 1;
    }
    let delta = "2.5.29.27 = critical,DER:02:01:01";
    let delta = lab.crl_with("delta", named("int"), none, &["-crldays", "1"], delta);
    let encrypt = ["pkcs8", "-topk8", "-passout", "pass:secret", "-in", named("gw").key_text()];
    let mut kinds = vec![
        Broken::bytes("of another certificate", "gw.key", read(&named("gw_next").key)),
        Broken::bytes("encrypted, no password", "gw.key", openssl(&encrypt, &[])),
        Broken::bytes("only the end entity of another key", "gw.pem", read(&named("gw_next").crt)),
        Broken::bytes("an end entity, no anchor", "root.pem", read(&named("dev_ec").crt)),
        Broken::bytes("of a look-alike issuer", "int.crl", crl("evil", "intevil")),
        Broken::bytes("one bit flipped", "int.crl", flipped),
        Broken::bytes("a delta list", "int.crl", read(&delta)),
        Broken { name: "gw.key: everybody may read it".to_owned(), file: "gw.key", how: How::Open },
    ];
    for (file, good) in [
        ("gw.key", read(&named("gw").key)),
        ("gw.pem", read(&named("gw").crt)),
        ("root.pem", read(&named("root").crt)),
        ("int.crl", crl("half", "int")),
    ] {
        let label = String::from_utf8_lossy(good.get(..27).unwrap_or_default()).into_owned();
        kinds.push(Broken::bytes("empty", file, ""));
        kinds.push(Broken::bytes("garbage", file, format!("{label}\n!!!!\n")));
        kinds.push(Broken::bytes("half", file, good.get(..good.len() / 2).unwrap_or_default()));
        kinds.push(Broken { name: format!("{file}: gone"), file, how: How::Gone });
    }
    kinds
}
