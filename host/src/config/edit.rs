//! Changes of a configuration file's text: what is not changed stays as somebody wrote it, comments
//! and order included. Whether the new text can be used, [`Config::parse`](super::Config::parse) says.

use std::collections::BTreeMap;

use toml_edit::{Array, ArrayOfTables, DocumentMut, Item, Table, TableLike, Value};

/// Keys with what they are to be; `None` for what is to be the default.
pub(crate) type Settings = BTreeMap<String, Option<Value>>;

/// Why a text cannot be changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EditError {
    /// It is no TOML.
    #[error("the file cannot be read: {0}")]
    Unreadable(String),
    /// It has no such `[[gateway]]`.
    #[error("the configuration file has no gateway {0:?}")]
    NoGateway(String),
    /// It is written in a way that is not changed.
    #[error("{0} is not written as a table of its own; write it as {1}, or change it by hand")]
    Form(&'static str, &'static str),
}

/// A text that was changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Edited {
    pub(crate) text: String,
    /// What is another than before.
    pub(crate) changed: Vec<String>,
}

/// A binding as it is to stand in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BindingText {
    pub(crate) topic: String,
    pub(crate) plugin: String,
    pub(crate) direction: Option<String>,
    pub(crate) may_publish: Option<Vec<String>>,
    pub(crate) on_error: Option<String>,
}

/// A value of JSON that a setting can have: a text, a whole number, yes or no.
pub(crate) fn scalar(value: &serde_json::Value) -> Option<Value> {
    match value {
        serde_json::Value::String(text) => Some(Value::from(text.as_str())),
        serde_json::Value::Bool(value) => Some(Value::from(*value)),
        serde_json::Value::Number(number) => number.as_i64().map(Value::from),
        _ => None,
    }
}

/// Sets keys of the `[gateway.limits]` of a gateway.
///
/// # Errors
/// [`EditError`].
pub(crate) fn limits(text: &str, gateway: &str, settings: &Settings) -> Result<Edited, EditError> {
    let mut document = document(text)?;
    let table = gateway_table(&mut document, gateway)?;
    let limits = table.entry("limits").or_insert_with(|| Item::Table(Table::new()));
    let form = EditError::Form("limits", "[gateway.limits]");
    let changed = set(limits.as_table_like_mut().ok_or(form)?, settings);
    Ok(edited(text, &document, changed))
}

/// Sets keys at the top of a plugin's manifest.
///
/// # Errors
/// [`EditError`].
pub(crate) fn manifest(text: &str, settings: &Settings) -> Result<Edited, EditError> {
    let mut document = document(text)?;
    let changed = set(document.as_table_mut(), settings);
    Ok(edited(text, &document, changed))
}

/// Puts bindings in the place of those of a gateway. One that is there already keeps its comments.
///
/// # Errors
/// [`EditError`].
pub(crate) fn bindings(
    text: &str,
    gateway: &str,
    bindings: &[BindingText],
) -> Result<Edited, EditError> {
    let mut document = document(text)?;
    let table = gateway_table(&mut document, gateway)?;
    let mut before: Vec<Table> = match table.get("binding") {
        None => Vec::new(),
        Some(Item::ArrayOfTables(tables)) => tables.iter().cloned().collect(),
        Some(_) => return Err(EditError::Form("binding", "[[gateway.binding]]")),
    };
    let is_same = before.len() == bindings.len()
        && before.iter().zip(bindings).all(|(table, binding)| binding.is_in(table));
    if is_same {
        return Ok(Edited { text: text.to_owned(), changed: Vec::new() });
    }
    let mut after = ArrayOfTables::new();
    for binding in bindings {
        let known = before.iter().position(|table| binding.is_in(table));
        let mut table = known.map_or_else(|| binding.table(), |index| before.remove(index));
        // Where it stood counts in the text, before its place in the array does.
        table.set_position(None);
        after.push(table);
    }
    match after.is_empty() {
        true => drop(table.remove("binding")),
        false => drop(table.insert("binding", Item::ArrayOfTables(after))),
    }
    Ok(edited(text, &document, vec!["bindings".to_owned()]))
}

impl BindingText {
    fn table(&self) -> Table {
        let mut table = Table::new();
        let mut put = |key: &str, value: Option<Value>| {
            if let Some(value) = value {
                table.insert(key, Item::Value(value));
            }
        };
        put("topic", Some(self.topic.as_str().into()));
        put("plugin", Some(self.plugin.as_str().into()));
        put("direction", self.direction.as_deref().map(Value::from));
        let filters = self.may_publish.as_ref().map(|filters| filters.iter().collect::<Array>());
        put("may_publish", filters.map(Value::from));
        put("on_error", self.on_error.as_deref().map(Value::from));
        table
    }

