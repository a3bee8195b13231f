//! A service over HTTPS that answers as a test says, and remembers what it was asked.

use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use crate::pki::{Certificate, named};

/// How long a connection may be silent.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the service was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// `POST`.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// Whether the client showed a certificate.
    pub has_certificate: bool,
}

impl Question {
    /// A header; empty where it is not there.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(other, _)| other == name).map_or("", |(_, value)| value)
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; null where it is none.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// What the service answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    status: u16,
    content_type: &'static str,
    body: String,
    delay: Duration,
}

impl Answer {
    /// A status without a body.
    #[must_use]
    pub const fn status(status: u16) -> Self {
        Self { status, content_type: "text/plain", body: String::new(), delay: Duration::ZERO }
    }

    /// 200 with JSON.
    #[must_use]
    pub fn json(body: impl ToString) -> Self {
        Self { content_type: "application/json", body: body.to_string(), ..Self::status(200) }
    }

    /// 200 with a body of another kind.
    #[must_use]
    pub fn text(content_type: &'static str, body: &str) -> Self {
        Self { content_type, body: body.to_owned(), ..Self::status(200) }
    }

    /// After a while.
    #[must_use]
    pub const fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }
}

type Answers = dyn Fn(&Question) -> Answer + Send + Sync;

/// A service on a free port of this machine, which shows the certificate `gw` of `int`. Its threads end with the
/// process.
pub struct HttpsService {
    /// Where it listens.
    pub address: SocketAddr,
    questions: Arc<Mutex<Vec<Question>>>,
}

impl HttpsService {
    /// Starts one that asks nobody for a certificate.
    #[must_use]
    pub fn start(answers: impl Fn(&Question) -> Answer + Send + Sync + 'static) -> Self {
        Self::start_with(None, answers)
    }

    /// Starts one that demands certificates below this authority.
    #[must_use]
    pub fn mutual(
        authority: &Certificate,
        answers: impl Fn(&Question) -> Answer + Send + Sync + 'static,
    ) -> Self {
        Self::start_with(Some(authority), answers)
    }

    fn start_with(
        authority: Option<&Certificate>,
        answers: impl Fn(&Question) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let config = Arc::new(config(authority));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("it has an address");
        let questions: Arc<Mutex<Vec<Question>>> = Arc::default();
        let (answers, asked): (Arc<Answers>, _) = (Arc::new(answers), Arc::clone(&questions));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (config, answers) = (Arc::clone(&config), Arc::clone(&answers));
                let asked = Arc::clone(&asked);
                // A client that goes away, or whose certificate is refused, ends its connection.
                std::thread::spawn(move || drop(serve(stream, config, &*answers, &asked)));
            }
        });
        Self { address, questions }
    }

    /// The address of a path.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("https://{}{path}", self.address)
    }

    /// What it was asked so far.
    #[must_use]
    pub fn questions(&self) -> Vec<Question> {
        self.questions.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn certificates(path: &Path) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_file_iter(path)
        .expect("it was issued")
        .map(|certificate| certificate.expect("a certificate"))
        .collect()
}

fn config(authority: Option<&Certificate>) -> ServerConfig {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let own = named("gw");
    let chain = [certificates(&own.crt), certificates(&named("int").crt)].concat();
    let key = PrivateKeyDer::from_pem_file(&own.key).expect("a key");
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("the provider has TLS 1.2 and 1.3");
    let builder = match authority {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            let (added, _) = roots.add_parsable_certificates(certificates(&authority.crt));
            assert_eq!(added, 1, "the authority is one");
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            builder.with_client_cert_verifier(verifier.expect("a verifier"))
        }
    };
    builder.with_single_cert(chain, key).expect("a certificate with its key")
}

fn serve(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    answers: &Answers,
    asked: &Mutex<Vec<Question>>,
) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    let connection = ServerConnection::new(config).map_err(Error::other)?;
    let mut stream = BufReader::new(StreamOwned::new(connection, stream));
    while let Some(question) = read(&mut stream)? {
        asked.lock().unwrap_or_else(PoisonError::into_inner).push(question.clone());
        let answer = answers(&question);
        std::thread::sleep(answer.delay);
        let Answer { status, content_type, body, .. } = answer;
        let answer = format!(
            "HTTP/1.1 {status} Answer\r\ncontent-type: {content_type}\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let writer = stream.get_mut();
        writer.write_all(answer.as_bytes())?;
        writer.flush()?;
    }
    Ok(())
}

/// The next question; none where the client has ended.
fn read(
    stream: &mut BufReader<StreamOwned<ServerConnection, TcpStream>>,
) -> std::io::Result<Option<Question>> {
    let mut line = String::new();
    match stream.read_line(&mut line) {
        Ok(0) => return Ok(None),
        // Not every client says goodbye.
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
        other => drop(other?),
    }
    let mut words = line.split_whitespace().map(str::to_owned);
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut headers = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let Some((name, value)) = line.split_once(':') else { break };
        headers.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
    }
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let mut body = vec![0; length.and_then(|(_, value)| value.parse().ok()).unwrap_or(0)];
    stream.read_exact(&mut body)?;
    let has_certificate = stream.get_ref().conn.peer_certificates().is_some();
    Ok(Some(Question { method, target, headers, body, has_certificate }))
}
