//! The admin API, spoken over a socket: requests and answers as they are.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A token with each scope, `read-token` and so on, as configuration.
#[must_use]
pub fn tokens() -> String {
    ["read", "operate", "admin"].iter().fold(String::new(), |mut text, scope| {
        let digest = portreeve::access::Token::digest_of(&format!("{scope}-token"));
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        text.push_str(&format!(
            "[[admin.token]]\nname = \"{scope}\"\nscope = \"{scope}\"\nsha256 = \"{digest}\"\n"
        ));
        text
    })
}

/// `[admin]` on a free port, with a token for each scope.
#[must_use]
pub fn admin_section() -> String {
    format!("[admin]\nlisten = \"127.0.0.1:0\"\n{}", tokens())
}

/// The API of a gateway, for whoever has `token`.
#[derive(Debug, Clone)]
pub struct Api {
    address: SocketAddr,
    token: Option<String>,
}

impl Api {
    /// With a token that opens everything.
    #[must_use]
    pub fn of(gateway: &crate::RunningGateway) -> Self {
        let address = gateway.server().admin_address().expect("it listens");
        Self { address, token: Some("admin-token".to_owned()) }
    }

    /// With another token, or none.
    #[must_use]
    pub fn by(&self, token: Option<&str>) -> Self {
        Self { address: self.address, token: token.map(str::to_owned) }
    }

    /// Where it is.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Asks: status, head and body.
    ///
    /// # Panics
    /// When there is no answer.
    #[must_use]
    pub fn raw(&self, method: &str, path: &str, kind: &str, body: &[u8]) -> (u16, String, String) {
        let mut stream = TcpStream::connect(self.address).expect("the API is there");
        stream.set_read_timeout(Some(PATIENCE)).expect("it can be set");
        let token = self.token.as_ref();
        let token = token.map(|token| format!("Authorization: Bearer {token}\r\n"));
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: gateway\r\nContent-Type: {kind}\r\n{}Content-Length: {}\r\n\
             Connection: close\r\n\r\n",
            token.unwrap_or_default(),
            body.len()
        );
        stream.write_all(head.as_bytes()).expect("it reads");
        // It may answer before it has read everything.
        let _is_read = stream.write_all(body);
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("it answers");
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head.split_whitespace().nth(1).and_then(|code| code.parse().ok());
        (status.expect("a status"), head.to_owned(), body.to_owned())
    }

    /// Asks with JSON: status and answer; null where there is none.
    ///
    /// # Panics
    /// When the answer is no JSON.
    #[must_use]
    pub fn ask(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let (status, _, answer) = self.raw(method, path, "application/json", body.as_bytes());
        let value = match answer.is_empty() {
            true => Value::Null,
            false => serde_json::from_str(&answer)
                .unwrap_or_else(|error| panic!("{method} {path}: {error}: {answer}")),
        };
        (status, value)
    }

    /// GET.
    ///
    /// # Panics
    /// When it is refused.
    #[must_use]
    pub fn get(&self, path: &str) -> Value {
        let (status, answer) = self.ask("GET", path, &Value::Null);
        assert_eq!(status, 200, "{path}: {answer}");
        answer
    }

    /// Something that is to be done.
    ///
    /// # Panics
    /// When it is refused.
    pub fn does(&self, method: &str, path: &str, body: &Value) -> Value {
        let (status, answer) = self.ask(method, path, body);
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        answer
    }
}
