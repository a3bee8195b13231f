//! What a status, or a result in a response, means.

use std::collections::BTreeMap;

use portreeve_guest::{Error, RefusalReason};

use crate::source::wrong;

/// What to do about a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    Accept,
    Refuse(RefusalReason),
    /// The body of the response decides.
    Body,
    /// Nobody decided.
    Error,
}

/// The names of the reasons, in settings and in responses.
const REASONS: [(&str, RefusalReason); 6] = [
    ("bad-user-name-or-password", RefusalReason::BadUserNameOrPassword),
    ("not-authorized", RefusalReason::NotAuthorized),
    ("banned", RefusalReason::Banned),
    ("server-busy", RefusalReason::ServerBusy),
    ("quota-exceeded", RefusalReason::QuotaExceeded),
    ("use-another-server", RefusalReason::UseAnotherServer),
];

/// The reason of a name.
pub(crate) fn reason(name: &str) -> Option<RefusalReason> {
    REASONS.iter().find(|(other, _)| *other == name).map(|(_, reason)| *reason)
}

/// The names that there are, for messages.
pub(crate) fn reasons() -> String {
    REASONS.map(|(name, _)| name).join(", ")
}

fn decision(key: &str, name: &str, others: &[(&str, Decision)]) -> Result<Decision, Error> {
    let other = others.iter().find(|(other, _)| *other == name).map(|(_, decision)| *decision);
    other.or_else(|| reason(name).map(Decision::Refuse)).ok_or_else(|| {
        let names: Vec<&str> = others.iter().map(|(name, _)| *name).collect();
        let fix = format!("write {} or a reason: {}", names.join(", "), reasons());
        wrong(key, format!("is {name:?}"), fix)
    })
}

/// What the status of a response means: `204`, or all of `4xx`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Status(BTreeMap<String, Decision>);

impl Status {
    /// Reads the setting `status`.
    ///
    /// # Errors
    /// Names the status that is none, or whose meaning is none.
    pub(crate) fn new(table: BTreeMap<String, String>) -> Result<Self, Error> {
        let others =
            [("accept", Decision::Accept), ("body", Decision::Body), ("error", Decision::Error)];
        let entry = |(status, meaning): (String, String)| {
            let key = format!("status.{status}");
            if !is_status(&status) {
                return Err(wrong(&key, "is no status", "write \"404\" or \"4xx\""));
            }
            let meaning = decision(&key, &meaning, &others)?;
            // A redirect admits nobody, and no error does.
            if meaning == Decision::Accept && !status.starts_with('2') {
                return Err(wrong(&key, "is accept", "only a status of success, 2xx, lets in"));
            }
            Ok((status, meaning))
        };
        Ok(Self(table.into_iter().map(entry).collect::<Result<_, _>>()?))
    }

    /// What a status means; an error where nothing is said of it.
    pub(crate) fn decision(&self, status: u16) -> Decision {
        let class = format!("{}xx", status / 100);
        let decision = self.0.get(&status.to_string()).or_else(|| self.0.get(&class));
        decision.copied().unwrap_or(Decision::Error)
    }

    pub(crate) fn decisions(&self) -> impl Iterator<Item = Decision> + '_ {
        self.0.values().copied()
    }
}

fn is_status(text: &str) -> bool {
    match text.as_bytes() {
        [b'1'..=b'5', b'x', b'x'] => true,
        [b'1'..=b'5', rest @ ..] => rest.len() == 2 && rest.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

/// What the result in a body means; `*` is any other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Results(BTreeMap<String, Decision>);

impl Results {
    /// Reads the setting `results`.
    ///
    /// # Errors
    /// Names the result whose meaning is none.
    pub(crate) fn new(table: BTreeMap<String, String>) -> Result<Self, Error> {
        let others = [("accept", Decision::Accept), ("error", Decision::Error)];
        let entry = |(result, meaning): (String, String)| {
            let key = format!("results.{result}");
            let meaning = decision(&key, &meaning, &others)?;
            if result == "*" && meaning == Decision::Accept {
                let fix = "name the results that let in; any other refuses or is an error";
                return Err(wrong(&key, "is accept", fix));
            }
            Ok((result, meaning))
        };
        Ok(Self(table.into_iter().map(entry).collect::<Result<_, _>>()?))
    }

    /// What a result means; an error where nothing is said of it.
    pub(crate) fn decision(&self, result: &str) -> Decision {
        self.0.get(result).or_else(|| self.0.get("*")).copied().unwrap_or(Decision::Error)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The results that are known, for messages.
    pub(crate) fn names(&self) -> String {
        self.0.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
        entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_narrower_status_counts_and_others_are_errors() {
        let status = Status::new(table(&[("2xx", "accept"), ("200", "body"), ("4xx", "banned")]));
        let status = status.unwrap();
        assert_eq!(status.decision(200), Decision::Body);
        assert_eq!(status.decision(204), Decision::Accept);
        assert_eq!(status.decision(404), Decision::Refuse(RefusalReason::Banned));
        assert_eq!([302, 500, 600, 0].map(|code| status.decision(code)), [Decision::Error; 4]);
    }

    #[test]
    fn only_success_and_named_results_let_in() {
        for (key, meaning) in [
            ("500", "accept"),
            ("3xx", "accept"),
            ("2x", "accept"),
            ("abc", "error"),
            ("200", "ok"),
        ] {
            let said = Status::new(table(&[(key, meaning)])).unwrap_err().to_string();
            assert!(said.contains(&format!("`status.{key}`")), "{said}");
        }
        assert!(Results::new(table(&[("*", "accept")])).is_err());
        assert!(Results::new(table(&[("yes", "body")])).is_err());
        let results = Results::new(table(&[("ok", "accept"), ("*", "not-authorized")])).unwrap();
        assert_eq!(results.decision("ok"), Decision::Accept);
        assert_eq!(results.decision("OK"), Decision::Refuse(RefusalReason::NotAuthorized));
        let strict = Results::new(table(&[("ok", "accept")])).unwrap();
        assert_eq!(strict.decision(""), Decision::Error);
    }
}
