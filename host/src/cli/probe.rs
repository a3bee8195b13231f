//! `portreeve probe`: connects, pings and disconnects, for health checks of containers and load
//! balancers. It reads and writes with a codec that is not ours (`mqttbytes`), so that it also tells
//! whether others understand what the gateway says.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use clap::Args;
use mqttbytes::v4::{self, Connect, ConnectReturnCode, Packet};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::output;

/// Bytes of an answer.
const PACKET_BYTES_MAX: usize = 64 << 10;

/// Connect, ping and disconnect, as a health check does.
#[derive(Debug, Args)]
pub(crate) struct Probe {
    /// The listener: HOST:PORT.
    #[arg(value_name = "HOST:PORT")]
    address: String,
    /// User name; its password stands in PORTREEVE_PROBE_PASSWORD.
    #[arg(long)]
    user_name: Option<String>,
    /// Client identifier.
    #[arg(long, default_value = "portreeve-probe")]
    client_id: String,
    /// Time for all of it.
    #[arg(long, default_value = "5s", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// Over TLS, with the authorities of this file (PEM).
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// The name that the certificate is for; HOST where it is left out.
    #[arg(long, requires = "ca")]
    server_name: Option<String>,
    /// A certificate to show (PEM).
    #[arg(long, value_name = "FILE", requires_all = ["ca", "key"])]
    certificate: Option<PathBuf>,
    /// Its key (PEM).
    #[arg(long, value_name = "FILE", requires = "certificate")]
    key: Option<PathBuf>,
    /// Whether a refusal of the credentials is good enough: the gateway is there, and decides.
    #[arg(long)]
    accept_refusal: bool,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

/// How far it came.
#[derive(Debug, Default)]
struct Seen {
    connected_us: Option<u128>,
    admitted_us: Option<u128>,
    ping_us: Option<u128>,
    return_code: Option<String>,
}

impl Probe {
    pub(crate) async fn execute(self) -> ExitCode {
        let mut seen = Seen::default();
        let probed = tokio::time::timeout(self.timeout, self.probe(&mut seen)).await;
        let probed = probed.unwrap_or_else(|_| {
            let timeout = humantime::format_duration(self.timeout);
            Err(format!("no answer within {timeout}"))
        });
        if self.json {
            let Seen { connected_us, admitted_us, ping_us, return_code } = &seen;
            output::json(&json!({
                "ok": probed.is_ok(), "error": probed.as_ref().err(), "connected_us": connected_us,
                "connack_us": admitted_us, "pingresp_us": ping_us, "return_code": return_code,
            }));
        }
        match probed {
            Ok(()) if self.json => ExitCode::SUCCESS,
            Ok(()) => {
                let code = seen.return_code.unwrap_or_default();
                let us = seen.ping_us.or(seen.admitted_us).unwrap_or_default();
                output::say(&format!("{}: {code}, {us} us", self.address));
                ExitCode::SUCCESS
            }
            Err(_) if self.json => ExitCode::from(output::FAILED),
            Err(error) => output::fail(&format!("{}: {error}", self.address)),
        }
    }

