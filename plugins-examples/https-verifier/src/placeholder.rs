//! What a placeholder such as `${client_id}` stands for.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use portreeve_guest::{Certificate, Connect, Protocol, Refusal};
use serde_json::{Value, json};

use crate::stop::bad_credentials;

/// Characters of a line of PEM (RFC 7468 §2).
const PEM_LINE_CHARS: usize = 64;

/// What can stand in a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placeholder {
    ClientId,
    UserName,
    Password,
    PasswordBase64,
    BasicCredentials,
    PeerAddress,
    PeerHost,
    PeerPort,
    Gateway,
    Product,
    Protocol,
    ServerName,
    CertCommonName,
    CertSubject,
    CertIssuer,
    CertSerialNumber,
    CertFingerprint,
    CertPem,
    CertPemBase64,
    CertChainPem,
    AuthenticationMethod,
    AuthenticationDataBase64,
    /// JSON: an object, for a whole string of a JSON body only.
    Certificate,
    /// JSON: a list of pairs, likewise.
    UserProperties,
}

/// Every placeholder by its names: ours, then those that EMQX has for the same.
const NAMES: [(&str, Placeholder); 29] = [
    ("client_id", Placeholder::ClientId),
    ("user_name", Placeholder::UserName),
    ("password", Placeholder::Password),
    ("password_base64", Placeholder::PasswordBase64),
    ("basic_credentials", Placeholder::BasicCredentials),
    ("peer_address", Placeholder::PeerAddress),
    ("peer_host", Placeholder::PeerHost),
    ("peer_port", Placeholder::PeerPort),
    ("gateway", Placeholder::Gateway),
    ("product", Placeholder::Product),
    ("protocol", Placeholder::Protocol),
    ("server_name", Placeholder::ServerName),
    ("cert_common_name", Placeholder::CertCommonName),
    ("cert_subject", Placeholder::CertSubject),
    ("cert_issuer", Placeholder::CertIssuer),
    ("cert_serial_number", Placeholder::CertSerialNumber),
    ("cert_fingerprint", Placeholder::CertFingerprint),
    ("cert_pem", Placeholder::CertPem),
    ("cert_pem_base64", Placeholder::CertPemBase64),
    ("cert_chain_pem", Placeholder::CertChainPem),
    ("authentication_method", Placeholder::AuthenticationMethod),
    ("authentication_data_base64", Placeholder::AuthenticationDataBase64),
    ("certificate", Placeholder::Certificate),
    ("user_properties", Placeholder::UserProperties),
    ("clientid", Placeholder::ClientId),
    ("username", Placeholder::UserName),
    ("peerhost", Placeholder::PeerHost),
    ("peerport", Placeholder::PeerPort),
    ("peername", Placeholder::PeerAddress),
];

impl Placeholder {
    /// The placeholder of a name.
    pub(crate) fn of(name: &str) -> Option<Self> {
        NAMES.iter().find(|(other, _)| *other == name).map(|(_, placeholder)| *placeholder)
    }

    /// The names that there are, for messages.
    pub(crate) fn names() -> String {
        NAMES.map(|(name, _)| name).join(", ")
    }

    /// Whether its value is an object or a list.
    pub(crate) const fn is_structured(self) -> bool {
        matches!(self, Self::Certificate | Self::UserProperties)
    }
}

/// A device that wants in, as templates see it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer<'a> {
    pub(crate) connect: &'a Connect,
    /// The setting `product`; empty where it is not set.
    pub(crate) product: &'a str,
}

