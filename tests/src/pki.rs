//! Certificates, keys and CRLs, made by OpenSSL and never by the code under test.
//!
//! What many tests need is made when it is first named ([`named`]), once for each test program. What one test
//! needs, with ports and dates of its own, it has issued into its [`Lab`].

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use tempfile::TempDir;

use crate::der::{self, Value, bit_string, sequence, time_text};
use crate::guests::workspace;

/// Serial numbers that nobody asked for begin here.
const SERIAL_FIRST: u64 = 0x1000;
const DAY: i64 = 86_400;
/// No test program takes so long.
const LEFT_FOR: Duration = Duration::from_secs(7200);

/// A kind of key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// ECDSA, P-256.
    P256,
    /// ECDSA, P-384.
    P384,
    /// ECDSA, P-521.
    P521,
    /// RSA of 2,048 bits.
    Rsa,
    /// RSA of 1,024 bits: too short.
    Rsa1024,
    /// Ed25519.
    Ed25519,
}

impl Key {
    fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::P256 => &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
            Self::P384 => &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384"],
            Self::P521 => &["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-521"],
            Self::Rsa => &["-newkey", "rsa:2048"],
            Self::Rsa1024 => &["-newkey", "rsa:1024"],
            Self::Ed25519 => &["-newkey", "ed25519"],
        }
    }
}

/// A certificate with its key.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// How tests call it, and its files.
    pub name: String,
    /// PEM of the certificate.
    pub crt: PathBuf,
    /// PEM of the key, PKCS#8.
    pub key: PathBuf,
    /// Its serial number as OpenSSL's index has it: hex, upper case.
    pub serial: String,
    /// What kind its key is of.
    pub kind: Key,
}

impl Certificate {
    /// The certificate as DER.
    #[must_use]
    pub fn der(&self) -> Vec<u8> {
        der::from_pem(&std::fs::read_to_string(&self.crt).expect("it was issued"))
    }

    /// The field of its `TBSCertificate` at this index, where the version is field 0.
    #[must_use]
    pub fn field(&self, index: usize) -> Vec<u8> {
        let der = self.der();
        let (whole, _) = Value::first(&der).expect("a certificate");
        whole.at(&[0, index]).expect("a field").whole.to_vec()
    }

    /// Its subject as DER.
    #[must_use]
    pub fn subject(&self) -> Vec<u8> {
        self.field(5)
    }

    /// The bits of its public key, as `CertID` and `byKey` hash them.
    #[must_use]
    pub fn public_key(&self) -> Vec<u8> {
        let field = self.field(6);
        let (info, _) = Value::first(&field).expect("a key");
        info.at(&[1]).expect("bits").content[1..].to_vec()
    }

    /// Its path as text.
    #[must_use]
    pub fn crt_text(&self) -> &str {
        self.crt.to_str().expect("a path in UTF-8")
    }

    /// Its key's path as text.
    #[must_use]
    pub fn key_text(&self) -> &str {
        self.key.to_str().expect("a path in UTF-8")
    }
}

