//! Bodies of requests: JSON, a form, or none.

use portreeve_guest::{Error, Refusal};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::placeholder::{Peer, Placeholder};
use crate::stop::Stop;
use crate::template::{Names, Template, percent_encoded};

/// What stands in a JSON body for a value that the CONNECT does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Absent {
    /// `null`.
    Null,
    /// An empty text.
    Empty,
    /// The field is left out.
    Omit,
}

/// A JSON value whose texts are templates.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum JsonTemplate {
    Literal(Value),
    Text(Template),
    List(Vec<Self>),
    Object(Vec<(String, Self)>),
}

impl JsonTemplate {
    /// Takes the templates in a value apart.
    ///
    /// # Errors
    /// Names the setting and what is wrong with it.
    pub(crate) fn parse(key: &str, value: &Value, names: &Names<'_>) -> Result<Self, Error> {
        Ok(match value {
            Value::String(text) => {
                let template = Template::parse(key, text, names)?;
                let is_alone = template.only_value().is_some_and(Placeholder::is_structured);
                Self::Text(if is_alone { template } else { template.text_only(key)? })
            }
            Value::Array(items) => {
                let items = items.iter().map(|item| Self::parse(key, item, names));
                Self::List(items.collect::<Result<_, _>>()?)
            }
            Value::Object(fields) => {
                let fields = fields.iter().map(|(name, value)| {
                    if name.contains("${") {
                        return Err(Error::new(format!(
                            "the setting `{key}` has a placeholder in the name {name:?}: names \
                             of fields stand as they are, put it into the value"
                        )));
                    }
                    Ok((name.clone(), Self::parse(key, value, names)?))
                });
                Self::Object(fields.collect::<Result<_, _>>()?)
            }
            other => Self::Literal(other.clone()),
        })
    }

    /// Whether a placeholder stands in it.
    pub(crate) fn uses(&self, placeholder: Placeholder) -> bool {
        match self {
            Self::Literal(_) => false,
            Self::Text(template) => template.uses(placeholder),
            Self::List(items) => items.iter().any(|item| item.uses(placeholder)),
            Self::Object(fields) => fields.iter().any(|(_, value)| value.uses(placeholder)),
        }
    }

    /// The JSON text for a device.
    ///
    /// # Errors
    /// A refusal, where a value of the CONNECT is no text.
    pub(crate) fn fill(&self, peer: &Peer<'_>, absent: Absent) -> Result<Vec<u8>, Stop> {
        let mut json = Vec::new();
        if !self.write(&mut json, peer, absent)? {
            put(&mut json, &())?;
        }
        Ok(json)
    }

    /// Whether there is a value for the device, which then is at the end of `json`.
    fn write(&self, json: &mut Vec<u8>, peer: &Peer<'_>, absent: Absent) -> Result<bool, Stop> {
        match self {
            Self::Literal(value) => put(json, value)?,
            Self::Text(template) => return write_text(template, json, peer, absent),
            Self::List(items) => {
                let mut separator = b'[';
                for item in items {
                    let end = json.len();
                    json.push(separator);
                    match item.write(json, peer, absent)? {
                        true => separator = b',',
                        false => json.truncate(end),
                    }
                }
                close(json, separator, b"[]");
            }
            Self::Object(fields) => {
                let mut separator = b'{';
                for (name, value) in fields {
                    let end = json.len();
                    json.push(separator);
                    put(json, name)?;
                    json.push(b':');
                    match value.write(json, peer, absent)? {
                        true => separator = b',',
                        false => json.truncate(end),
                    }
                }
                close(json, separator, b"{}");
            }
        }
        Ok(true)
    }
}

/// Ends a list or an object. Its next separator is its first bracket still where nothing stands in it.
fn close(json: &mut Vec<u8>, separator: u8, [open, end]: &[u8; 2]) {
    if separator == *open {
        json.push(*open);
    }
    json.push(*end);
}

fn write_text(
    template: &Template,
    json: &mut Vec<u8>,
    peer: &Peer<'_>,
    absent: Absent,
) -> Result<bool, Stop> {
    let Some(placeholder) = template.only_value() else {
        put(json, &template.fill_plain(peer)?)?;
        return Ok(true);
    };
    let is_there = match placeholder.is_structured() {
        true => peer.value(placeholder).map(|value| put(json, &value)),
        false => peer.text(placeholder)?.map(|text| put(json, &text)),
    };
    match (is_there, absent) {
        (Some(written), _) => written?,
        (None, Absent::Null) => put(json, &())?,
        (None, Absent::Empty) => put(json, "")?,
        (None, Absent::Omit) => return Ok(false),
    }
    Ok(true)
}

/// Writes JSON. That does not fail for texts and JSON values.
fn put<T: Serialize + ?Sized>(json: &mut Vec<u8>, value: &T) -> Result<(), Error> {
    Ok(serde_json::to_writer(json, value)?)
}

