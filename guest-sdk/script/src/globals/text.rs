//! Texts to bytes and back, for `Buffer`, `TextEncoder` and `TextDecoder`.

use rquickjs::{Ctx, Exception, TypedArray, Value};

use crate::bytes::{Encoding, base64_lenient, base64url};
use crate::convert::bytes_of;

/// The bytes of a text.
pub(super) fn encode(
    ctx: Ctx<'_>,
    text: String,
    encoding: String,
) -> rquickjs::Result<TypedArray<'_, u8>> {
    let bytes = match encoding.as_str() {
        "utf8" => text.into_bytes(),
        #[expect(clippy::cast_possible_truncation, reason = "as Node does it")]
        "latin1" => text.encode_utf16().map(|unit| unit as u8).collect(),
        "utf16le" => text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
        "hex" => hex_lenient(&text),
        "base64" | "base64url" => base64_lenient(&text),
        other => return Err(unknown(&ctx, other)),
    };
    TypedArray::new_copy(ctx, bytes)
}

/// The text of bytes.
#[expect(clippy::needless_pass_by_value, reason = "the engine hands its arguments over")]
pub(super) fn decode<'js>(
    ctx: Ctx<'js>,
    array: Value<'js>,
    encoding: String,
) -> rquickjs::Result<String> {
    let Some(bytes) = bytes_of(&array) else {
        return Err(Exception::throw_type(&ctx, "a Uint8Array is needed here"));
    };
    Ok(match encoding.as_str() {
        "utf8" => String::from_utf8_lossy(&bytes).into_owned(),
        "utf8-fatal" => match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(_) => return Err(Exception::throw_type(&ctx, "the bytes are no UTF-8")),
        },
        "latin1" => bytes.iter().map(|&byte| char::from(byte)).collect(),
        "ascii" => bytes.iter().map(|&byte| char::from(byte & 0x7f)).collect(),
        "utf16le" => {
            let (units, _) = bytes.as_chunks::<2>();
            let units: Vec<u16> = units.iter().map(|&unit| u16::from_le_bytes(unit)).collect();
            String::from_utf16_lossy(&units)
        }
        "hex" => Encoding::Hex.encode(&bytes),
        "base64" => Encoding::Base64.encode(&bytes),
        "base64url" => base64url(&bytes),
        other => return Err(unknown(&ctx, other)),
    })
}

fn unknown(ctx: &Ctx<'_>, encoding: &str) -> rquickjs::Error {
    Exception::throw_type(ctx, &format!("Unknown encoding: {encoding}"))
}

/// As Node reads it: to the first pair of characters that is no byte.
fn hex_lenient(text: &str) -> Vec<u8> {
    let (pairs, _) = text.as_bytes().as_chunks::<2>();
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    pairs.iter().map_while(|&[high, low]| Some((digit(high)? << 4) | digit(low)?)).collect()
}