/// Runs OpenSSL and gives what it wrote.
///
/// # Panics
/// When it fails.
pub fn openssl<S: AsRef<std::ffi::OsStr>>(arguments: &[S], input: &[u8]) -> Vec<u8> {
    let mut command = Command::new("openssl");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("openssl is installed");
    let mut stdin = child.stdin.take().expect("a pipe");
    let input = input.to_vec();
    let feeder = std::thread::spawn(move || drop(std::io::Write::write_all(&mut stdin, &input)));
    let output = child.wait_with_output().expect("it ends");
    feeder.join().expect("it was fed");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// A digest: `sha1`, `sha256`.
#[must_use]
pub fn digest(name: &str, bytes: &[u8]) -> Vec<u8> {
    openssl(&["dgst", &format!("-{name}"), "-binary"], bytes)
}

/// Signs bytes; the signature and its `AlgorithmIdentifier`. `hash` counts for ECDSA and RSA: `sha1`, `sha256`.
#[must_use]
pub fn sign(signer: &Certificate, hash: &str, bytes: &[u8]) -> (Vec<u8>, Vec<u8>) {
    if signer.kind == Key::Ed25519 {
        // The one kind that is not signed from a pipe.
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("tbs");
        std::fs::write(&file, bytes).expect("it is written");
        let file = file.to_str().expect("a path in UTF-8");
        let signature =
            openssl(&["pkeyutl", "-sign", "-rawin", "-in", file, "-inkey", signer.key_text()], &[]);
        return (signature, sequence(&[der::oid("1.3.101.112")]));
    }
    let signature = openssl(&["dgst", &format!("-{hash}"), "-sign", signer.key_text()], bytes);
    let algorithm = match (signer.kind, hash) {
        (Key::Rsa | Key::Rsa1024, "sha1") => {
            sequence(&[der::oid("1.2.840.113549.1.1.5"), vec![5, 0]])
        }
        (Key::Rsa | Key::Rsa1024, _) => sequence(&[der::oid("1.2.840.113549.1.1.11"), vec![5, 0]]),
        (_, "sha1") => sequence(&[der::oid("1.2.840.10045.4.1")]),
        (_, "sha384") => sequence(&[der::oid("1.2.840.10045.4.3.3")]),
        (_, "sha512") => sequence(&[der::oid("1.2.840.10045.4.3.4")]),
        _ => sequence(&[der::oid("1.2.840.10045.4.3.2")]),
    };
    (signature, algorithm)
}

/// A certificate in the making.
#[derive(Debug, Clone)]
pub struct Issue<'a> {
    folder: &'a Path,
    name: String,
    issuer: Option<&'a Certificate>,
    subject: String,
    kind: Key,
    extensions: String,
    alternative_names: String,
    responders: Vec<String>,
    serial: Option<String>,
    from: i64,
    until: i64,
}

impl<'a> Issue<'a> {
    /// By its own key where there is no issuer.
    #[must_use]
    pub fn new(folder: &'a Path, name: &str, issuer: Option<&'a Certificate>) -> Self {
        Self {
            folder,
            name: name.to_owned(),
            issuer,
            subject: format!("/CN={name}"),
            kind: Key::P256,
            extensions: String::new(),
            alternative_names: String::new(),
            responders: Vec::new(),
            serial: None,
            from: der::now() - 7 * DAY,
            until: der::now() + 365 * DAY,
        }
    }

    /// For a CA.
    #[must_use]
    pub fn authority(self) -> Self {
        self.extension("basicConstraints = critical,CA:TRUE")
            .extension("keyUsage = critical,keyCertSign,cRLSign,digitalSignature")
    }

    /// For a device.
    #[must_use]
    pub fn device(self) -> Self {
        self.end_entity("clientAuth")
    }

    /// For a server of these names: `DNS:a,IP:b`.
    #[must_use]
    pub fn server(self, names: &str) -> Self {
        self.end_entity("serverAuth").alternative_names(names)
    }

    /// For an OCSP responder, without `nocheck`.
    #[must_use]
    pub fn delegate(self) -> Self {
        self.end_entity("OCSPSigning")
    }

    /// For this extended usage.
    #[must_use]
    pub fn end_entity(self, usage: &str) -> Self {
        self.extension("basicConstraints = critical,CA:FALSE")
            .extension("keyUsage = critical,digitalSignature")
            .extension(&format!("extendedKeyUsage = {usage}"))
    }

    /// A line as OpenSSL's configuration has it.
    #[must_use]
    pub fn extension(mut self, line: &str) -> Self {
        self.extensions.push_str(line);
        self.extensions.push('\n');
        self
    }

    /// Subject alternative names: `DNS:a,URI:b,email:c`.
    #[must_use]
    pub fn alternative_names(mut self, names: &str) -> Self {
        names.clone_into(&mut self.alternative_names);
        self
    }

    /// A responder that the certificate names; may be said more than once.
    #[must_use]
    pub fn aia(mut self, url: &str) -> Self {
        self.responders.push(url.to_owned());
        self
    }

