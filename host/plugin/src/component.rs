//! From bytes to a component that can be instantiated: compile, check what it imports and
//! exports before any of its code runs, look its exports up.

use std::collections::BTreeSet;
use std::sync::Arc;

use wasmtime::component::Component;

use crate::bindings::exports::portreeve::plugin::{on_connect, on_publish};
use crate::call::CallError;
use crate::capabilities::Capabilities;
use crate::engine::Engine;
use crate::host_functions::http::ClientError;
use crate::instance::PreInstance;

mod code_cache;
mod composition;
mod intricacy;

pub use code_cache::CodeCache;
use composition::TooComposed;
use intricacy::TooIntricate;

/// Why a file is no plugin, or not one that may run here.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The bytes are a core module.
    #[error(
        "this is a core WebAssembly module, not a component: build it for wasm32-wasip2, or wrap \
         it with `wasm-tools component new`"
    )]
    CoreModule,
    /// The bytes are no WebAssembly at all, or not valid.
    #[error("not a valid WebAssembly component: {0}")]
    Invalid(String),
    /// It is valid, and made so that compiling it would take too long or too much memory.
    #[error("it is not compiled: {0}")]
    TooMuch(String),
    /// It imports what is not given to it.
    #[error("it imports what it is not given:{}", list(.0))]
    Imports(Vec<RefusedImport>),
    /// It exports none of the interfaces of `wit/`.
    #[error(
        "it exports neither portreeve:plugin/on-connect@0.1.0 (a verifier) nor \
         portreeve:plugin/on-publish@0.1.0 (a parser); its exports:{}", list(.0)
    )]
    Exports(Vec<String>),
    /// Its HTTP client does not start.
    #[error(transparent)]
    Http(#[from] ClientError),
    /// Making it ready was interrupted.
    #[error("making it ready was interrupted: {0}")]
    Interrupted(String),
    /// Its first instance did not start.
    #[error("it does not start: {source}{}", said(lines))]
    Start {
        /// What it did.
        source: CallError,
        /// What it wrote to its log before.
        lines: Vec<String>,
    },
}

/// Lines of a plugin that are told of a start that failed.
const SAID_LINES_MAX: usize = 4;
/// Characters of them.
const SAID_CHARS_MAX: usize = 512;

/// The last lines of a plugin, as the end of a message.
fn said(lines: &[String]) -> String {
    let first = lines.len().saturating_sub(SAID_LINES_MAX);
    let text = lines.get(first..).unwrap_or_default().join("; ");
    let text: String = text.chars().take(SAID_CHARS_MAX).collect();
    if text.is_empty() { text } else { format!("; it said: {text}") }
}

fn list<T: std::fmt::Display>(items: &[T]) -> String {
    if items.is_empty() {
        return " none".to_owned();
    }
    items.iter().map(|item| format!("\n  {item}")).collect()
}

/// An import that is not given, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{name}: {reason}")]
pub struct RefusedImport {
    /// The name with its version, as it stands in the component.
    pub name: String,
    /// Why, and what to do.
    pub reason: &'static str,
    /// The manifest's key that would grant it, if one does.
    pub grant: Option<&'static str>,
}

/// Interfaces of WASI 0.2 that a plugin may import where its manifest does not say otherwise; `engine` links just these.
const WASI: &[&str] = &[
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/stderr",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:cli/terminal-stderr",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:http/outgoing-handler",
    "wasi:http/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
];

const OURS: &[&str] = &[
    "portreeve:plugin/log",
    "portreeve:plugin/settings",
    "portreeve:plugin/state",
    "portreeve:plugin/types",
];

/// The key of the manifest that decides about an interface.
fn grant(interface: &str) -> Option<&'static str> {
    match interface {
        "portreeve:plugin/state" => Some("state"),
        name if name.starts_with("wasi:clocks/") => Some("clock"),
        name if name.starts_with("wasi:random/") => Some("random"),
        name if name.starts_with("wasi:http/") => Some("http"),
        _ => None,
    }
}

