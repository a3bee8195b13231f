//! `portreeve plugin componentize`: the last step of languages whose compilers make core modules.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use wasi_preview1_component_adapter_provider::{
    WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER,
};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::{PackageId, Resolve, SourceMap};

use crate::cli::output;

/// What the contract's worlds do not have and a module may import: HTTP, and what HTTP stands on. Each
/// is a package of its own, and follows those that it uses.
const WASI: &[(&str, &str)] = &[
    ("deps/io.wit", include_str!("../../../../wit/deps/io.wit")),
    ("deps/http.wit", include_str!("../../../../wit/deps/http.wit")),
];

/// The contract.
const WIT: &[(&str, &str)] = &[
    ("host.wit", include_str!("../../../../wit/host.wit")),
    ("on-connect.wit", include_str!("../../../../wit/on-connect.wit")),
    ("on-publish.wit", include_str!("../../../../wit/on-publish.wit")),
    ("types.wit", include_str!("../../../../wit/types.wit")),
    ("worlds.wit", include_str!("../../../../wit/worlds.wit")),
];

const VERIFY: &str = "portreeve:plugin/on-connect@0.1.0#verify";
const PARSE: &str = "portreeve:plugin/on-publish@0.1.0#parse";

/// Make a component of a core module that exports `verify` or `parse` by their full names.
#[derive(Debug, Args)]
#[command(after_help = "The module is a WASI preview 1 reactor (`zig cc -target wasm32-wasi \
-mexec-model=reactor`) or imports no WASI. Its exports tell which world it is of:
  portreeve:plugin/on-connect@0.1.0#verify
  portreeve:plugin/on-publish@0.1.0#parse")]
pub(crate) struct Componentize {
    /// The core module.
    module: PathBuf,
    /// The component.
    #[arg(long, short, value_name = "FILE")]
    out: PathBuf,
}

impl Componentize {
    pub(crate) fn execute(self) -> ExitCode {
        match self.run() {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => output::fail(&error),
        }
    }

    fn run(&self) -> Result<(), String> {
        let faulty =
            |path: &Path, error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let module = std::fs::read(&self.module).map_err(|error| faulty(&self.module, &error))?;
        let component = componentize(&module).map_err(|error| faulty(&self.module, &error))?;
        std::fs::write(&self.out, component).map_err(|error| faulty(&self.out, &error))
    }
}

fn componentize(core: &[u8]) -> Result<Vec<u8>, String> {
    let text = |error: anyhow::Error| format!("{error:#}");
    let world = world_of(core)?;
    let mut resolve = Resolve::default();
    for source in WASI {
        push(&mut resolve, std::slice::from_ref(source))?;
    }
    push(&mut resolve, WIT)?;
    let package = push(&mut resolve, &[("componentize.wit", &with_http(world))])?;
    let world = resolve.select_world(&[package], Some(world)).map_err(|error| error.to_string())?;
    let mut module = core.to_vec();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8).map_err(text)?;
    ComponentEncoder::default()
        .validate(true)
        .module(&module)
        .map_err(text)?
        .adapter(WASI_SNAPSHOT_PREVIEW1_ADAPTER_NAME, WASI_SNAPSHOT_PREVIEW1_REACTOR_ADAPTER)
        .map_err(text)?
        .encode()
        .map_err(text)
}

/// The contract's world with HTTP. The encoder leaves out what the module does not import, so that a
/// component that makes no requests does not ask for them.
fn with_http(world: &str) -> String {
    format!(
        "package portreeve:componentize;\nworld {world} {{\n  \
         include portreeve:plugin/{world}@0.1.0;\n  \
         import wasi:http/outgoing-handler@0.2.2;\n}}\n"
    )
}

fn push(resolve: &mut Resolve, files: &[(&str, &str)]) -> Result<PackageId, String> {
    let mut sources = SourceMap::new();
    for (name, text) in files {
        sources.push_str(name, *text);
    }
    let group = sources.parse().map_err(|(sources, error)| error.render(&sources))?;
    resolve.push_group(group).map_err(|error| error.to_string())
}

/// The world is known by what the module exports.
fn world_of(core: &[u8]) -> Result<&'static str, String> {
    if core.starts_with(b"\0asm\x0d") {
        return Err("this is a component already".to_owned());
    }
    if !core.starts_with(b"\0asm\x01\0\0\0") {
        return Err("this is no WebAssembly module".to_owned());
    }
    let mut names = Vec::new();
    for payload in wasmparser::Parser::new(0).parse_all(core) {
        let payload = payload.map_err(|error| format!("not a valid module: {error}"))?;
        if let wasmparser::Payload::ExportSection(exports) = payload {
            for export in exports {
                names.push(export.map_err(|error| format!("not a valid module: {error}"))?.name);
            }
        }
    }
    match (names.contains(&VERIFY), names.contains(&PARSE)) {
        (true, true) => Ok("plugin"),
        (true, false) => Ok("verifier"),
        (false, true) => Ok("parser"),
        (false, false) => Err(format!("it exports neither {VERIFY} nor {PARSE}")),
    }
}

#[cfg(test)]
mod tests {
    use super::componentize;

    #[test]
    fn what_is_no_module_says_what_it_is() {
        let error = |bytes: &[u8]| componentize(bytes).unwrap_err();
        assert!(error(b"int main").contains("no WebAssembly module"));
        assert!(error(b"\0asm\x0d\0\x01\0").contains("a component already"));
        assert!(error(b"\0asm\x01\0\0\0").contains("exports neither"));
        assert!(error(b"\0asm\x01\0\0\0\x01").contains("not a valid module"));
    }
}
