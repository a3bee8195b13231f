//! The command line: arguments, output, exit codes.
//!
//! Exit codes: 0 done; 1 something is wrong with what was given (configuration, plugin, answer);
//! 2 the arguments cannot be understood.

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

mod admin;
mod cert;
mod check;
mod device;
mod explain;
mod gateway;
mod order;
mod output;
mod pki;
mod plugin;
mod probe;
mod run;
mod session;
mod store;
mod tls;

/// An MQTT gateway that is extended with WebAssembly components.
#[derive(Debug, Parser)]
#[command(name = "portreeve", version, propagate_version = true, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway until SIGTERM or ctrl-c.
    Run(run::Run),
    /// Check configuration, plugins and bindings; say everything that is wrong.
    Check(check::Check),
    /// Work with devices: import, list, change, disable, delete, kick.
    #[command(subcommand)]
    Device(device::DeviceCommand),
    /// Work with sessions: list, show, end.
    #[command(subcommand)]
    Session(session::SessionCommand),
    /// Work with gateways: show them, change limits, bindings and certificates in their files.
    #[command(subcommand)]
    Gateway(gateway::GatewayCommand),
    /// Say why a device was let in or not: its last attempts, step by step.
    Explain(explain::Explain),
    /// Connect, ping and disconnect, as a health check does; exit code 0 where that works.
    Probe(probe::Probe),
    /// Work with the admin API: tokens, its description, what was changed.
    #[command(subcommand)]
    Admin(admin::AdminCommand),
    /// Work with plugins.
    #[command(subcommand)]
    Plugin(plugin::PluginCommand),
    /// Work with certificates: the gateway's own, authorities, CRLs, what is not let in.
    #[command(subcommand)]
    Cert(cert::CertCommand),
    /// Look at TLS: does it fit together, and would this device be let in?
    #[command(subcommand)]
    Tls(tls::TlsCommand),
    /// Run a certification authority for development: certificates, revocation, OCSP.
    #[command(subcommand)]
    Pki(pki::PkiCommand),
    /// Work with the store of a gateway that does not run.
    #[command(subcommand)]
    Store(store::StoreCommand),
    /// Print completions for a shell: `portreeve completions bash > /etc/bash_completion.d/portreeve`.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

pub(crate) fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return output::fail(&format!("the runtime does not start: {error}")),
    };
    let code = match arguments.command {
        Command::Run(run) => runtime.block_on(run.execute()),
        Command::Check(check) => runtime.block_on(check.execute()),
        Command::Device(command) => runtime.block_on(command.execute()),
        Command::Session(command) => runtime.block_on(command.execute()),
        Command::Gateway(command) => runtime.block_on(command.execute()),
        Command::Explain(explain) => runtime.block_on(explain.execute()),
        Command::Probe(probe) => runtime.block_on(probe.execute()),
        Command::Admin(command) => runtime.block_on(command.execute()),
        Command::Plugin(command) => runtime.block_on(command.execute()),
        Command::Cert(command) => runtime.block_on(command.execute()),
        Command::Tls(command) => runtime.block_on(command.execute()),
        Command::Pki(command) => runtime.block_on(command.execute()),
        Command::Store(command) => command.execute(),
        Command::Completions { shell } => {
            let mut command = Arguments::command();
            clap_complete::generate(shell, &mut command, "portreeve", &mut std::io::stdout());
            ExitCode::SUCCESS
        }
    };
    // A guest that computes must not hold the exit up.
    runtime.shutdown_background();
    code
}