    /// The subject as `openssl req -subj` takes it.
    #[must_use]
    pub fn subject(mut self, subject: &str) -> Self {
        subject.clone_into(&mut self.subject);
        self
    }

    /// The kind of key.
    #[must_use]
    pub fn key(mut self, kind: Key) -> Self {
        self.kind = kind;
        self
    }

    /// The serial number in hex.
    #[must_use]
    pub fn serial(mut self, serial: &str) -> Self {
        self.serial = Some(serial.to_owned());
        self
    }

    /// Valid between these seconds from now.
    #[must_use]
    pub fn valid(mut self, from: i64, until: i64) -> Self {
        (self.from, self.until) = (der::now() + from, der::now() + until);
        self
    }

    fn configuration(&self, scratch: &Path) -> String {
        let mut text = format!(
            "[req]\ndistinguished_name = none\nprompt = no\nstring_mask = utf8only\n[none]\n\
             [ca]\ndefault_ca = this\n[this]\ndatabase = {0}/index\nserial = {0}/serial\nnew_certs_dir = {0}\n\
             default_md = default\npolicy = any\nunique_subject = no\nx509_extensions = extensions\n\
             [any]\ncommonName = optional\n[extensions]\nsubjectKeyIdentifier = hash\n\
             authorityKeyIdentifier = keyid\n{1}",
            scratch.display(),
            self.extensions
        );
        let mut names = String::new();
        if !self.alternative_names.is_empty() {
            text.push_str("subjectAltName = @names\n");
            names.push_str("[names]\n");
            for (index, name) in self.alternative_names.split(',').enumerate() {
                let (kind, value) = name.split_once(':').expect("KIND:VALUE");
                let _infallible = writeln!(names, "{kind}.{index} = {value}");
            }
        }
        if !self.responders.is_empty() {
            text.push_str("authorityInfoAccess = @aia\n");
            names.push_str("[aia]\n");
            for (index, url) in self.responders.iter().enumerate() {
                let _infallible = writeln!(names, "OCSP;URI.{index} = {url}");
            }
        }
        text + &names
    }

    /// Has OpenSSL make it.
    ///
    /// # Panics
    /// When OpenSSL refuses.
    #[must_use]
    pub fn issue(self) -> Certificate {
        static SERIAL: AtomicU64 = AtomicU64::new(SERIAL_FIRST);
        let scratch = TempDir::new_in(self.folder).expect("a folder");
        let file = |name: &str| scratch.path().join(name);
        let (config, request) = (file("config"), file("request"));
        std::fs::write(&config, self.configuration(scratch.path())).expect("it is written");
        std::fs::write(file("index"), "").expect("it is written");
        let serial = self
            .serial
            .clone()
            .unwrap_or_else(|| format!("{:04X}", SERIAL.fetch_add(1, Ordering::Relaxed)));
        std::fs::write(file("serial"), format!("{serial}\n")).expect("it is written");
        let crt = self.folder.join(format!("{}.crt", self.name));
        let key = self.folder.join(format!("{}.key", self.name));
        let config = config.to_str().expect("a path in UTF-8");
        let request = request.to_str().expect("a path in UTF-8");
        let made = Certificate { name: self.name, crt, key, serial, kind: self.kind };
        let mut arguments =
            vec!["req", "-new", "-utf8", "-nodes", "-config", config, "-out", request];
        arguments.extend(["-subj", &self.subject, "-keyout", made.key_text()]);
        arguments.extend(self.kind.arguments());
        let _nothing = openssl(&arguments, &[]);
        let (from, until) = (time_text(self.from), time_text(self.until));
        let mut arguments =
            vec!["ca", "-batch", "-utf8", "-notext", "-preserveDN", "-config", config];
        arguments.extend(["-in", request, "-out", made.crt_text(), "-startdate", &from]);
        arguments.extend(["-enddate", &until]);
        match self.issuer {
            Some(issuer) => {
                arguments.extend(["-cert", issuer.crt_text(), "-keyfile", issuer.key_text()]);
            }
            None => arguments.extend(["-selfsign", "-keyfile", made.key_text()]),
        }
        let _nothing = openssl(&arguments, &[]);
        made
    }
}

