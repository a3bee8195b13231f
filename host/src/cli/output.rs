//! Everything that the command line prints.
#![expect(clippy::print_stderr, clippy::exit, reason = "this is where printing belongs")]

use std::process::ExitCode;

/// Something is wrong with what was given.
pub(crate) const FAILED: u8 = 1;

/// One line on standard output.
pub(crate) fn say(line: &str) {
    print(format_args!("{line}"));
}

/// Whoever reads may have seen enough, as `head` has: that is no error, and the end.
fn print(text: std::fmt::Arguments<'_>) {
    use std::io::Write;
    if writeln!(std::io::stdout(), "{text}").is_err() {
        std::process::exit(0);
    }
}

/// One line on standard error, and the exit code for it.
pub(crate) fn fail(line: &str) -> ExitCode {
    eprintln!("portreeve: {line}");
    ExitCode::from(FAILED)
}

/// The exit code of work that was done, or else its error on standard error.
pub(crate) fn code(done: Result<(), String>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
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
    print(format_args!("{value:#}"));
}

/// A warning on standard error.
pub(crate) fn warn(line: &str) {
    eprintln!("{line}");
}

pub(crate) fn table<const N: usize>(rows: Vec<[String; N]>) {
    let mut widths = [0_usize; N];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in rows {
        let cells: Vec<String> =
            row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        say(cells.join("  ").trim_end());
    }
}