    /// Whether a table of the file says the same, key by key.
    fn is_in(&self, table: &Table) -> bool {
        let wanted = self.table();
        let is_there = |(key, item): (&str, &Item)| {
            let other = table.get(key).and_then(Item::as_value);
            item.as_value().zip(other).is_some_and(|(one, other)| same(one, other))
        };
        wanted.len() == table.len() && wanted.iter().all(is_there)
    }
}

/// Whether two values say the same, whatever space and comments stand around them.
fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::String(one), Value::String(other)) => one.value() == other.value(),
        (Value::Integer(one), Value::Integer(other)) => one.value() == other.value(),
        (Value::Boolean(one), Value::Boolean(other)) => one.value() == other.value(),
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        _ => false,
    }
}

fn document(text: &str) -> Result<DocumentMut, EditError> {
    text.parse().map_err(|error: toml_edit::TomlError| {
        EditError::Unreadable(error.message().trim().to_owned())
    })
}

fn gateway_table<'a>(
    document: &'a mut DocumentMut,
    name: &str,
) -> Result<&'a mut Table, EditError> {
    let no_gateway = || EditError::NoGateway(name.to_owned());
    let gateways = document.get_mut("gateway").ok_or_else(no_gateway)?;
    let gateways =
        gateways.as_array_of_tables_mut().ok_or(EditError::Form("gateway", "[[gateway]]"))?;
    let is_it = |table: &&mut Table| table.get("name").and_then(Item::as_str) == Some(name);
    gateways.iter_mut().find(is_it).ok_or_else(no_gateway)
}

/// Sets keys of a table; gives the names of those that are others now.
fn set(table: &mut dyn TableLike, settings: &Settings) -> Vec<String> {
    let mut changed = Vec::new();
    for (key, wanted) in settings {
        let is_other = match (table.get_mut(key), wanted) {
            (None, None) => false,
            (Some(_), None) => table.remove(key).is_some(),
            (None, Some(value)) => {
                table.insert(key, Item::Value(value.clone()));
                true
            }
            (Some(item), Some(value)) => replace(item, value),
        };
        if is_other {
            changed.push(key.clone());
        }
    }
    changed
}

/// Puts a value in the place of another one, with the comment behind it. Says whether it is another.
fn replace(item: &mut Item, value: &Value) -> bool {
    let mut value = value.clone();
    if let Some(old) = item.as_value() {
        if same(old, &value) {
            return false;
        }
        *value.decor_mut() = old.decor().clone();
    }
    *item = Item::Value(value);
    true
}

