//! Each normative statement of MQTT 3.1.1 and 5.0 has a test, or a reason why it has none:
//! `data/statements.tsv`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::allow_attributes,
    reason = "tests stop at the first surprise"
)]

use std::collections::{BTreeMap, BTreeSet};

use portreeve_tests::guests::workspace;

const HEADER: &str = "version\tid\tbinds\tstatement\ttest";
/// How many statements each version has.
const VERSIONS: [(&str, usize); 2] = [("3.1.1", 141), ("5.0", 251)];
/// What a reason for no test begins with: it is a duty of clients, it cannot be seen, or it does
/// not hold.
const REASONS: [&str; 3] = ["binds the client only: ", "not observable: ", "not kept: "];

/// A line of the table.
struct Statement<'a> {
    version: &'a str,
    id: &'a str,
    binds: &'a str,
    text: &'a str,
    /// `file:function` of its tests, or why it has none.
    test: Result<Vec<&'a str>, &'a str>,
}

impl<'a> Statement<'a> {
    fn parse(line: &'a str) -> Self {
        let fields: Vec<&str> = line.split('\t').collect();
        let [version, id, binds, text, test] = fields[..] else {
            panic!("not five fields: {line}");
        };
        let test = match test.strip_prefix("- ") {
            Some(reason) => Err(reason),
            None => Ok(test.split(' ').collect()),
        };
        Self { version, id, binds, text, test }
    }
}

/// The test functions of a source file.
fn tests_of(file: &str) -> BTreeSet<String> {
    let path = if file.contains('/') {
        workspace().join(file)
    } else {
        workspace().join("tests/tests").join(file)
    };
    let text = std::fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut found = BTreeSet::new();
    let mut is_test = false;
    for line in text.lines() {
        if line == "#[test]" {
            is_test = true;
        } else if let Some(rest) = line.strip_prefix("fn ") {
            let name = rest.split('(').next().unwrap_or_default();
            if std::mem::take(&mut is_test) {
                found.insert(name.to_owned());
            }
        }
    }
    found
}

#[test]
fn every_statement_has_a_test_or_a_reason() {
    let table = workspace().join("tests/data/statements.tsv");
    let table = std::fs::read_to_string(table).unwrap();
    let mut lines = table.lines();
    assert_eq!(lines.next(), Some(HEADER));
    let statements: Vec<Statement<'_>> = lines.map(Statement::parse).collect();
    let mut sources: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let mut faults = Vec::new();
    let mut seen = BTreeSet::new();
    for Statement { version, id, binds, text, test } in &statements {
        let mut fault = |what: &str| faults.push(format!("{version} {id}: {what}"));
        if !seen.insert((version, id)) {
            fault("it is there twice");
        }
        if !VERSIONS.iter().any(|(known, _)| known == version) || !id.starts_with("MQTT-") {
            fault("it has no version or no identifier");
        }
        if !["client", "server", "both"].contains(binds) || text.is_empty() {
            fault("it binds nobody or says nothing");
        }
        match test {
            Err(reason) => {
                let of = |begin: &&&str| reason.starts_with(**begin) && reason.len() > begin.len();
                match REASONS.iter().find(of) {
                    None => fault("it has neither a test nor a reason"),
                    Some(begin) if *begin == REASONS[0] && *binds != "client" => {
                        fault("it binds not only the client");
                    }
                    Some(_) => {}
                }
            }
            Ok(tests) => {
                for test in tests {
                    let Some((file, function)) = test.split_once(':') else {
                        fault(&format!("{test:?} is not file:function"));
                        continue;
                    };
                    let functions = sources.entry(file).or_insert_with(|| tests_of(file));
                    if !functions.contains(function) {
                        fault(&format!("there is no test {function} in {file}"));
                    }
                }
            }
        }
    }
    for (version, count) in VERSIONS {
        let of_version: Vec<_> = statements.iter().filter(|one| one.version == version).collect();
        let covered = of_version.iter().filter(|one| one.test.is_ok()).count();
        println!("MQTT {version}: {} statements, {covered} have a test", of_version.len());
        for Statement { id, text, test, .. } in &of_version {
            if let Err(reason) = test {
                println!("  {id} ({text}): {reason}");
            }
        }
        assert_eq!(of_version.len(), count, "MQTT {version}");
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