/// A certificate with other bytes in what is signed, and a signature that fits.
#[must_use]
pub fn resigned(
    folder: &Path,
    name: &str,
    of: &Certificate,
    issuer: &Certificate,
    (old, new): (&[u8], &[u8]),
) -> Certificate {
    assert_eq!(old.len(), new.len(), "lengths stay as they are");
    let der = of.der();
    let (whole, _) = Value::first(&der).expect("a certificate");
    let parts = whole.parts();
    let mut tbs = parts[0].whole.to_vec();
    let mut replaced = 0;
    for start in 0..=tbs.len() - old.len() {
        if tbs[start..].starts_with(old) {
            tbs[start..start + new.len()].copy_from_slice(new);
            replaced += 1;
        }
    }
    assert!(replaced > 0, "it is not in the certificate");
    let (signature, algorithm) = sign(issuer, "sha256", &tbs);
    let bytes = sequence(&[tbs, algorithm, bit_string(&signature)]);
    let crt = folder.join(format!("{name}.crt"));
    let path = crt.to_str().expect("a path in UTF-8");
    let _nothing = openssl(&["x509", "-inform", "DER", "-out", path], &bytes);
    Certificate { name: name.to_owned(), crt, ..of.clone() }
}

fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let parent = workspace().join("target/pki");
        std::fs::create_dir_all(&parent).expect("the target folder is writable");
        // Test programs do not tell when they end: what they left is removed by later ones.
        for old in std::fs::read_dir(&parent).expect("it can be read").flatten() {
            let modified = old.metadata().and_then(|metadata| metadata.modified());
            let age = modified.ok().and_then(|modified| modified.elapsed().ok());
            if age.is_some_and(|age| age > LEFT_FOR) {
                let _gone = std::fs::remove_dir_all(old.path());
            }
        }
        TempDir::new_in(parent).expect("a folder").keep()
    })
}

/// A certificate that is made when it is first named: `root`, `int`, `gw`, `dev_ec`, `oc_good` and so on; the list
/// is the table in `recipe`.
///
/// # Panics
/// When there is none of that name.
#[must_use]
pub fn named(name: &str) -> &'static Certificate {
    static MADE: OnceLock<Mutex<HashMap<String, &'static OnceLock<Certificate>>>> = OnceLock::new();
    let made = MADE.get_or_init(Mutex::default);
    let place = {
        let mut made = made.lock().unwrap_or_else(PoisonError::into_inner);
        *made.entry(name.to_owned()).or_insert_with(|| Box::leak(Box::default()))
    };
    place.get_or_init(|| recipe(name))
}

/// Concatenates PEM files into one of this name in a folder.
#[must_use]
pub fn bundle(folder: &Path, name: &str, certificates: &[&Certificate]) -> PathBuf {
    let read = |certificate: &&Certificate| std::fs::read(&certificate.crt).expect("it was issued");
    let path = folder.join(name);
    let bytes: Vec<u8> = certificates.iter().flat_map(read).collect();
    std::fs::write(&path, bytes).expect("it is written");
    path
}

const GATEWAY_NAMES: &str = "DNS:gw.test,DNS:localhost,IP:127.0.0.1";
const NOCHECK: &str = "noCheck = ignored";
const PATH_OF_ONE: &str = "/O=Portreeve Tests/CN=int";

