//! Everything that the command line prints.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "this is where printing belongs")]

use std::process::ExitCode;

/// Something is wrong with what was given.
pub(crate) const FAILED: u8 = 1;

/// One line on standard output.
pub(crate) fn say(line: &str) {
    println!("{line}");
}

/// One line on standard error, and the exit code for it.
pub(crate) fn fail(line: &str) -> ExitCode {
    eprintln!("portreeve: {line}");
    ExitCode::from(FAILED)
}

/// Lines on standard error, and the exit code for them.
pub(crate) fn fail_all(lines: &[String]) -> ExitCode {
    for line in lines {
        eprintln!("portreeve: {line}");
    }
    ExitCode::from(FAILED)
}

/// JSON on standard output.
pub(crate) fn json(value: &serde_json::Value) {
    println!("{value:#}");
}
