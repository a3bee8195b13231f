//! Where in a response things stand: JSON pointers (RFC 6901), and what is found there.

use portreeve_guest::Error;
use serde_json::Value;

use crate::source::{texts, wrong};

/// Characters of a text of the service that a message shows.
const SHOWN_CHARS: usize = 40;
/// Characters of what the service says for the log.
const LOGGED_CHARS: usize = 400;

/// The pointers of the setting `response`; an empty list where the response has no such thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pointers {
    pub(crate) result: Vec<String>,
    pub(crate) device_name: Vec<String>,
    pub(crate) product: Vec<String>,
    pub(crate) attributes: Vec<String>,
    pub(crate) permissions: Vec<String>,
    pub(crate) acl: Vec<String>,
    pub(crate) superuser: Vec<String>,
    pub(crate) expires_in: Vec<String>,
    pub(crate) expires_at: Vec<String>,
    pub(crate) cache_for: Vec<String>,
    pub(crate) reason: Vec<String>,
    pub(crate) message: Vec<String>,
    pub(crate) log: Vec<String>,
    pub(crate) server_reference: Vec<String>,
}

const KEYS: [&str; 14] = [
    "result",
    "device_name",
    "product",
    "attributes",
    "permissions",
    "acl",
    "superuser",
    "expires_in",
    "expires_at",
    "cache_for",
    "reason",
    "message",
    "log",
    "server_reference",
];

impl Pointers {
    /// Reads the setting `response`.
    ///
    /// # Errors
    /// Names the key that there is not, or whose value is no pointer.
    pub(crate) fn new(response: &Value) -> Result<Self, Error> {
        for key in response.as_object().into_iter().flatten().map(|(key, _)| key) {
            if !KEYS.contains(&key.as_str()) {
                let fix = format!("write one of {}", KEYS.join(", "));
                return Err(wrong(&format!("response.{key}"), "is unknown", fix));
            }
        }
        let of = |key: &str| {
            let pointers = texts(response.get(key).unwrap_or(&Value::Null));
            pointers.filter(|all| all.iter().all(|pointer| is_pointer(pointer))).ok_or_else(|| {
                let fix = format!("write \"/{key}\", or \"\" for none");
                wrong(&format!("response.{key}"), "is no JSON pointer", fix)
            })
        };
        Ok(Self {
            result: of("result")?,
            device_name: of("device_name")?,
            product: of("product")?,
            attributes: of("attributes")?,
            permissions: of("permissions")?,
            acl: of("acl")?,
            superuser: of("superuser")?,
            expires_in: of("expires_in")?,
            expires_at: of("expires_at")?,
            cache_for: of("cache_for")?,
            reason: of("reason")?,
            message: of("message")?,
            log: of("log")?,
            server_reference: of("server_reference")?,
        })
    }
}

fn is_pointer(text: &str) -> bool {
    text.starts_with('/') && text.split('~').skip(1).all(|escaped| escaped.starts_with(['0', '1']))
}

/// A value of a response, and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Field<'a> {
    pub(crate) pointer: String,
    pub(crate) value: &'a Value,
}

/// What stands at one of these pointers; `None` where nothing does, or `null`.
///
/// # Errors
/// Where different things stand at several of them.
pub(crate) fn find<'a>(body: &'a Value, pointers: &[String]) -> Result<Option<Field<'a>>, Error> {
    let mut found: Option<Field<'a>> = None;
    for pointer in pointers {
        let Some(value) = at(body, pointer).filter(|value| !value.is_null()) else { continue };
        match &found {
            None => found = Some(Field { pointer: pointer.clone(), value }),
            Some(first) if first.value == value => {}
            Some(first) => {
                let first = &first.pointer;
                let text = format!("the response has {first} and {pointer}, and they differ");
                return Err(Error::new(text));
            }
        }
    }
    Ok(found)
}