fn recipe(name: &str) -> Certificate {
    let by = |issuer: &str| Issue::new(folder(), name, Some(named(issuer)));
    let issue = match name {
        "root" | "evil" => {
            Issue::new(folder(), name, None).authority().subject("/O=Portreeve Tests/CN=root")
        }
        "root2" => Issue::new(folder(), name, None).authority(),
        "int" => by("root").authority().subject(PATH_OF_ONE),
        // The same names, another key.
        "intevil" => by("evil").authority().subject(PATH_OF_ONE),
        "sibling" => by("root").authority(),
        "int2" => by("root2").authority(),
        "rsaca" => by("root").authority().key(Key::Rsa),
        "edca" => by("root").authority().key(Key::Ed25519),
        "gw" => by("int").server(GATEWAY_NAMES).subject("/CN=gw.test"),
        // The same names with another key, to be rotated to.
        "gw_next" => by("int").server(GATEWAY_NAMES).subject("/CN=gw.test"),
        "gw_exp" => by("int").server(GATEWAY_NAMES).subject("/CN=gw.test").valid(-30 * DAY, -DAY),
        "gw_week" => by("int").server(GATEWAY_NAMES).subject("/CN=gw.test").valid(-DAY, 5 * DAY),
        "rsa" => by("int").server("DNS:rsa.test").subject("/CN=rsa.test").key(Key::Rsa),
        "dev_ec" | "dev_b" | "dev_unk" | "dev_rev" => by("int").device(),
        "dev_384" => by("int").device().key(Key::P384),
        "dev_rsa" => by("int").device().key(Key::Rsa),
        "dev_ed" => by("int").device().key(Key::Ed25519),
        "dev_rsaca" => by("rsaca").device(),
        "dev_edca" => by("edca").device(),
        "dev_evil" => by("intevil").device().subject("/CN=dev_ec"),
        "dev_int2" => by("int2").device(),
        "dev_exp" => by("int").device().valid(-30 * DAY, -DAY),
        "dev_early" => by("int").device().valid(DAY, 30 * DAY),
        "dev_nocli" => by("int").end_entity("serverAuth"),
        "oc_good" => by("int").delegate().extension(NOCHECK),
        "oc_rsa" => by("int").delegate().extension(NOCHECK).key(Key::Rsa),
        "oc_rsa1024" => by("int").delegate().extension(NOCHECK).key(Key::Rsa1024),
        "oc_ed" => by("int").delegate().extension(NOCHECK).key(Key::Ed25519),
        "oc_384" => by("int").delegate().extension(NOCHECK).key(Key::P384),
        "oc_521" => by("int").delegate().extension(NOCHECK).key(Key::P521),
        "oc_noeku" => by("int")
            .extension("basicConstraints = critical,CA:FALSE")
            .extension("keyUsage = critical,digitalSignature"),
        "oc_otherca" => by("sibling").delegate().extension(NOCHECK),
        "oc_exp" => by("int").delegate().extension(NOCHECK).valid(-30 * DAY, -DAY),
        "oc_nonocheck" => by("int").delegate(),
        "oc_evil" => by("intevil").delegate().extension(NOCHECK).subject("/CN=oc_good"),
        "oc_root" => by("root").delegate().extension(NOCHECK),
        _ => panic!("there is no recipe for {name}"),
    };
    issue.issue()
}

/// A folder of one test, and what is issued into it.
#[derive(Debug)]
pub struct Lab {
    folder: TempDir,
}

impl Default for Lab {
    fn default() -> Self {
        Self::new()
    }
}