/// `name=value&…` of a table's fields, in their order.
///
/// # Errors
/// Names the setting, where a field is no text.
pub(crate) fn form(
    key: &str,
    fields: &Map<String, Value>,
    names: &Names<'_>,
) -> Result<Vec<(String, Template)>, Error> {
    let field = |(name, value): (&String, &Value)| {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(_) | Value::Bool(_) => value.to_string(),
            _ => {
                return Err(Error::new(format!(
                    "the setting `{key}` has no text for {name:?}: a form has texts only"
                )));
            }
        };
        Ok((percent_encoded(name), Template::parse(key, &text, names)?.text_only(key)?))
    };
    fields.iter().map(field).collect()
}

/// The form for a device.
///
/// # Errors
/// A refusal, where a value of the CONNECT is no text.
pub(crate) fn fill_form(fields: &[(String, Template)], peer: &Peer<'_>) -> Result<String, Refusal> {
    let filled = fields
        .iter()
        .map(|(name, value)| Ok(format!("{name}={}", percent_encoded(&value.fill_plain(peer)?))));
    Ok(filled.collect::<Result<Vec<_>, Refusal>>()?.join("&"))
}

#[cfg(test)]
mod tests {
    use portreeve_guest::Connect;
    use portreeve_guest::testing::connect;
    use serde_json::json;

    use super::*;
    use crate::testing::with_certificate;

    const NAMES: Names<'static> = Names { setting: &|_| None, is_emqx: false };

    fn filled(template: Value, connect: &Connect, absent: Absent) -> Value {
        let template = JsonTemplate::parse("body", &template, &NAMES).unwrap();
        let peer = Peer { connect, product: "" };
        let json = template.fill(&peer, absent).unwrap_or_else(|_| unreachable!("it is a text"));
        serde_json::from_slice(&json).unwrap()
    }

    #[test]
    fn values_stay_within_their_texts() {
        let hostile = connect("\"},\"admin\":true,\"x\":\"\\\n\u{0}").build();
        let filled = filled(
            json!({"a": ["${client_id}", 1], "b": "<${client_id}>"}),
            &hostile,
            Absent::Null,
        );
        assert_eq!(filled["a"][0], hostile.client_id);
        assert_eq!(filled["b"], format!("<{}>", hostile.client_id));
        let again: Value = serde_json::from_str(&filled.to_string()).unwrap();
        assert_eq!(again, filled);
        assert_eq!(again.as_object().unwrap().len(), 2);
    }

    #[test]
    fn what_is_absent_is_null_empty_or_left_out() {
        let bare = connect("c").build();
        let template = json!({"u": "${user_name}", "m": "u=${user_name}", "l": ["${password}"]});
        let of = |absent| filled(template.clone(), &bare, absent);
        assert_eq!(of(Absent::Null), json!({"u": null, "m": "u=", "l": [null]}));
        assert_eq!(of(Absent::Empty), json!({"u": "", "m": "u=", "l": [""]}));
        assert_eq!(of(Absent::Omit), json!({"m": "u=", "l": []}));
        let nothing = json!({"u": "${user_name}", "o": {}, "n": [[], "${password}", 1]});
        assert_eq!(filled(nothing, &bare, Absent::Omit), json!({"o": {}, "n": [[], 1]}));
        assert_eq!(filled(json!({"u": "${user_name}"}), &bare, Absent::Omit), json!({}));
        assert_eq!(filled(json!("${user_name}"), &bare, Absent::Omit), Value::Null);
    }

    #[test]
    fn an_object_stands_where_a_whole_text_was() {
        let template = json!({"certificate": "${certificate}", "p": "${user_properties}"});
        let mut mutual = with_certificate(connect("c"), "device-1").build();
        mutual.user_properties = vec![("a".into(), "b".into())];
        let filled_in = filled(template.clone(), &mutual, Absent::Null);
        assert_eq!(filled_in["certificate"]["commonName"], "device-1");
        assert_eq!(filled_in["p"], json!([["a", "b"]]));
        let plain = filled(template, &connect("c").build(), Absent::Null);
        assert_eq!(plain, json!({"certificate": null, "p": []}));
    }

    #[test]
    fn a_form_is_escaped() {
        let connect = connect("a&b=c d").password("p%+").build();
        let fields = json!({"client id": "${client_id}", "n": 1, "password": "${password}"});
        let fields = form("body", fields.as_object().unwrap(), &NAMES).unwrap();
        let peer = Peer { connect: &connect, product: "" };
        let expected = "client%20id=a%26b%3Dc%20d&n=1&password=p%25%2B";
        assert_eq!(fill_form(&fields, &peer).unwrap(), expected);
        for wrong in [json!({"a": []}), json!({"a": "${certificate}"})] {
            assert!(form("body", wrong.as_object().unwrap(), &NAMES).is_err());
        }
        assert!(JsonTemplate::parse("body", &json!({"${client_id}": 1}), &NAMES).is_err());
    }
}
