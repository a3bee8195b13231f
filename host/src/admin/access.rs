//! Who asks, and what they may: on the Unix socket whoever may open it, elsewhere whoever shows a
//! token. And what they did.

use std::collections::VecDeque;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::problem::{Json, Problem, ProblemBody};
use super::{Admin, Peer};
use crate::access::{Scope, Token};

/// Who asks.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    name: Arc<str>,
    scope: Scope,
    audit: Arc<Audit>,
}

impl Caller {
    /// For histories.
    pub(super) fn name(&self) -> String {
        self.name.to_string()
    }

    pub(super) fn must_be_admin(&self, what: &str) -> Result<(), Problem> {
        if self.scope == Scope::Admin {
            return Ok(());
        }
        let detail = format!("{what}: the token's scope is {}, admin is needed", self.scope.name());
        Err(Problem::new(StatusCode::FORBIDDEN, detail))
    }

    /// Notes what was changed.
    pub(super) fn did(&self, action: &str, what: &str, detail: &str) {
        self.audit.note(&self.name, action, what, detail);
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        // Each listener puts it in; without it nobody is let in.
        parts.extensions.get::<Self>().cloned().ok_or_else(unauthorized)
    }
}

fn unauthorized() -> Problem {
    let detail =
        "say who you are: Authorization: Bearer TOKEN ([[admin.token]] of the configuration)";
    Problem::new(StatusCode::UNAUTHORIZED, detail)
}

/// Lets in whoever may open the Unix socket.
pub(super) async fn by_socket(
    State(audit): State<Arc<Audit>>,
    mut request: Request,
    next: Next,
) -> Response {
    let peer = request.extensions().get::<axum::extract::ConnectInfo<Peer>>();
    let name = peer.map_or_else(|| "admin".to_owned(), |peer| peer.0.name());
    request.extensions_mut().insert(Caller { name: name.into(), scope: Scope::Admin, audit });
    next.run(request).await
}

/// What a network listener knows.
#[derive(Debug)]
pub(super) struct Doorkeeper {
    pub(super) tokens: Vec<Token>,
    pub(super) audit: Arc<Audit>,
}

/// Lets in whoever shows a token with the scope that the request asks for.
pub(super) async fn by_token(
    State(doorkeeper): State<Arc<Doorkeeper>>,
    mut request: Request,
    next: Next,
) -> Response {
    if is_open(request.uri().path()) {
        return next.run(request).await;
    }
    let Some(token) = shown_token(request.headers(), &doorkeeper.tokens) else {
        let ask = [(header::WWW_AUTHENTICATE, "Bearer realm=\"portreeve\"")];
        return (ask, unauthorized()).into_response();
    };
    let needed = needed(request.method(), request.uri().path());
    if token.scope < needed {
        let (has, needed) = (token.scope.name(), needed.name());
        let detail = format!("the token {:?} has the scope {has}, {needed} is needed", token.name);
        return Problem::new(StatusCode::FORBIDDEN, detail).into_response();
    }
    let name = format!("token {}", token.name).into();
    let (scope, audit) = (token.scope, Arc::clone(&doorkeeper.audit));
    request.extensions_mut().insert(Caller { name, scope, audit });
    next.run(request).await
}

/// Health checks have no token.
fn is_open(path: &str) -> bool {
    matches!(path, "/healthz" | "/readyz")
}

fn needed(method: &Method, path: &str) -> Scope {
    match path {
        "/v1/audit" => Scope::Admin,
        "/v1/drain" if method != Method::GET => Scope::Admin,
        path if method != Method::GET && changes_files(path) => Scope::Admin,
        // What devices send is seen there.
        "/v1/record" | "/v1/retained" => Scope::Operate,
        path if path.ends_with("/trace") => Scope::Operate,
        _ if method == Method::GET || method == Method::HEAD || method == Method::OPTIONS => {
            Scope::Read
        }
        _ => Scope::Operate,
    }
}

/// Whether a request that is no GET changes what the gateway's files say.
fn changes_files(path: &str) -> bool {
    let of = |prefix: &str| path.strip_prefix(prefix).and_then(|rest| rest.split_once('/'));
    let of_plugin = of("/v1/plugins/");
    of("/v1/gateways/").is_some_and(|(_, what)| what != "publish")
        || of_plugin.is_some_and(|(_, what)| matches!(what, "rollout" | "component"))
}

/// The token of a request, if it is one that is accepted. Digests are compared, so that the time
/// tells nothing of the token.
fn shown_token<'a>(headers: &HeaderMap, tokens: &'a [Token]) -> Option<&'a Token> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, text) = value.split_once(' ')?;
    let digest = Token::digest_of(text.trim());
    tokens.iter().find(|token| token.digest == digest && scheme.eq_ignore_ascii_case("bearer"))
}

/// Characters of what was changed.
const TEXT_CHARS_MAX: usize = 256;
/// Files that are kept beside the one that is written to.
const FILES_MAX: u32 = 4;
/// Changes that are kept in memory.
const RECENT_MAX: usize = 1_000;
/// Bytes of the file at which it is renamed, and a new one begins.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// What was changed through the API, by whom: in the log, in `audit.jsonl` of the data directory, and
/// the last of it in memory.
#[derive(Debug, Default)]
pub(crate) struct Audit {
    recent: Mutex<VecDeque<Done>>,
    file: Option<Mutex<AuditFile>>,
}

