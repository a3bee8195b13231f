//! A verifier that tells what it was told of the connection and its certificate: as attributes of the
//! device that it admits, and as lines of its log. Of bytes it tells how many there are and the last ones.

use portreeve_guest::{
    Admission, Certificate, Connect, Error, Verdict, Verifier, export_verifier, log,
};

struct Guest;

/// The last bytes of DER are those of a signature: they are of no two certificates.
const TAIL: usize = 16;

fn tail(bytes: &[u8]) -> String {
    let hex = |byte: &u8| format!("{byte:02x}");
    let last: String = bytes.iter().skip(bytes.len().saturating_sub(TAIL)).map(hex).collect();
    format!("{} {last}", bytes.len())
}

fn of(certificate: &Certificate) -> Vec<(&'static str, String)> {
    let chain: Vec<String> = certificate.chain.iter().map(|one| tail(one)).collect();
    vec![
        ("subject", certificate.subject.clone()),
        ("common_name", format!("{:?}", certificate.common_name)),
        ("dns_names", format!("{:?}", certificate.dns_names)),
        ("uris", format!("{:?}", certificate.uris)),
        ("email_addresses", format!("{:?}", certificate.email_addresses)),
        ("issuer", certificate.issuer.clone()),
        ("serial_number", certificate.serial_number.clone()),
        ("not_before", certificate.not_before.to_string()),
        ("not_after", certificate.not_after.to_string()),
        ("fingerprint", certificate.fingerprint.clone()),
        ("revocation", format!("{:?}", certificate.revocation)),
        ("der", tail(&certificate.der)),
        ("chain", chain.join(", ")),
    ]
}

impl Verifier for Guest {
    fn verify(request: Connect) -> Result<Verdict, Error> {
        let mut told = vec![
            ("client_id", request.client_id.clone()),
            ("user_name", format!("{:?}", request.user_name)),
        ];
        match &request.connection.tls {
            None => told.push(("tls", "none".to_owned())),
            Some(tls) => {
                told.push(("version", tls.version.clone()));
                told.push(("cipher_suite", tls.cipher_suite.clone()));
                told.push(("server_name", format!("{:?}", tls.server_name)));
                told.extend(tls.certificate.iter().flat_map(of));
            }
        }
        let mut admission = Admission::new("told");
        for (name, value) in told {
            log::info(&format!("told {name} = {value}"));
            admission = admission.attribute(name, value);
        }
        Ok(admission.into())
    }
}

export_verifier!(Guest);