impl<'a> Peer<'a> {
    fn certificate(&self) -> Option<&'a Certificate> {
        self.connect.connection.tls.as_ref()?.certificate.as_ref()
    }

    /// The text of a placeholder; `None` where the CONNECT has no such thing.
    ///
    /// # Errors
    /// A refusal, where it has one that no text can carry.
    pub(crate) fn text(&self, of: Placeholder) -> Result<Option<Cow<'a, str>>, Refusal> {
        let connect = self.connect;
        let connection = &connect.connection;
        Ok(match of {
            Placeholder::ClientId => Some(connect.client_id.as_str().into()),
            Placeholder::UserName => connect.user_name.as_deref().map(Into::into),
            Placeholder::Password => self.password()?.map(Into::into),
            Placeholder::PasswordBase64 => {
                connect.password.as_ref().map(|password| BASE64.encode(password).into())
            }
            Placeholder::BasicCredentials => self.basic_credentials()?.map(Into::into),
            Placeholder::PeerAddress => Some(connection.peer_address.as_str().into()),
            Placeholder::PeerHost => Some(host_and_port(&connection.peer_address).0.into()),
            Placeholder::PeerPort => Some(host_and_port(&connection.peer_address).1.into()),
            Placeholder::Gateway => Some(connection.gateway.as_str().into()),
            Placeholder::Product => Some(self.product.into()).filter(|_| !self.product.is_empty()),
            Placeholder::Protocol => Some(protocol(connection.protocol).into()),
            Placeholder::ServerName => {
                connection.tls.as_ref().and_then(|tls| tls.server_name.as_deref()).map(Into::into)
            }
            Placeholder::AuthenticationMethod => {
                connect.authentication_method.as_deref().map(Into::into)
            }
            Placeholder::AuthenticationDataBase64 => {
                connect.authentication_data.as_ref().map(|data| BASE64.encode(data).into())
            }
            of => self.certificate().and_then(|certificate| text_of(certificate, of)),
        })
    }

    /// The value of a structured placeholder.
    pub(crate) fn value(&self, of: Placeholder) -> Option<Value> {
        match of {
            Placeholder::Certificate => self.certificate().map(certificate),
            Placeholder::UserProperties => Some(json!(self.connect.user_properties)),
            _ => None,
        }
    }

    /// A password is bytes. Those that are no text are not made one: two passwords would become
    /// the same.
    fn password(&self) -> Result<Option<&'a str>, Refusal> {
        let Some(bytes) = &self.connect.password else { return Ok(None) };
        let text = std::str::from_utf8(bytes).map_err(|_| {
            bad_credentials("the password is no UTF-8; ${password_base64} carries any password")
        })?;
        Ok(Some(text))
    }

    /// User name and password of HTTP's Basic authentication (RFC 7617 §2).
    fn basic_credentials(&self) -> Result<Option<String>, Refusal> {
        let Some(user_name) = &self.connect.user_name else { return Ok(None) };
        if user_name.contains(':') {
            let why = "the user name has a colon, which Basic authentication cannot carry";
            return Err(bad_credentials(why));
        }
        let password = self.connect.password.as_deref().unwrap_or_default();
        Ok(Some(BASE64.encode([user_name.as_bytes(), b":", password].concat())))
    }
}

fn text_of(certificate: &Certificate, of: Placeholder) -> Option<Cow<'_, str>> {
    Some(match of {
        Placeholder::CertCommonName => certificate.common_name.as_deref()?.into(),
        Placeholder::CertSubject => certificate.subject.as_str().into(),
        Placeholder::CertIssuer => certificate.issuer.as_str().into(),
        Placeholder::CertSerialNumber => certificate.serial_number.as_str().into(),
        Placeholder::CertFingerprint => certificate.fingerprint.as_str().into(),
        Placeholder::CertPem => pem(&certificate.der).into(),
        Placeholder::CertPemBase64 => BASE64.encode(pem(&certificate.der)).into(),
        Placeholder::CertChainPem => {
            certificate.chain.iter().map(|der| pem(der)).collect::<String>().into()
        }
        _ => return None,
    })
}

fn certificate(certificate: &Certificate) -> Value {
    json!({
        "commonName": certificate.common_name,
        "subject": certificate.subject,
        "issuer": certificate.issuer,
        "serialNumber": certificate.serial_number,
        "fingerprint": certificate.fingerprint,
        "notBefore": certificate.not_before,
        "notAfter": certificate.not_after,
        "dnsNames": certificate.dns_names,
        "uris": certificate.uris,
        "emailAddresses": certificate.email_addresses,
    })
}

/// `[2001:db8::7]:50123` is `2001:db8::7` and `50123`.
fn host_and_port(address: &str) -> (&str, &str) {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, ""));
    (host.trim_start_matches('[').trim_end_matches(']'), port)
}

const fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Mqtt31 => "3.1",
        Protocol::Mqtt311 => "3.1.1",
        Protocol::Mqtt5 => "5.0",
    }
}

fn pem(der: &[u8]) -> String {
    let mut text = "-----BEGIN CERTIFICATE-----\n".to_owned();
    for line in BASE64.encode(der).as_bytes().chunks(PEM_LINE_CHARS) {
        text.extend(line.iter().map(|byte| char::from(*byte)));
        text.push('\n');
    }
    text.push_str("-----END CERTIFICATE-----\n");
    text
}

#[cfg(test)]
mod tests {
    use portreeve_guest::testing::connect;

    use super::*;
    use crate::testing::with_certificate;

    fn text(connect: &Connect, name: &str) -> Option<String> {
        let peer = Peer { connect, product: "pumps" };
        peer.text(Placeholder::of(name).unwrap()).unwrap().map(Cow::into_owned)
    }

    #[test]
    fn a_connect_has_what_it_has() {
        let some = connect("c1").user_name("u:1").password([0xff, 0]).build();
        let value = |name| text(&some, name);
        assert_eq!(value("client_id").as_deref(), Some("c1"));
        assert_eq!(value("clientid"), value("client_id"));
        assert_eq!(value("username").as_deref(), Some("u:1"));
        assert_eq!(value("password_base64").as_deref(), Some("/wA="));
        assert_eq!(value("peerhost").as_deref(), Some("192.0.2.1"));
        assert_eq!(value("peer_port").as_deref(), Some("50000"));
        assert_eq!(value("product").as_deref(), Some("pumps"));
        assert_eq!(value("protocol").as_deref(), Some("5.0"));
        assert_eq!(value("cert_common_name"), None);
        let peer = Peer { connect: &some, product: "" };
        assert!(peer.text(Placeholder::Password).is_err(), "no text stands for these bytes");
        assert!(peer.text(Placeholder::BasicCredentials).is_err(), "a colon would divide it");
        assert_eq!(peer.text(Placeholder::Product).unwrap(), None);
        assert_eq!(peer.value(Placeholder::Certificate), None);
        let other = connect("").user_name("u").password("p").build();
        assert_eq!(text(&other, "basic_credentials").as_deref(), Some("dTpw"));
        assert_eq!(text(&other, "client_id").as_deref(), Some(""));
        assert_eq!(host_and_port("[2001:db8::7]:5"), ("2001:db8::7", "5"));
    }

    #[test]
    fn a_certificate_is_told_in_parts_in_pem_and_as_an_object() {
        let mutual = with_certificate(connect("c"), "device-1").build();
        let value = |name| text(&mutual, name).unwrap();
        assert_eq!(value("cert_common_name"), "device-1");
        assert_eq!(value("cert_subject"), "CN=device-1,O=Example");
        assert_eq!(value("cert_issuer"), "CN=ca");
        assert_eq!(value("cert_serial_number"), "1f");
        assert_eq!(value("cert_fingerprint"), "ab".repeat(32));
        assert_eq!(value("server_name"), "gw.example.com");
        let pem = value("cert_pem");
        assert!(pem.starts_with("-----BEGIN CERTIFICATE-----\nMAEC"), "{pem}");
        assert!(pem.lines().all(|line| line.len() <= PEM_LINE_CHARS), "{pem}");
        assert_eq!(BASE64.decode(value("cert_pem_base64")).unwrap(), pem.as_bytes());
        assert_eq!(value("cert_chain_pem").matches("BEGIN").count(), 1);
        let object =
            Peer { connect: &mutual, product: "" }.value(Placeholder::Certificate).unwrap();
        assert_eq!(object["commonName"], "device-1");
        assert_eq!(object["notAfter"], 2_000_000_000);
        assert_eq!(object["dnsNames"], json!(["device-1.example.com"]));
    }

    #[test]
    fn every_placeholder_has_a_name_of_its_own() {
        for (index, (name, _)) in NAMES.iter().enumerate() {
            assert!(NAMES[index + 1..].iter().all(|(other, _)| other != name), "{name}");
        }
    }
}