/// What stands at a pointer. Names without `~` are looked up as they are: the library's own way makes two
/// texts of each.
fn at<'a>(body: &'a Value, pointer: &str) -> Option<&'a Value> {
    if pointer.contains('~') {
        return body.pointer(pointer);
    }
    pointer.split('/').skip(1).try_fold(body, |value, name| match value {
        Value::Object(fields) => fields.get(name),
        Value::Array(_) => value.pointer(&format!("/{name}")),
        _ => None,
    })
}

impl<'a> Field<'a> {
    /// A field or item of this one.
    pub(crate) fn at(&self, name: impl std::fmt::Display, value: &'a Value) -> Self {
        Self { pointer: format!("{}/{name}", self.pointer), value }
    }

    /// What is wrong with it.
    pub(crate) fn wrong(&self, what: impl AsRef<str>) -> Error {
        Error::new(format!("the response's {} {}", self.pointer, what.as_ref()))
    }

    fn expected(&self, what: &str) -> Error {
        let kind = match self.value {
            Value::Null => "null",
            Value::Bool(_) => "a truth value",
            Value::Number(_) => "a number",
            Value::String(_) => "a text",
            Value::Array(_) => "a list",
            Value::Object(_) => "an object",
        };
        self.wrong(format!("is {kind}: {what} is expected"))
    }

    /// A text.
    pub(crate) fn text(&self) -> Result<&'a str, Error> {
        self.value.as_str().ok_or_else(|| self.expected("a text"))
    }

    /// A text, or a number or truth value as one.
    pub(crate) fn scalar(&self) -> Result<String, Error> {
        match self.value {
            Value::String(text) => Ok(text.clone()),
            Value::Number(_) | Value::Bool(_) => Ok(self.value.to_string()),
            _ => Err(self.expected("a text")),
        }
    }

    /// `true` or `false`, which some services write as 1 and 0; in a form they are texts.
    pub(crate) fn boolean(&self) -> Result<bool, Error> {
        match (self.value, self.value.as_u64()) {
            (Value::Bool(value), _) => Ok(*value),
            (_, Some(number @ 0..=1)) => Ok(number == 1),
            (Value::String(text), _) if matches!(text.as_str(), "true" | "1") => Ok(true),
            (Value::String(text), _) if matches!(text.as_str(), "false" | "0" | "") => Ok(false),
            _ => Err(self.expected("true or false")),
        }
    }

    /// A whole number of seconds; in a form it is a text.
    pub(crate) fn seconds(&self) -> Result<u64, Error> {
        let number = match self.value {
            Value::String(text) => text.parse().ok(),
            value => value.as_u64(),
        };
        number.ok_or_else(|| self.wrong("is no whole number of seconds from 0"))
    }

    /// A list with the places of its items.
    pub(crate) fn items(&self) -> Result<Vec<Self>, Error> {
        let items = self.value.as_array().ok_or_else(|| self.expected("a list"))?;
        Ok(items.iter().enumerate().map(|(index, item)| self.at(index, item)).collect())
    }

    /// The fields of an object with their places.
    pub(crate) fn fields(&self) -> Result<Vec<(&'a str, Self)>, Error> {
        let fields = self.value.as_object().ok_or_else(|| self.expected("an object"))?;
        let field = |(name, value): (&'a String, &'a Value)| {
            (name.as_str(), self.at(shown(name).replace('~', "~0").replace('/', "~1"), value))
        };
        Ok(fields.iter().map(field).collect())
    }

    /// A field of an object; `None` where it is not there, or `null`.
    pub(crate) fn field(&self, name: &str) -> Result<Option<Self>, Error> {
        let fields = self.value.as_object().ok_or_else(|| self.expected("an object"))?;
        let value = fields.get(name).filter(|value| !value.is_null());
        Ok(value.map(|value| self.at(name, value)))
    }

    /// A field that has to be there.
    pub(crate) fn require(&self, name: &str) -> Result<Self, Error> {
        self.field(name)?.ok_or_else(|| self.wrong(format!("has no {name}")))
    }
}

