//! Bytes in the JSON of scripts and of messages.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{
    GeneralPurpose, GeneralPurposeConfig, STANDARD as BASE64, URL_SAFE_NO_PAD,
};
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

/// Bytes as scripts return them within an object: an array of numbers, a `Uint8Array`, a `Buffer`.
/// Numbers from -128 to -1 are taken for the bytes with the same bits.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bytes(pub Vec<u8>);

impl Bytes {
    /// Reads them from a JSON text.
    ///
    /// # Errors
    /// Says which element is no byte.
    pub fn from_json(text: &str) -> Result<Self, String> {
        serde_json::from_str(text).map_err(|error| {
            let text = error.to_string();
            // Line and column are those of a text that nobody sees.
            text.split(" at line ").next().unwrap_or_default().to_owned()
        })
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(BytesVisitor)
    }
}

struct BytesVisitor;

impl<'de> Visitor<'de> for BytesVisitor {
    type Value = Bytes;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an array of bytes")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Bytes, A::Error> {
        let mut bytes = Vec::with_capacity(elements.size_hint().unwrap_or(64));
        while let Some(Number(number)) = elements.next_element()? {
            bytes.push(byte(number, bytes.len()).map_err(A::Error::custom)?);
        }
        Ok(Bytes(bytes))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Bytes, A::Error> {
        let mut bytes = Vec::new();
        while let Some(key) = members.next_key::<String>()? {
            match key.as_str() {
                // What `Buffer` writes: {"type":"Buffer","data":[…]}.
                "type" => drop(members.next_value::<String>()?),
                "data" => bytes = members.next_value::<Bytes>()?.0,
                // What `Uint8Array` writes: {"0":1,"1":2}.
                index if index.parse() == Ok(bytes.len()) => {
                    let Number(number) = members.next_value()?;
                    bytes.push(byte(number, bytes.len()).map_err(A::Error::custom)?);
                }
                other => return Err(A::Error::custom(format!("{other:?} is no index of bytes"))),
            }
        }
        Ok(Bytes(bytes))
    }
}

/// A number, or what is none.
struct Number(f64);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // A value that is no number, such as NaN, was written as null.
        Option::<f64>::deserialize(deserializer).map(|number| Self(number.unwrap_or(f64::NAN)))
    }
}

fn byte(number: f64, index: usize) -> Result<u8, String> {
    #[expect(clippy::cast_possible_truncation, reason = "compared with what it came from")]
    let whole = number as i16;
    let is_byte = f64::from(whole).total_cmp(&number).is_eq() || (whole == 0 && number == 0.0);
    match i8::try_from(whole).map(i8::cast_unsigned).or_else(|_| u8::try_from(whole)) {
        Ok(byte) if is_byte => Ok(byte),
        _ => Err(format!("element {index} is {number}, which is no byte")),
    }
}

/// How bytes are written as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// RFC 4648, with padding or without.
    Base64,
    /// Two digits for each byte.
    Hex,
}

/// Takes what has its padding and what has not, as decoders of other languages do.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

impl Encoding {
    /// The bytes of a text.
    ///
    /// # Errors
    /// Says what the text is not.
    pub fn decode(self, text: &str) -> Result<Vec<u8>, String> {
        match self {
            Self::Base64 => LENIENT.decode(text).map_err(|error| format!("no base64: {error}")),
            Self::Hex => hex::decode(text).map_err(|error| format!("no hex: {error}")),
        }
    }

    /// The text of bytes.
    #[must_use]
    pub fn encode(self, bytes: &[u8]) -> String {
        match self {
            Self::Base64 => BASE64.encode(bytes),
            Self::Hex => hex::encode(bytes),
        }
    }
}

/// What JavaScript takes for base64: the characters of both alphabets, anything else is left out.
pub(crate) fn base64_lenient(text: &str) -> Vec<u8> {
    let mut clean = String::with_capacity(text.len());
    for character in text.chars().take_while(|&character| character != '=') {
        match character {
            '-' => clean.push('+'),
            '_' => clean.push('/'),
            'A'..='Z' | 'a'..='z' | '0'..='9' | '+' | '/' => clean.push(character),
            _ => {}
        }
    }
    // One character alone holds no byte.
    if clean.len() % 4 == 1 {
        clean.pop();
    }
    LENIENT.decode(clean).unwrap_or_default()
}

pub(crate) fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_read_from_what_scripts_return() {
        let read = |text| Bytes::from_json(text).map(|bytes| bytes.0);
        assert_eq!(read("[1,255,-1,-128,2.0]"), Ok(vec![1, 255, 255, 128, 2]));
        assert_eq!(read(r#"{"type":"Buffer","data":[1,2]}"#), Ok(vec![1, 2]));
        assert_eq!(read(r#"{"0":7,"1":8}"#), Ok(vec![7, 8]));
        assert_eq!(read("[]"), Ok(vec![]));
        for wrong in
            ["[256]", "[-129]", "[1.5]", "[null]", "[\"1\"]", "\"a\"", r#"{"a":1}"#, "1", "[-0.5]"]
        {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        assert_eq!(read("[1,300]"), Err("element 1 is 300, which is no byte".to_owned()));
    }

    #[test]
    fn base64_is_read_as_javascript_reads_it() {
        assert_eq!(base64_lenient("AQI="), [1, 2]);
        assert_eq!(base64_lenient("AQI"), [1, 2]);
        assert_eq!(base64_lenient("-_8\n="), [0xfb, 0xff]);
        assert!(base64_lenient("A").is_empty());
        assert_eq!(Encoding::Base64.decode("AQI").as_deref(), Ok(&[1, 2][..]));
        assert!(Encoding::Base64.decode("%").is_err());
    }
}