impl Lab {
    /// An empty one.
    ///
    /// # Panics
    /// When there is no temporary folder.
    #[must_use]
    pub fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder") }
    }

    /// Its folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A file in it.
    #[must_use]
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A device's certificate in the making, issued by `int`.
    #[must_use]
    pub fn device(&self, name: &str) -> Issue<'_> {
        self.by("int", name).device()
    }

    /// A certificate in the making, issued by one that has a name.
    #[must_use]
    pub fn by(&self, issuer: &str, name: &str) -> Issue<'_> {
        Issue::new(self.folder.path(), name, Some(named(issuer)))
    }

    /// An index of certificates, all of them good.
    #[must_use]
    pub fn index(&self, name: &str, good: &[&Certificate]) -> Index {
        let index = Index { path: self.file(name), lines: Mutex::default() };
        index
            .lines
            .lock()
            .expect("nobody else has it")
            .extend(good.iter().map(|certificate| (certificate.serial.clone(), None)));
        index.write();
        index
    }

    /// A CRL of an issuer with these serial numbers, valid for a day.
    #[must_use]
    pub fn crl(&self, name: &str, issuer: &Certificate, serials: &[&str]) -> PathBuf {
        self.crl_with(name, issuer, serials, &["-crldays", "1"], "")
    }

    /// A CRL with options of `openssl ca -gencrl` and lines of its extensions.
    ///
    /// # Panics
    /// When OpenSSL refuses.
    #[must_use]
    pub fn crl_with(
        &self,
        name: &str,
        issuer: &Certificate,
        serials: &[&str],
        options: &[&str],
        extensions: &str,
    ) -> PathBuf {
        static NUMBER: AtomicU64 = AtomicU64::new(0x1000);
        let scratch = TempDir::new_in(self.path()).expect("a folder");
        let folder = scratch.path().display();
        let config = scratch.path().join("config");
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let text = format!(
            "[ca]\ndefault_ca = this\n[this]\ndatabase = {folder}/index\ncrlnumber = {folder}/number\n\
             default_md = default\ncrl_extensions = extensions\n[extensions]\n\
             authorityKeyIdentifier = keyid\n{extensions}\n"
        );
        std::fs::write(&config, text).expect("it is written");
        std::fs::write(scratch.path().join("number"), format!("{number:04X}\n")).expect("written");
        let index: String =
            serials.iter().map(|serial| line(serial, Some("keyCompromise"))).collect();
        std::fs::write(scratch.path().join("index"), index).expect("it is written");
        let path = self.file(name);
        let partial = scratch.path().join("crl");
        let mut arguments = vec!["ca", "-gencrl", "-config", config.to_str().expect("UTF-8")];
        arguments.extend(["-cert", issuer.crt_text(), "-keyfile", issuer.key_text()]);
        arguments.extend(["-out", partial.to_str().expect("a path in UTF-8")]);
        arguments.extend(options);
        let _nothing = openssl(&arguments, &[]);
        std::fs::rename(partial, &path).expect("it is moved");
        path
    }
}

/// What a CA knows of its certificates, as `openssl ca` keeps it and `openssl ocsp` reads it.
#[derive(Debug)]
pub struct Index {
    /// Its file.
    pub path: PathBuf,
    /// Serial number, and reason where it is revoked.
    lines: Mutex<Vec<(String, Option<String>)>>,
}

impl Index {
    /// Has a certificate revoked. A responder that runs reads it
    /// one request later: `OpensslResponder::restart`.
    pub fn revoke(&self, serial: &str) {
        self.set(serial, Some("keyCompromise"));
    }

    /// Has a certificate good, or revoked for this reason.
    ///
    /// # Panics
    /// When another thread panicked with it.
    pub fn set(&self, serial: &str, reason: Option<&str>) {
        let mut lines = self.lines.lock().expect("nobody panicked");
        lines.retain(|(other, _)| other != serial);
        lines.push((serial.to_owned(), reason.map(str::to_owned)));
        drop(lines);
        self.write();
    }

    fn write(&self) {
        let lines = self.lines.lock().expect("nobody panicked");
        let text: String =
            lines.iter().map(|(serial, reason)| line(serial, reason.as_deref())).collect();
        let partial = self.path.with_extension("partial");
        std::fs::write(&partial, text).expect("it is written");
        std::fs::rename(partial, &self.path).expect("it is moved");
    }
}

/// A line of the index: state, end, time and reason of revocation, serial, file, subject.
fn line(serial: &str, reason: Option<&str>) -> String {
    let end = &time_text(der::now() + 365 * DAY)[2..];
    let since = &time_text(der::now() - 60)[2..];
    match reason {
        Some(reason) => format!("R\t{end}\t{since},{reason}\t{serial}\tunknown\t/CN={serial}\n"),
        None => format!("V\t{end}\t\t{serial}\tunknown\t/CN={serial}\n"),
    }
}