/// Why an import is refused; `None` when it is given.
fn refusal(name: &str, given: &Capabilities) -> Option<&'static str> {
    let (interface, version) = name.split_once('@').unwrap_or((name, ""));
    match grant(interface) {
        Some("state") if !given.state => return Some("the manifest says state = false"),
        Some("clock") if !given.clock => return Some("the manifest says clock = false"),
        Some("random") if !given.random => return Some("the manifest says random = false"),
        Some("http") if given.http.is_none() => {
            return Some(
                "no HTTP is granted to it; name in its manifest what it may reach: http = [\"https://auth.example.com/verify\"]",
            );
        }
        _ => {}
    }
    if OURS.contains(&interface) {
        return (!version.starts_with("0.1."))
            .then_some("this gateway serves version 0.1 of the plugin contract");
    }
    if WASI.contains(&interface) {
        return (!version.starts_with("0.2."))
            .then_some("this gateway serves version 0.2 of WASI; build for wasm32-wasip2");
    }
    Some(match interface {
        name if name.starts_with("wasi:sockets/") => "plugins have no sockets",
        name if name.starts_with("wasi:http/") => "plugins make requests, they do not serve them",
        name if name.starts_with("wasi:filesystem/") => "plugins have no file system",
        name if name.starts_with("portreeve:plugin/") => {
            "the plugin contract has no such interface"
        }
        _ => "unknown here; plugins import portreeve:plugin/log, settings, state and WASI 0.2",
    })
}

/// A component that was checked, ready to be instantiated.
pub struct Loaded {
    pub(crate) pre: PreInstance,
    /// What it imports, with versions.
    pub imports: Vec<String>,
    /// What it exports, with versions.
    pub exports: Vec<String>,
    /// Keys of the manifest that grant what it imports.
    pub grants: Vec<&'static str>,
}

impl Loaded {
    /// The version of the plugin contract that it was built for.
    #[must_use]
    pub fn contract(&self) -> Option<&str> {
        let mut names = self.exports.iter();
        let name = names.find(|name| name.starts_with("portreeve:plugin/on-"))?;
        name.split_once('@').map(|(_, version)| version)
    }
}

impl std::fmt::Debug for Loaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loaded")
            .field("imports", &self.imports)
            .field("exports", &self.exports)
            .finish_non_exhaustive()
    }
}

/// Compiles `bytes` (or takes the code from `cache`) and checks imports and exports. None of
/// the component's code runs. Takes seconds for large components: not for an I/O thread.
///
/// # Errors
/// [`LoadError`] naming everything that is refused or missing.
pub fn load_component(
    engine: &Engine,
    bytes: &[u8],
    given: &Capabilities,
    cache: Option<&CodeCache>,
) -> Result<Loaded, LoadError> {
    // The fifth byte tells a component (layer 1) from a module (layer 0).
    if bytes.starts_with(b"\0asm\x01\0\0\0") {
        return Err(LoadError::CoreModule);
    }
    // In threads of low priority: messages go on meanwhile.
    let component = engine
        .compilers
        .install(|| match cache {
            Some(cache) => cache.compile(engine, bytes),
            None => compile(engine, bytes),
        })
        .map_err(|error| match error.downcast_ref::<TooMuch>() {
            Some(much) => LoadError::TooMuch(much.to_string()),
            None => LoadError::Invalid(format!("{error:#}")),
        })?;
    let component_type = component.component_type();
    let names = |iterator: &mut dyn Iterator<Item = &str>| -> Vec<String> {
        iterator.map(str::to_owned).collect()
    };
    let imports = names(&mut component_type.imports(&engine.wasmtime).map(|(name, _)| name));
    let exports = names(&mut component_type.exports(&engine.wasmtime).map(|(name, _)| name));
    let refused: Vec<RefusedImport> = imports
        .iter()
        .filter_map(|name| {
            let reason = refusal(name, given)?;
            let interface = name.split('@').next().unwrap_or_default();
            Some(RefusedImport { name: name.clone(), reason, grant: grant(interface) })
        })
        .collect();
    if !refused.is_empty() {
        return Err(LoadError::Imports(refused));
    }
    let pre = engine
        .linker
        .instantiate_pre(&component)
        .map_err(|error| LoadError::Invalid(format!("{error:#}")))?;
    let exports_it = |interface: &str| exports.iter().any(|name| name.starts_with(interface));
    // An interface of the right name without the function is a mistake, not another role.
    let shape = |error: wasmtime::Error| LoadError::Invalid(format!("{error:#}"));
    let verifier = match on_connect::GuestIndices::new(&pre) {
        Ok(indices) => Some(Arc::new(indices)),
        Err(error) if exports_it("portreeve:plugin/on-connect@0.1.") => return Err(shape(error)),
        Err(_) => None,
    };
    let parser = match on_publish::GuestIndices::new(&pre) {
        Ok(indices) => Some(Arc::new(indices)),
        Err(error) if exports_it("portreeve:plugin/on-publish@0.1.") => return Err(shape(error)),
        Err(_) => None,
    };
    if verifier.is_none() && parser.is_none() {
        return Err(LoadError::Exports(exports));
    }
    let interfaces = imports.iter().filter_map(|name| name.split('@').next());
    let grants: BTreeSet<&str> = interfaces.filter_map(grant).collect();
    let grants = grants.into_iter().collect();
    Ok(Loaded { pre: PreInstance { pre, verifier, parser }, imports, exports, grants })
}

