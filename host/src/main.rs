//! The binary `portreeve`.

mod cli;

fn main() -> std::process::ExitCode {
    cli::main()
}