    async fn probe(&self, seen: &mut Seen) -> Result<(), String> {
        let begin = Instant::now();
        let stream = TcpStream::connect(&self.address).await;
        let stream = stream.map_err(|error| format!("it cannot be reached: {error}"))?;
        let _faster = stream.set_nodelay(true);
        let Some(ca) = &self.ca else {
            seen.connected_us = Some(begin.elapsed().as_micros());
            return self.speak(stream, begin, seen).await;
        };
        let config = self.tls(ca)?;
        let host = self.address.rsplit_once(':').map_or(self.address.as_str(), |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = self.server_name.as_deref().unwrap_or(host).to_owned();
        let name = ServerName::try_from(name).map_err(|error| error.to_string())?;
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
        let stream = stream.map_err(|error| format!("TLS: {error}"))?;
        seen.connected_us = Some(begin.elapsed().as_micros());
        self.speak(stream, begin, seen).await
    }

    fn tls(&self, ca: &PathBuf) -> Result<ClientConfig, String> {
        let of =
            |path: &PathBuf, error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let mut roots = RootCertStore::empty();
        for authority in CertificateDer::pem_file_iter(ca).map_err(|error| of(ca, &error))? {
            let authority = authority.map_err(|error| of(ca, &error))?;
            roots.add(authority).map_err(|error| of(ca, &error))?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots);
        let (Some(certificate), Some(key)) = (&self.certificate, &self.key) else {
            return Ok(builder.with_no_client_auth());
        };
        let chain = CertificateDer::pem_file_iter(certificate)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|error| of(certificate, &error))?;
        let secret = PrivateKeyDer::from_pem_file(key).map_err(|error| of(key, &error))?;
        builder.with_client_auth_cert(chain, secret).map_err(|error| of(certificate, &error))
    }

    async fn speak(
        &self,
        mut stream: impl AsyncRead + AsyncWrite + Unpin,
        begin: Instant,
        seen: &mut Seen,
    ) -> Result<(), String> {
        let mut connect = Connect::new(self.client_id.clone());
        connect.keep_alive = 60;
        if let Some(user_name) = &self.user_name {
            let password = std::env::var("PORTREEVE_PROBE_PASSWORD").unwrap_or_default();
            connect.set_login(user_name.clone(), password);
        }
        send(&mut stream, |buffer| connect.write(buffer)).await?;
        let mut buffer = BytesMut::new();
        let Packet::ConnAck(connack) = receive(&mut stream, &mut buffer).await? else {
            return Err("its first packet is no CONNACK".to_owned());
        };
        seen.admitted_us = Some(begin.elapsed().as_micros());
        seen.return_code = Some(format!("{:?}", connack.code));
        if connack.code != ConnectReturnCode::Success {
            let refusals =
                [ConnectReturnCode::BadUserNamePassword, ConnectReturnCode::NotAuthorized];
            return match self.accept_refusal && refusals.contains(&connack.code) {
                true => Ok(()),
                false => Err(format!("CONNECT is refused: {:?}", connack.code)),
            };
        }
        send(&mut stream, |buffer| v4::PingReq.write(buffer)).await?;
        let Packet::PingResp = receive(&mut stream, &mut buffer).await? else {
            return Err("its answer to PINGREQ is no PINGRESP".to_owned());
        };
        seen.ping_us = Some(begin.elapsed().as_micros());
        send(&mut stream, |buffer| v4::Disconnect.write(buffer)).await
    }
}

/// Writes a packet, with a buffer of its own.
async fn send(
    stream: &mut (impl AsyncWrite + Unpin),
    write: impl FnOnce(&mut BytesMut) -> Result<usize, mqttbytes::Error>,
) -> Result<(), String> {
    let mut buffer = BytesMut::new();
    write(&mut buffer).map_err(|error| format!("a packet cannot be written: {error:?}"))?;
    stream
        .write_all(&buffer)
        .await
        .map_err(|error| format!("it does not take a packet: {error}"))?;
    stream.flush().await.map_err(|error| format!("it does not take a packet: {error}"))
}

async fn receive(
    stream: &mut (impl AsyncRead + Unpin),
    buffer: &mut BytesMut,
) -> Result<Packet, String> {
    loop {
        match v4::read(buffer, PACKET_BYTES_MAX) {
            Ok(packet) => return Ok(packet),
            Err(mqttbytes::Error::InsufficientBytes(_)) => {}
            Err(error) => return Err(format!("its answer cannot be read: {error:?}")),
        }
        let read = stream.read_buf(buffer).await.map_err(|error| format!("no answer: {error}"))?;
        if read == 0 {
            return Err("it closed the connection".to_owned());
        }
    }
}
