//! What commands that change a running gateway's files have in common.

use clap::Args;
use reqwest::Method;
use serde_json::{Map, Value};

use super::admin::Gateway;
use super::output;

/// Where a change goes, and how it is told.
#[derive(Debug, Args)]
pub(crate) struct Order {
    #[command(flatten)]
    pub(crate) gateway: Gateway,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Order {
    /// Has a change made, and says what it came to.
    ///
    /// # Errors
    /// What the gateway says, or why it cannot be asked.
    pub(crate) async fn give(self, method: Method, path: &str, body: &Value) -> Result<(), String> {
        let answer = self.gateway.request(method, path, Some(body)).await?;
        self.say(&answer);
        Ok(())
    }

    /// Says what a change came to.
    pub(crate) fn say(&self, answer: &Value) {
        if self.json {
            output::json(answer);
            return;
        }
        let texts = |key: &str| -> String {
            let list = answer.get(key).and_then(Value::as_array).into_iter().flatten();
            list.filter_map(Value::as_str).collect::<Vec<_>>().join(", ")
        };
        let changed = texts("changed");
        let is_live = answer.get("live").and_then(Value::as_bool).unwrap_or(false);
        let state = if is_live { "live" } else { "in the file" };
        match changed.is_empty() {
            true => output::say(&format!("nothing is another; {state}")),
            false => output::say(&format!("changed: {changed}; {state}")),
        }
        let restart = texts("needs_restart");
        if !restart.is_empty() {
            output::say(&format!("takes effect with a restart: {restart}"));
        }
        let detail = answer.get("detail").and_then(Value::as_str).unwrap_or_default();
        if !detail.is_empty() {
            output::say(detail);
        }
    }
}

/// `NAME=VALUE` as JSON: a whole number, a text, or null where there is no value.
///
/// # Errors
/// Which of them is none, or is there twice.
pub(crate) fn settings(pairs: &[String]) -> Result<Value, String> {
    let mut object = Map::new();
    for pair in pairs {
        let (key, text) =
            pair.split_once('=').ok_or_else(|| format!("{pair:?}: write NAME=VALUE"))?;
        let value = match (text.is_empty(), text.parse::<i64>()) {
            (true, _) => Value::Null,
            (false, Ok(number)) => number.into(),
            (false, Err(_)) => text.into(),
        };
        if object.insert(key.to_owned(), value).is_some() {
            return Err(format!("{key} is there twice"));
        }
    }
    Ok(object.into())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn settings_are_written_as_in_a_shell() {
        let pairs = ["a=5", "b=10s", "c="].map(str::to_owned);
        assert_eq!(settings(&pairs), Ok(json!({ "a": 5, "b": "10s", "c": null })));
        for bad in [vec!["a"], vec!["a=1", "a=2"]] {
            let bad: Vec<String> = bad.into_iter().map(str::to_owned).collect();
            assert!(settings(&bad).is_err());
        }
    }
}
