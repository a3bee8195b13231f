//! What guests may import: one file for each interface of `wit/host.wit`, and WASI without a
//! file system and without sockets.

use wasmtime::StoreContextMut;
use wasmtime::component::{HasData, Linker, Resource};
use wasmtime_wasi::cli::{WasiCli, WasiCliView};
use wasmtime_wasi::filesystem::{WasiFilesystem, WasiFilesystemView};
use wasmtime_wasi::p2::bindings::{cli, filesystem, random};
use wasmtime_wasi::random::{WasiRandom, WasiRandomView};
use wasmtime_wasi_http::p2::bindings::http::outgoing_handler::Host as _;
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, Host as _};
use wasmtime_wasi_http::p2::types::{HostFutureIncomingResponse, HostOutgoingRequest};
use wasmtime_wasi_http::{RequestOptions, WasiHttpView};

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
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(linker)?;
    linker.allow_shadowing(true);
    let added = linker.instance(OUTGOING_HANDLER)?.func_wrap("handle", send);
    linker.allow_shadowing(false);
    added
}

/// The interface as the library names it.
const OUTGOING_HANDLER: &str = "wasi:http/outgoing-handler@0.2.12";

type Sent = Result<Resource<HostFutureIncomingResponse>, ErrorCode>;

/// The library's `handle`, less a leak: a request takes its options with it, and the library reads them and
/// leaves them in the table, which an instance that stays for many calls would fill.
fn send(
    mut store: StoreContextMut<'_, GuestState>,
    (request, options): (Resource<HostOutgoingRequest>, Option<Resource<RequestOptions>>),
) -> wasmtime::Result<(Sent,)> {
    let taken = options.as_ref().map(Resource::rep);
    let mut view = store.data_mut().http();
    let sent = view.handle(request, options);
    if let Some(rep) = taken {
        // Its guest has no handle to it any more.
        let _options = view.table.delete(Resource::<RequestOptions>::new_own(rep));
    }
    Ok((match sent {
        Ok(response) => Ok(response),
        Err(error) => Err(view.convert_error_code(error)?),
    },))
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
