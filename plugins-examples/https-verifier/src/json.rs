//! Responses as JSON, read strictly: a name that stands twice is refused, as the service and the
//! plugin could mean different ones. Depth is bounded by the parser, size by the gateway.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Parses JSON.
///
/// # Errors
/// Where and why it cannot be read; nothing of what it holds but a name.
pub(crate) fn parse(bytes: &[u8]) -> Result<Value, serde_json::Error> {
    serde_json::from_slice::<Strict>(bytes).map(|strict| strict.0)
}

struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader).map(Self)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(Strict(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some((name, Strict(value))) = entries.next_entry::<String, Strict>()? {
            if object.contains_key(&name) {
                let name: String = name.chars().take(NAME_CHARS_SHOWN).collect();
                return Err(A::Error::custom(format!("the name {name:?} stands twice")));
            }
            object.insert(name, value);
        }
        Ok(Value::Object(object))
    }
}

/// Characters of a name that a message shows.
const NAME_CHARS_SHOWN: usize = 32;

/// A form as an object of texts.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn parse_form(bytes: &[u8]) -> Result<Value, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is no UTF-8".to_owned())?;
    let mut object = Map::new();
    for field in text.trim().split('&').filter(|field| !field.is_empty()) {
        let (name, value) = field.split_once('=').unwrap_or((field, ""));
        let decode = |text| percent_decoded(text).ok_or_else(|| "it is no form".to_owned());
        if object.insert(decode(name)?, Value::String(decode(value)?)).is_some() {
            return Err("a name stands twice".to_owned());
        }
    }
    Ok(Value::Object(object))
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digits = [bytes.next()?, bytes.next()?];
                *hex::decode(digits).ok()?.first()?
            }
            other => other,
        });
    }
    String::from_utf8(decoded).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_is_read_as_it_stands() {
        let text = r#"{"a":[1,-2,0.5,true,null,"é\n"],"b":{"c":18446744073709551615}}"#;
        assert_eq!(parse(text.as_bytes()).unwrap(), serde_json::from_str::<Value>(text).unwrap());
    }

    #[test]
    fn what_is_ambiguous_or_broken_is_refused() {
        let said = parse(br#"{"result":"reject","result":"accept"}"#).unwrap_err().to_string();
        assert!(said.contains("\"result\" stands twice"), "{said}");
        for wrong in [&b""[..], b"{", b"{} x", b"\xff", b"nope", b"<html>"] {
            assert!(parse(wrong).is_err());
        }
        let deep = [vec![b'['; 100_000], vec![b']'; 100_000]].concat();
        assert!(parse(&deep).unwrap_err().to_string().contains("recursion"));
    }

    #[test]
    fn a_form_is_an_object_of_texts() {
        let form = parse_form(b"result=allow&a%20b=c+d%C3%A9&x").unwrap();
        assert_eq!(form, json!({"result": "allow", "a b": "c dé", "x": ""}));
        for wrong in [&b"a=%"[..], b"a=%zz", b"a=%ff", b"a=1&a=2", b"\xff"] {
            assert!(parse_form(wrong).is_err());
        }
    }
}