#[derive(Debug)]
struct AuditFile {
    path: std::path::PathBuf,
    file: File,
    bytes: u64,
}

/// A change.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(super) struct Done {
    #[schema(format = DateTime)]
    at: String,
    /// Who.
    by: String,
    /// Did what.
    action: String,
    /// To what.
    what: String,
    detail: String,
}

impl Audit {
    /// Opens `audit.jsonl` in the data directory.
    ///
    /// # Errors
    /// When it cannot be written to.
    pub(crate) fn open(data: Option<&Path>) -> std::io::Result<Self> {
        let Some(data) = data else { return Ok(Self::default()) };
        std::fs::create_dir_all(data)?;
        let file = AuditFile::open(data.join("audit.jsonl"))?;
        Ok(Self { recent: Mutex::default(), file: Some(Mutex::new(file)) })
    }

    fn note(&self, by: &str, action: &str, what: &str, detail: &str) {
        tracing::info!(target: "audit", by, action, what, detail, "changed");
        let done = Done {
            at: humantime::format_rfc3339_millis(SystemTime::now()).to_string(),
            by: by.to_owned(),
            action: action.to_owned(),
            what: what.chars().take(TEXT_CHARS_MAX).collect(),
            detail: detail.chars().take(TEXT_CHARS_MAX).collect(),
        };
        if let Some(file) = &self.file
            && let Err(error) = file.lock().append(&done)
        {
            tracing::error!(%error, "the audit log cannot be written");
        }
        let mut recent = self.recent.lock();
        if recent.len() >= RECENT_MAX {
            recent.pop_front();
        }
        recent.push_back(done);
    }
}

impl AuditFile {
    fn open(path: std::path::PathBuf) -> std::io::Result<Self> {
        use std::os::unix::fs::OpenOptionsExt;
        let file = File::options().create(true).append(true).mode(0o600).open(&path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { path, file, bytes })
    }

    fn append(&mut self, done: &Done) -> std::io::Result<()> {
        if self.bytes >= FILE_BYTES_MAX {
            for number in (1..FILES_MAX).rev() {
                let older = |number: u32| self.path.with_extension(format!("jsonl.{number}"));
                if older(number).exists() {
                    std::fs::rename(older(number), older(number + 1))?;
                }
            }
            std::fs::rename(&self.path, self.path.with_extension("jsonl.1"))?;
            *self = Self::open(self.path.clone())?;
        }
        let line = format!("{}\n", json!(done));
        self.file.write_all(line.as_bytes())?;
        self.bytes += u64::try_from(line.len()).unwrap_or(u64::MAX);
        Ok(())
    }
}

/// Changes, the latest last.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AuditBody {
    changes: Vec<Done>,
}

/// List what was changed through the API
#[utoipa::path(get, path = "/v1/audit", tag = "operation", responses(
    (status = 200, body = AuditBody),
    (status = "default", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn audit(
    State(admin): State<Admin>,
    caller: Caller,
) -> Result<Json<AuditBody>, Problem> {
    caller.must_be_admin("the audit log")?;
    Ok(Json(AuditBody { changes: admin.audit.recent.lock().iter().cloned().collect() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_known_by_its_hash_and_opens_what_its_scope_does() {
        let token = |name: &str, scope| Token {
            name: name.to_owned(),
            scope,
            digest: Token::digest_of(name),
        };
        let tokens = [token("one", Scope::Read), token("two", Scope::Operate)];
        let shown_as = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            Some(shown_token(&headers, &tokens)?.name.as_str())
        };
        assert_eq!(shown_as("Bearer one"), Some("one"));
        assert_eq!(shown_as("bearer  two"), Some("two"));
        for value in ["Bearer three", "Basic one", "one", "Bearer ", ""] {
            assert_eq!(shown_as(value), None, "{value}");
        }
        assert!(Scope::Read < Scope::Operate && Scope::Operate < Scope::Admin);
        for (method, path, scope) in [
            (Method::GET, "/v1/devices", Scope::Read),
            (Method::POST, "/v1/devices", Scope::Operate),
            (Method::GET, "/v1/plugins/x/trace", Scope::Operate),
            (Method::GET, "/v1/audit", Scope::Admin),
            (Method::GET, "/v1/gateways/a", Scope::Read),
            (Method::POST, "/v1/gateways/a/publish", Scope::Operate),
            (Method::PATCH, "/v1/gateways/a/limits", Scope::Admin),
            (Method::POST, "/v1/plugins/a/promote", Scope::Operate),
            (Method::PUT, "/v1/plugins/a/component", Scope::Admin),
            (Method::PUT, "/v1/plugins/a/rollout", Scope::Admin),
            (Method::PUT, "/v1/gateways/a/certificates/gw", Scope::Admin),
        ] {
            assert_eq!(needed(&method, path), scope, "{method} {path}");
        }
    }

    #[test]
    fn changes_stand_in_a_file_of_the_gateway_alone() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let audit = Audit::open(Some(folder.path())).unwrap();
        audit.note("token ops", "delete", "device p/dev-1", "1 sessions ended");
        let path = folder.path().join("audit.jsonl");
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(r#""by":"token ops","action":"delete""#), "{text}");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(audit.recent.lock().len(), 1);
    }
}