/// Why bytes are not given to the compiler.
#[derive(Debug, thiserror::Error)]
enum TooMuch {
    #[error(transparent)]
    Composed(TooComposed),
    #[error(transparent)]
    Intricate(TooIntricate),
}

/// Compiles what the compiler can be asked to compile.
fn compile(engine: &Engine, bytes: &[u8]) -> wasmtime::Result<Component> {
    match composition::check(bytes) {
        Ok(()) => {}
        Err(TooComposed::Invalid(error)) => return Err(error.into()),
        Err(much) => return Err(TooMuch::Composed(much).into()),
    }
    match intricacy::check(bytes) {
        Ok(()) => {}
        Err(TooIntricate::Invalid(error)) => return Err(error.into()),
        Err(much) => return Err(TooMuch::Intricate(much).into()),
    }
    Component::from_binary(&engine.wasmtime, bytes)
}

#[cfg(test)]
mod tests {
    use super::{LoadError, load_component};
    use crate::{Capabilities, Engine, HttpPolicy};

    fn refusal(name: &str) -> Option<&'static str> {
        super::refusal(name, &Capabilities::default())
    }

    #[test]
    fn imports_are_given_as_the_manifest_grants_them() {
        let http = "wasi:http/outgoing-handler@0.2.6";
        assert!(refusal(http).unwrap().contains("http = ["));
        let grants = vec!["https://auth.example.com/".parse().unwrap()];
        let given = Capabilities { http: Some(HttpPolicy::new(grants)), ..Default::default() };
        assert_eq!(super::refusal(http, &given), None);
        assert!(super::refusal("wasi:http/incoming-handler@0.2.6", &given).is_some());
        assert!(super::refusal("wasi:http/outgoing-handler@0.3.0", &given).is_some());
        let given =
            Capabilities { state: false, clock: false, random: false, ..Default::default() };
        for (name, key) in [
            ("portreeve:plugin/state@0.1.0", "state = false"),
            ("wasi:clocks/wall-clock@0.2.6", "clock = false"),
            ("wasi:random/insecure-seed@0.2.6", "random = false"),
        ] {
            assert_eq!(refusal(name), None);
            assert!(super::refusal(name, &given).unwrap().contains(key));
        }
    }

    #[test]
    fn imports_are_compared_by_interface_and_version() {
        assert_eq!(refusal("wasi:io/streams@0.2.6"), None);
        assert_eq!(refusal("wasi:io/streams@0.2.12"), None);
        assert_eq!(refusal("portreeve:plugin/log@0.1.0"), None);
        assert!(refusal("wasi:io/streams@0.3.0").unwrap().contains("0.2"));
        assert!(refusal("portreeve:plugin/log@2.0.0").unwrap().contains("0.1"));
        assert!(refusal("wasi:sockets/tcp@0.2.0").unwrap().contains("sockets"));
        assert!(refusal("wasi:http/outgoing-handler@0.2.0").unwrap().contains("HTTP"));
        assert!(refusal("acme:db/query").is_some());
    }

    #[test]
    fn what_is_no_component_says_what_it_is() {
        let (engine, given) = (Engine::new().unwrap(), Capabilities::default());
        let module = load_component(&engine, b"\0asm\x01\0\0\0", &given, None);
        assert!(matches!(module, Err(LoadError::CoreModule)));
        let text = load_component(&engine, b"fn main() {}", &given, None);
        assert!(matches!(text, Err(LoadError::Invalid(_))));
        let empty = load_component(&engine, b"\0asm\x0d\0\x01\0", &given, None);
        assert!(matches!(empty, Err(LoadError::Exports(exports)) if exports.is_empty()));
    }
}