fn edited(text: &str, document: &DocumentMut, changed: Vec<String>) -> Edited {
    match changed.is_empty() {
        // Not even a line end is another.
        true => Edited { text: text.to_owned(), changed },
        false => Edited { text: document.to_string(), changed },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# of the plant
[plugins] # here
directory = \"plugins\"

[[gateway]]
name = \"a\"   # the first
[[gateway.listener]]
address = \"127.0.0.1:1\"
[[gateway.binding]]
# what meters send
topic = \"m/+\"
plugin = \"meter\"
may_publish = [
  \"m/#\", # all of it
]
[[gateway.binding]]
topic = \"n/+\"
plugin = \"other\"

[gateway.limits]
# measured in spring
in_flight_max = 10 # each way
connect_timeout = \"5s\"

# the second one
[[gateway]]
name = \"b\"
[[gateway.listener]]
address = \"127.0.0.1:2\"

[[device]]
name = \"device-1\"
";

    fn settings(pairs: &[(&str, Option<Value>)]) -> Settings {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect()
    }

    fn binding(topic: &str, plugin: &str) -> BindingText {
        let (topic, plugin) = (topic.to_owned(), plugin.to_owned());
        BindingText { topic, plugin, direction: None, may_publish: None, on_error: None }
    }

    #[test]
    fn a_limit_is_another_and_all_else_stays() {
        let wanted = settings(&[
            ("in_flight_max", Some(20.into())),
            ("connect_timeout", Some("5s".into())),
            ("filters_max", None),
        ]);
        let edited = limits(TEXT, "a", &wanted).unwrap();
        assert_eq!(edited.text, TEXT.replace("in_flight_max = 10", "in_flight_max = 20"));
        assert_eq!(edited.changed, ["in_flight_max"]);
        let same = limits(TEXT, "a", &settings(&[("in_flight_max", Some(10.into()))])).unwrap();
        assert_eq!(same, Edited { text: TEXT.to_owned(), changed: Vec::new() });
    }

    #[test]
    fn a_limit_comes_and_goes_where_it_belongs() {
        let wanted =
            settings(&[("connect_timeout", None), ("packet_bytes_max", Some("2MiB".into()))]);
        let edited = limits(TEXT, "a", &wanted).unwrap();
        let expected = TEXT.replace("connect_timeout = \"5s\"\n", "packet_bytes_max = \"2MiB\"\n");
        assert_eq!(edited.text, expected);
        let other = limits(TEXT, "b", &settings(&[("filters_max", Some(3.into()))])).unwrap();
        let expected = TEXT.replace(
            "address = \"127.0.0.1:2\"\n",
            "address = \"127.0.0.1:2\"\n\n[gateway.limits]\nfilters_max = 3\n",
        );
        assert_eq!(other.text, expected);
    }

    #[test]
    fn limits_in_one_line_or_with_dots_are_changed_there() {
        for (text, expected) in [
            (
                "[[gateway]]\nname = \"a\"\nlimits = { filters_max = 1 } # few\n",
                "[[gateway]]\nname = \"a\"\nlimits = { filters_max = 2 } # few\n",
            ),
            (
                "[[gateway]]\nname = \"a\"\nlimits.filters_max = 1 # few\n",
                "[[gateway]]\nname = \"a\"\nlimits.filters_max = 2 # few\n",
            ),
        ] {
            let wanted = settings(&[("filters_max", Some(2.into()))]);
            assert_eq!(limits(text, "a", &wanted).unwrap().text, expected);
        }
        let inline = "gateway = [{ name = \"a\" }]\n";
        assert!(matches!(limits(inline, "a", &Settings::new()), Err(EditError::Form(..))));
        let none = limits(TEXT, "c", &Settings::new());
        assert_eq!(none, Err(EditError::NoGateway("c".to_owned())));
        assert!(matches!(limits("a = ", "a", &Settings::new()), Err(EditError::Unreadable(_))));
    }

    #[test]
    fn bindings_that_stay_keep_their_comments_and_the_order_is_the_new_one() {
        let meter =
            BindingText { may_publish: Some(vec!["m/#".to_owned()]), ..binding("m/+", "meter") };
        let other = binding("n/+", "other");
        let same = bindings(TEXT, "a", &[meter.clone(), other.clone()]).unwrap();
        assert_eq!(same, Edited { text: TEXT.to_owned(), changed: Vec::new() });
        let new = BindingText { on_error: Some("drop".to_owned()), ..binding("o", "new") };
        let edited = bindings(TEXT, "a", &[new, other, meter]).unwrap();
        let at = |part: &str| {
            edited.text.find(part).unwrap_or_else(|| panic!("{part:?} is not in\n{}", edited.text))
        };
        let parts = [
            "name = \"a\"   # the first",
            "127.0.0.1:1",
            "topic = \"o\"\nplugin = \"new\"\non_error = \"drop\"",
            "topic = \"n/+\"\nplugin = \"other\"",
            "# what meters send\ntopic = \"m/+\"",
            "\"m/#\", # all of it",
            "[gateway.limits]\n# measured in spring",
            "# the second one\n[[gateway]]\nname = \"b\"",
            "[[device]]",
        ];
        assert!(parts.map(at).is_sorted(), "{}", edited.text);
        assert_eq!(edited.text.matches("[[gateway.binding]]").count(), 3);
    }

    #[test]
    fn bindings_come_to_a_gateway_without_any_and_go_again() {
        let edited = bindings(TEXT, "b", &[binding("x", "new"), binding("y", "new")]).unwrap();
        let table =
            |topic: &str| format!("\n[[gateway.binding]]\ntopic = \"{topic}\"\nplugin = \"new\"\n");
        let added = format!("address = \"127.0.0.1:2\"\n{}{}", table("x"), table("y"));
        assert_eq!(edited.text, TEXT.replace("address = \"127.0.0.1:2\"\n", &added));
        let gone = bindings(&edited.text, "b", &[]).unwrap();
        assert_eq!(gone.text, TEXT);
    }

    #[test]
    fn keys_of_a_manifest_stand_above_its_tables() {
        let text = "# mine\ncanary = \"5%\" # few\n\n[settings]\na = \"b\"\n";
        let wanted = settings(&[("canary", Some("10%".into())), ("canary_calls", Some(7.into()))]);
        let edited = manifest(text, &wanted).unwrap();
        let expected =
            "# mine\ncanary = \"10%\" # few\ncanary_calls = 7\n\n[settings]\na = \"b\"\n";
        assert_eq!(edited.text, expected);
        let first = manifest("[settings]\na = \"b\"\n", &wanted).unwrap();
        assert!(first.text.starts_with("canary = \"10%\"\ncanary_calls = 7\n"), "{}", first.text);
    }
}
