//! Distinguished names as text (RFC 4514), and the one common name.

use std::borrow::Cow;
use std::fmt::Write as _;

use x509_parser::der_parser::asn1_rs::Tag;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// Attributes of one name.
const ATTRIBUTES_MAX: usize = 64;
const COMMON_NAME: &str = "2.5.4.3";

/// Short names of RFC 4514 §3, and those that everybody else writes, too.
const SHORT_NAMES: [(&str, &str); 14] = [
    (COMMON_NAME, "CN"),
    ("2.5.4.4", "SN"),
    ("2.5.4.5", "serialNumber"),
    ("2.5.4.6", "C"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.9", "STREET"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.12", "title"),
    ("2.5.4.42", "GN"),
    ("0.9.2342.19200300.100.1.1", "UID"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("1.2.840.113549.1.9.1", "emailAddress"),
];

/// A name that two readers would read differently.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// C programs read up to there.
    #[error("its {0} holds NUL")]
    Nul(&'static str),
    /// Other control characters; nobody sees them, and logs are torn by them.
    #[error("its {0} holds a control character")]
    Control(&'static str),
    /// Which one is meant?
    #[error("its subject has two common names, {0:?} and {1:?}")]
    TwoCommonNames(String, String),
    /// Bytes that are no text in their encoding.
    #[error("its {0} is no text")]
    NoText(&'static str),
    /// More than anybody needs.
    #[error("its name has more than {ATTRIBUTES_MAX} attributes")]
    TooManyAttributes,
}

/// A text without characters that nobody sees.
pub(super) fn checked<'a>(what: &'static str, text: &'a str) -> Result<&'a str, NameError> {
    if text.contains('\0') {
        return Err(NameError::Nul(what));
    }
    if text.chars().any(char::is_control) {
        return Err(NameError::Control(what));
    }
    Ok(text)
}

/// The common name, if there is one.
pub(super) fn common_name(name: &X509Name<'_>) -> Result<Option<String>, NameError> {
    let mut found: Option<String> = None;
    for attribute in name.iter_common_name() {
        let text = text(attribute).ok_or(NameError::NoText("common name"))?;
        let text = checked("common name", &text)?.to_owned();
        if let Some(first) = found {
            return Err(NameError::TwoCommonNames(first, text));
        }
        found = Some(text);
    }
    Ok(found)
}

/// The name as a text: most specific part first, `,` between parts, `+` within one.
pub(super) fn rfc4514(name: &X509Name<'_>) -> Result<String, NameError> {
    if name.iter_attributes().count() > ATTRIBUTES_MAX {
        return Err(NameError::TooManyAttributes);
    }
    let parts: Vec<_> = name.iter_rdn().collect();
    let mut written = String::new();
    for (index, part) in parts.into_iter().rev().enumerate() {
        for (position, attribute) in part.iter().enumerate() {
            match (index, position) {
                (0, 0) => {}
                (_, 0) => written.push(','),
                _ => written.push('+'),
            }
            write_attribute(&mut written, attribute)?;
        }
    }
    Ok(written)
}

fn write_attribute(
    written: &mut String,
    attribute: &AttributeTypeAndValue<'_>,
) -> Result<(), NameError> {
    let oid = attribute.attr_type().to_id_string();
    let short = SHORT_NAMES.iter().find(|(known, _)| *known == oid).map(|(_, short)| *short);
    written.push_str(short.unwrap_or(&oid));
    written.push('=');
    match (short, text(attribute)) {
        (Some(_), Some(text)) => escape(written, checked("name", &text)?),
        // A type or a value that has no text: its DER, as RFC 4514 §2.4 has it.
        _ => {
            let value = attribute.attr_value();
            written.push('#');
            let mut head = vec![u8::try_from(value.tag().0).unwrap_or(0)];
            let length = value.data.len();
            match u8::try_from(length) {
                Ok(short @ 0..=127) => head.push(short),
                Ok(byte) => head.extend([0x81, byte]),
                Err(_) => {
                    let [.., high, low] = length.to_be_bytes();
                    head.extend([0x82, high, low]);
                }
            }
            written.push_str(&hex::encode(head));
            written.push_str(&hex::encode(value.data));
        }
    }
    Ok(())
}

/// Escapes what has a meaning (RFC 4514 §2.4).
fn escape(written: &mut String, text: &str) {
    let last = text.chars().count().saturating_sub(1);
    for (index, character) in text.chars().enumerate() {
        let is_at_end = index == 0 || index == last;
        match character {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => {
                written.push('\\');
                written.push(character);
            }
            ' ' if is_at_end => written.push_str("\\ "),
            '#' if index == 0 => written.push_str("\\#"),
            // Whole characters of UTF-8 stay what they are.
            other => {
                let _never_fails = written.write_char(other);
            }
        }
    }
}

/// The text of an attribute; `None` where its bytes are none in its encoding.
fn text<'a>(attribute: &'a AttributeTypeAndValue<'_>) -> Option<Cow<'a, str>> {
    let bytes = attribute.as_slice();
    match attribute.attr_value().tag() {
        Tag::Utf8String => std::str::from_utf8(bytes).ok().map(Cow::Borrowed),
        Tag::PrintableString | Tag::Ia5String | Tag::NumericString => {
            let text = std::str::from_utf8(bytes).ok()?;
            text.is_ascii().then_some(Cow::Borrowed(text))
        }
        // What is called T61 is Latin-1 wherever it is written today.
        Tag::T61String => Some(bytes.iter().map(|byte| char::from(*byte)).collect()),
        Tag::BmpString => {
            let units = bytes.chunks_exact(2).map(|unit| match unit {
                [high, low] => u16::from_be_bytes([*high, *low]),
                _ => 0,
            });
            let text = char::decode_utf16(units).collect::<Result<String, _>>().ok();
            text.filter(|_| bytes.len().is_multiple_of(2)).map(Cow::Owned)
        }
        Tag::UniversalString => {
            let characters = bytes.chunks_exact(4).map(|unit| match unit {
                [a, b, c, d] => char::from_u32(u32::from_be_bytes([*a, *b, *c, *d])),
                _ => None,
            });
            let text = characters.collect::<Option<String>>();
            text.filter(|_| bytes.len().is_multiple_of(4)).map(Cow::Owned)
        }
        _ => None,
    }
}
