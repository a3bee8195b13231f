//! Certificates for tests, made by OpenSSL and not by the code under test.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, LazyLock};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tempfile::TempDir;

use crate::Certificate;

/// Made once for all tests of a process.
pub(crate) static PKI: LazyLock<Pki> = LazyLock::new(Pki::make);

/// Serial numbers of `dev` and `rev`: the latter begins with a set bit.
pub(crate) const DEV_SERIAL: &str = "1001";
pub(crate) const REV_SERIAL: &str = "F002030405060708090A0B0C0D0E0F1011121314";

/// Files by name.
pub(crate) struct Pki {
    files: BTreeMap<String, Vec<u8>>,
}

const EXTENSIONS: &str = "
[ca]
basicConstraints=critical,CA:true
keyUsage=critical,keyCertSign,cRLSign
[ca_no_crl]
basicConstraints=critical,CA:true
keyUsage=critical,keyCertSign
[device]
basicConstraints=critical,CA:false
extendedKeyUsage=clientAuth
authorityInfoAccess=OCSP;URI:http://127.0.0.1:9/ocsp
crlDistributionPoints=URI:http://crl.test/int.crl
[ocsp]
extendedKeyUsage=OCSPSigning
noCheck=ignored
[ocsp_check]
extendedKeyUsage=OCSPSigning
";

/// Name, subject, issuer, section of the extensions, key, serial number.
const CERTIFICATES: [(&str, &str, &str, &str, &str, &str); 16] = [
    ("root", "root", "root", "ca", "EC:P-256", "1"),
    ("int", "int", "root", "ca", "EC:P-256", "1001"),
    ("other", "other", "root", "ca", "EC:P-256", "1002"),
    ("nocrl", "nocrl", "root", "ca_no_crl", "EC:P-256", "1003"),
    ("evil", "root", "evil", "ca", "EC:P-256", "1"),
    ("intevil", "int", "evil", "ca", "EC:P-256", "1001"),
    ("dev", "dev", "int", "device", "EC:P-256", DEV_SERIAL),
    ("rev", "rev", "int", "device", "EC:P-256", REV_SERIAL),
    ("oc_good", "oc_good", "int", "ocsp", "EC:P-256", "2001"),
    ("oc_521", "oc_521", "int", "ocsp", "EC:P-521", "2002"),
    ("oc_ed", "oc_ed", "int", "ocsp", "ED25519", "2003"),
    ("oc_rsa", "oc_rsa", "int", "ocsp", "RSA:2048", "2004"),
    ("oc_rsa1024", "oc_rsa1024", "int", "ocsp", "RSA:1024", "2005"),
    ("oc_noeku", "oc_noeku", "int", "device", "EC:P-256", "2006"),
    ("oc_check", "oc_check", "int", "ocsp_check", "EC:P-256", "2007"),
    ("oc_other", "oc_other", "other", "ocsp", "EC:P-256", "2008"),
];

