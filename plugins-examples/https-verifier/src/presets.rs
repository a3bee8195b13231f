//! The presets: files of settings that the manifest's own go over, key by key.

use portreeve_guest::Error;
use serde_json::{Map, Value};

const BASE: &str = include_str!("../presets/base.json");
const PRESETS: [(&str, &str); 4] = [
    ("portreeve", include_str!("../presets/portreeve.json")),
    ("emqx", include_str!("../presets/emqx.json")),
    ("azure-event-grid", include_str!("../presets/azure-event-grid.json")),
    ("mosquitto-go-auth", include_str!("../presets/mosquitto-go-auth.json")),
];

/// Tables that are merged key by key; every other value is replaced as a whole.
const MERGED: [&str; 4] = ["headers", "response", "status", "results"];

/// The settings of a preset. `mode` gives what the manifest says of a mode, such as
/// `response_mode`.
///
/// # Errors
/// Names the presets, or the modes, that there are.
pub(crate) fn preset(
    name: &str,
    mode: impl Fn(&str) -> Option<String>,
) -> Result<Map<String, Value>, Error> {
    let text = PRESETS.iter().find(|(other, _)| *other == name).map(|(_, text)| *text);
    let text = text.ok_or_else(|| {
        let names = PRESETS.map(|(name, _)| name).join(", ");
        Error::new(format!("the setting `preset` is {name:?}: write one of {names}"))
    })?;
    let mut settings = object(BASE)?;
    let mut own = object(text)?;
    let modes = own.remove("modes");
    lay_over(&mut settings, own);
    for (key, choices) in modes.as_ref().and_then(Value::as_object).into_iter().flatten() {
        let given = mode(key);
        let default = settings.get(key).and_then(Value::as_str);
        let chosen = given.as_deref().or(default).unwrap_or_default();
        let choices = choices.as_object().into_iter().flatten();
        let choice = choices.clone().find(|(choice, _)| choice.as_str() == chosen);
        let Some((_, choice)) = choice else {
            let choices: Vec<&str> = choices.map(|(name, _)| name.as_str()).collect();
            let choices = choices.join(", ");
            let text = format!("the setting `{key}` is {chosen:?}: write one of {choices}");
            return Err(Error::new(text));
        };
        lay_over(&mut settings, choice.as_object().cloned().unwrap_or_default());
    }
    Ok(settings)
}

fn object(text: &str) -> Result<Map<String, Value>, Error> {
    Ok(serde_json::from_str(text)?)
}

/// Puts settings over others.
pub(crate) fn lay_over(below: &mut Map<String, Value>, above: Map<String, Value>) {
    for (key, value) in above {
        match (below.get_mut(&key), value) {
            (Some(Value::Object(table)), Value::Object(fields))
                if MERGED.contains(&key.as_str()) =>
            {
                table.extend(fields);
            }
            (_, value) => drop(below.insert(key, value)),
        }
    }
}

/// Whether the values of a table are laid over one by one.
pub(crate) fn is_merged(key: &str) -> bool {
    MERGED.contains(&key)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_preset_is_what_its_file_says_over_what_holds_for_all() {
        let emqx = preset("emqx", |_| None).unwrap();
        assert_eq!(emqx["method"], "POST");
        assert_eq!(emqx["headers"]["content-type"], "application/json");
        assert_eq!(emqx["headers"]["accept"], "application/json");
        assert_eq!(emqx["response"]["acl"], "/acl");
        assert_eq!(emqx["response"]["permissions"], "");
    }

    #[test]
    fn a_mode_chooses_a_part_of_the_preset() {
        let of = |key: &'static str, value: &'static str| {
            preset("mosquitto-go-auth", move |asked| (asked == key).then(|| value.to_owned()))
        };
        let standard = of("none", "").unwrap();
        assert_eq!(standard["status"]["2xx"], "accept");
        assert_eq!(standard["body"]["username"], "${username}");
        assert!(!standard.contains_key("modes"));
        let text = of("response_mode", "text").unwrap();
        assert_eq!(text["response_format"], "text");
        let form = of("params_mode", "form").unwrap();
        assert_eq!(form["headers"]["content-type"], "application/x-www-form-urlencoded");
        let said = of("response_mode", "yaml").unwrap_err().to_string();
        assert!(said.contains("response_mode") && said.contains("status, json, text"), "{said}");
        let said = preset("aws", |_| None).unwrap_err().to_string();
        assert!(said.contains("aws") && said.contains("azure-event-grid"), "{said}");
    }

    #[test]
    fn tables_are_laid_over_key_by_key_and_bodies_as_a_whole() {
        let mut settings = preset("portreeve", |_| None).unwrap();
        let own = json!({"status": {"404": "not-authorized"}, "body": {"only": "this"}});
        lay_over(&mut settings, own.as_object().cloned().unwrap());
        assert_eq!(settings["status"]["404"], "not-authorized");
        assert_eq!(settings["status"]["200"], "body");
        assert_eq!(settings["body"], json!({"only": "this"}));
    }
}
