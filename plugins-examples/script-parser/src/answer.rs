//! What codecs of LoRaWAN network servers return.

use portreeve_script::Bytes;
use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

/// What `decodeUplink` returns.
#[derive(Deserialize)]
pub(crate) struct Decoded<'a> {
    #[serde(borrow, default)]
    pub(crate) data: Option<&'a RawValue>,
    #[serde(default)]
    pub(crate) errors: Texts,
    #[serde(default)]
    pub(crate) warnings: Texts,
}

/// What `encodeDownlink` returns.
#[derive(Deserialize)]
pub(crate) struct Encoded {
    pub(crate) bytes: Option<Bytes>,
    #[serde(default, rename = "fPort", alias = "f_port")]
    pub(crate) f_port: Option<f64>,
    #[serde(default)]
    pub(crate) errors: Texts,
    #[serde(default)]
    pub(crate) warnings: Texts,
}

/// A list of texts, or one of them, or what codecs put there instead.
#[derive(Default)]
pub(crate) struct Texts(pub(crate) Vec<String>);

impl<'de> Deserialize<'de> for Texts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = |value: Value| match value {
            Value::String(text) => text,
            other => other.to_string(),
        };
        Ok(Self(match Value::deserialize(deserializer)? {
            Value::Null => Vec::new(),
            Value::Array(values) => values.into_iter().map(text).collect(),
            other => vec![text(other)],
        }))
    }
}