impl Pki {
    fn make() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        fs::write(path.join("ext.cnf"), EXTENSIONS).unwrap();
        for (name, subject, issuer, section, key, serial) in CERTIFICATES {
            let key = match key.split_once(':') {
                Some(("EC", curve)) => format!("-algorithm EC -pkeyopt ec_paramgen_curve:{curve}"),
                Some((_, bits)) => format!("-algorithm RSA -pkeyopt rsa_keygen_bits:{bits}"),
                None => format!("-algorithm {key}"),
            };
            openssl(path, &format!("genpkey {key} -out {name}.key"));
            openssl(path, &format!("req -new -key {name}.key -subj /CN={subject} -out {name}.csr"));
            let signer = if name == issuer {
                format!("-signkey {name}.key")
            } else {
                format!("-CA {issuer}.crt -CAkey {issuer}.key")
            };
            openssl(
                path,
                &format!(
                    "x509 -req -in {name}.csr {signer} -set_serial 0x{serial} -days 30 -extfile ext.cnf \
                     -extensions {section} -out {name}.crt"
                ),
            );
        }
        let index = format!(
            "V\t401231235959Z\t\t{DEV_SERIAL}\tunknown\t/CN=dev\n\
             R\t401231235959Z\t260101000000Z,keyCompromise\t{REV_SERIAL}\tunknown\t/CN=rev\n"
        );
        fs::write(path.join("int.idx"), index).unwrap();
        let files = fs::read_dir(path).unwrap().map(|entry| {
            let entry = entry.unwrap();
            (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())
        });
        Self { files: files.collect() }
    }

    pub(crate) fn certificate(&self, name: &str) -> Arc<Certificate> {
        let der = CertificateDer::from_pem_slice(&self.files[&format!("{name}.crt")]).unwrap();
        Arc::new(Certificate::parse(der).unwrap())
    }

    /// End entity first.
    pub(crate) fn chain(&self, end_entity: &str) -> Vec<Arc<Certificate>> {
        [end_entity, "int", "root"].map(|name| self.certificate(name)).into()
    }

    /// A new directory with all files.
    pub(crate) fn directory(&self) -> TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (name, content) in &self.files {
            fs::write(directory.path().join(name), content).unwrap();
        }
        directory
    }

    /// What the responder of OpenSSL answers about a certificate of `int`.
    pub(crate) fn respond(&self, name: &str, signer: &str, options: &str) -> Vec<u8> {
        let directory = self.directory();
        let path = directory.path();
        openssl(
            path,
            &format!("ocsp -issuer int.crt -cert {name}.crt -no_nonce -reqout request.der"),
        );
        self.respond_to(&fs::read(path.join("request.der")).unwrap(), signer, options)
    }

    /// What it answers to a request.
    pub(crate) fn respond_to(&self, request: &[u8], signer: &str, options: &str) -> Vec<u8> {
        let directory = self.directory();
        let path = directory.path();
        fs::write(path.join("request.der"), request).unwrap();
        openssl(
            path,
            &format!(
                "ocsp -index int.idx -CA int.crt -rsigner {signer}.crt -rkey {signer}.key \
                 -reqin request.der -respout response.der {options}"
            ),
        );
        fs::read(path.join("response.der")).unwrap()
    }

    /// A list of `issuer` with what `index` has; `extensions` are lines of a configuration.
    pub(crate) fn list(
        &self,
        issuer: &str,
        number: u32,
        extensions: &str,
        options: &str,
    ) -> Vec<u8> {
        let directory = self.directory();
        let path = directory.path();
        let configuration = format!(
            "[ca]\ndefault_ca=c\n[c]\ndatabase=int.idx\ncrlnumber=number\ndefault_md=sha256\n\
             default_crl_days=30\ncrl_extensions=e\n[e]\nauthorityKeyIdentifier=keyid\n{extensions}\n"
        );
        fs::write(path.join("ca.cnf"), configuration).unwrap();
        fs::write(path.join("number"), format!("{number:04}\n")).unwrap();
        openssl(
            path,
            &format!(
                "ca -config ca.cnf -gencrl -cert {issuer}.crt -keyfile {issuer}.key -out list.pem {options}"
            ),
        );
        fs::read(path.join("list.pem")).unwrap()
    }

    /// Signs with SHA-256, or what `digest` says.
    pub(crate) fn sign(&self, signer: &str, digest: &str, message: &[u8]) -> Vec<u8> {
        let directory = self.directory();
        let path = directory.path();
        fs::write(path.join("message"), message).unwrap();
        openssl(path, &format!("dgst -{digest} -sign {signer}.key -out signature message"));
        fs::read(path.join("signature")).unwrap()
    }
}

pub(crate) fn openssl(directory: &Path, arguments: &str) {
    let output = Command::new("openssl")
        .args(arguments.split_whitespace())
        .current_dir(directory)
        .output()
        .expect("openssl is installed");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "openssl {arguments}: {errors}");
}