/// A text of the service as a message may show it: its begin, without control characters.
pub(crate) fn shown(text: &str) -> String {
    begin(text, SHOWN_CHARS)
}

/// A text of the service as the log may hold it.
pub(crate) fn logged(text: &str) -> String {
    begin(text, LOGGED_CHARS)
}

fn begin(text: &str, chars: usize) -> String {
    let mut begin: String = text.chars().filter(|c| !c.is_control()).take(chars).collect();
    if text.chars().nth(chars).is_some() {
        begin.push('…');
    }
    begin
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pointers_lead_to_values_and_null_is_nothing() {
        let body = json!({"a": {"b/c": [1, "x"]}, "n": null});
        let at = |pointer: &str| find(&body, &[pointer.to_owned()]).unwrap();
        assert_eq!(at("/a/b~1c/1").unwrap().text().unwrap(), "x");
        assert!(at("/n").is_none() && at("/z").is_none());
        let list = json!({"list": [{"x": "y"}]});
        let at = |pointer: &str| find(&list, &[pointer.to_owned()]).unwrap();
        assert_eq!(at("/list/0/x").unwrap().text().unwrap(), "y");
        for nothing in ["/list/1", "/list/00", "/list/+0", "/list/x", "/list/0/x/y", "/list//"] {
            assert!(at(nothing).is_none(), "{nothing}");
        }
    }

    #[test]
    fn several_places_have_to_agree() {
        let places = ["/ok".to_owned(), "/Ok".to_owned()];
        let ok = json!({"Ok": true});
        assert!(find(&ok, &places).unwrap().unwrap().boolean().unwrap());
        let both = json!({"ok": false, "Ok": true});
        assert!(find(&both, &places).unwrap_err().to_string().contains("/ok and /Ok"));
    }

    #[test]
    fn what_is_of_another_kind_is_named_by_its_pointer() {
        let flags = json!({"a": true, "b": 1, "c": "1", "d": "", "e": 0, "f": "false"});
        let flag = |name: &str| find(&flags, &[name.to_owned()]).unwrap().unwrap().boolean();
        let read = ["/a", "/b", "/c", "/d", "/e", "/f"].map(|name| flag(name).unwrap());
        assert_eq!(read, [true, true, true, false, false, false]);
        let body = json!({"list": [{"action": 1}], "time": "soon", "flag": "yes"});
        let list = find(&body, &["/list".to_owned()]).unwrap().unwrap();
        let item = list.items().unwrap().remove(0);
        let said = [
            item.require("action").unwrap().text().unwrap_err(),
            item.require("topic").unwrap_err(),
            list.text().unwrap_err(),
            list.fields().unwrap_err(),
            find(&body, &["/time".to_owned()]).unwrap().unwrap().seconds().unwrap_err(),
            find(&body, &["/flag".to_owned()]).unwrap().unwrap().boolean().unwrap_err(),
        ]
        .map(|error| error.to_string());
        assert_eq!(said[0], "the response's /list/0/action is a number: a text is expected");
        assert_eq!(said[1], "the response's /list/0 has no topic");
        assert!(said[2].contains("is a list") && said[3].contains("an object is expected"));
        assert!(said[4].contains("/time is no whole number") && said[5].contains("/flag"));
    }

    #[test]
    fn mistakes_in_the_mapping_are_named() {
        for (wrong, key) in [
            (json!({"rezult": "/x"}), "response.rezult"),
            (json!({"result": "x"}), "response.result"),
            (json!({"acl": "/a~2"}), "response.acl"),
            (json!({"message": [1]}), "response.message"),
        ] {
            let said = Pointers::new(&wrong).unwrap_err().to_string();
            assert!(said.contains(key), "{said}");
        }
        assert!(Pointers::new(&json!({"result": ["/a", "/b"], "acl": ""})).is_ok());
    }
}
