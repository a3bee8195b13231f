//! What guests may import: one file for each interface of `wit/host.wit`, and WASI without a
//! file system and without sockets.

use wasmtime::component::{HasData, Linker};
use wasmtime_wasi::cli::{WasiCli, WasiCliView};
use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemView};
use wasmtime_wasi::p2::bindings::{cli, filesystem, random};
use wasmtime_wasi::random::{WasiRandom, WasiRandomView};

use crate::bindings::portreeve::plugin as imports;
use crate::instance::GuestState;

pub(crate) mod http;
pub(crate) mod log;
mod settings;
pub(crate) mod state;
pub(crate) mod stdio;

struct Host;

impl HasData for Host {
    type Data<'a> = &'a mut GuestState;
}

impl imports::types::Host for GuestState {}

pub(crate) fn add_to_linker(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    imports::types::add_to_linker::<_, Host>(linker, |state| state)?;
    imports::log::add_to_linker::<_, Host>(linker, |state| state)?;
    imports::settings::add_to_linker::<_, Host>(linker, |state| state)?;
    imports::state::add_to_linker::<_, Host>(linker, |state| state)?;
    add_wasi_to_linker(linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(linker)
}

/// WASI 0.2 less sockets. The file system is there, since standard libraries import it, and is
/// empty: no directory is opened for a guest, so there is no path that it could name.
fn add_wasi_to_linker(linker: &mut Linker<GuestState>) -> wasmtime::Result<()> {
    // wasi:io, the clocks, random, and the standard streams.
    wasmtime_wasi::p2::add_to_linker_proxy_interfaces_async(linker)?;
    random::insecure::add_to_linker::<_, WasiRandom>(linker, WasiRandomView::random)?;
    random::insecure_seed::add_to_linker::<_, WasiRandom>(linker, WasiRandomView::random)?;
    cli::exit::add_to_linker::<_, WasiCli>(linker, WasiCliView::cli)?;
    cli::environment::add_to_linker::<_, WasiCli>(linker, WasiCliView::cli)?;
    cli::terminal_input::add_to_linker::<_, WasiCli>(linker, WasiCliView::cli)?;
    cli::terminal_output::add_to_linker::<_, WasiCli>(linker, WasiCliView::cli)?;
    cli::terminal_stdin::add_to_linker::<_, WasiCli>(linker, WasiCliView::cli)?;
    cli::terminal_stdout::add_to_linker::<_, WasiCli>(linker, WasiCliView::cli)?;
    cli::terminal_stderr::add_to_linker::<_, WasiCli>(linker, WasiCliView::cli)?;
    filesystem::preopens::add_to_linker::<_, WasiFilesystem>(
        linker,
        WasiFilesystemView::filesystem,
    )?;
    filesystem::types::add_to_linker::<_, WasiFilesystem>(linker, WasiFilesystemView::filesystem)
}
