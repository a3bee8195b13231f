//! JSON of what scripts return. Plain objects and arrays are written here, in half the time that
//! the engine takes; whatever is not plain, such as a `Date`, a `Map` or a cycle, is left to the
//! engine's `JSON.stringify`.

use rquickjs::{Atom, Object, Type, Value};

/// Levels of arrays and objects that are read. The engine reads them by recursion.
pub(crate) const DEPTH_READ_MAX: u32 = 250;
/// Depth to which values are written here.
const DEPTH_MAX: usize = 32;
/// Above it, JavaScript writes numbers with an exponent.
const PLAIN_MAX: f64 = 1e21;
/// Below it, too.
const PLAIN_MIN: f64 = 1e-6;

/// Whether a JSON text has more levels than are read. Brackets within strings do not count.
#[expect(clippy::needless_pass_by_value, reason = "the engine hands its arguments over")]
pub(crate) fn is_deep(text: String) -> bool {
    has_more_levels(&text)
}

/// As [`is_deep`].
pub(crate) fn has_more_levels(text: &str) -> bool {
    let (mut depth, mut is_text, mut is_escaped) = (0_u32, false, false);
    for byte in text.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_text => is_escaped = true,
            b'"' => is_text = !is_text,
            b'[' | b'{' if !is_text => {
                depth += 1;
                if depth > DEPTH_READ_MAX {
                    return true;
                }
            }
            b']' | b'}' if !is_text => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

/// The text of a value, `None` where it is not plain. `plain` is `Object.prototype`.
pub(crate) fn written<'js>(value: &Value<'js>, plain: &Object<'js>) -> Option<String> {
    let mut text = String::with_capacity(128);
    write(&mut text, value, plain, 0)?;
    Some(text)
}

fn write<'js>(
    text: &mut String,
    value: &Value<'js>,
    plain: &Object<'js>,
    depth: usize,
) -> Option<()> {
    match value.type_of() {
        Type::Null => text.push_str("null"),
        Type::Bool => text.push_str(if value.as_bool()? { "true" } else { "false" }),
        Type::Int | Type::Float => write_number(text, value.as_number()?),
        // One with half of a surrogate pair is no text here.
        Type::String => write_text(text, &value.as_string()?.to_string().ok()?),
        Type::Array if depth < DEPTH_MAX => {
            let array = value.as_array()?;
            text.push('[');
            for index in 0..array.len() {
                if index > 0 {
                    text.push(',');
                }
                let element: Value<'js> = array.get(index).ok()?;
                if is_left_out(&element) {
                    text.push_str("null");
                } else {
                    write(text, &element, plain, depth + 1)?;
                }
            }
            text.push(']');
        }
        Type::Object if depth < DEPTH_MAX => {
            write_object(text, value.as_object()?, plain, depth)?;
        }
        _ => return None,
    }
    Some(())
}

fn write_object<'js>(
    text: &mut String,
    object: &Object<'js>,
    plain: &Object<'js>,
    depth: usize,
) -> Option<()> {
    // Anything else may be a date, a boxed number, or have a `toJSON`.
    if object.get_prototype().as_ref() != Some(plain) {
        return None;
    }
    text.push('{');
    let mut is_first = true;
    for key in object.keys::<Atom<'js>>() {
        let key = key.ok()?;
        let member: Value<'js> = object.get(key.clone()).ok()?;
        let key = key.to_string().ok()?;
        if key == "toJSON" {
            return None;
        }
        if is_left_out(&member) {
            continue;
        }
        if !is_first {
            text.push(',');
        }
        is_first = false;
        write_text(text, &key);
        text.push(':');
        write(text, &member, plain, depth + 1)?;
    }
    text.push('}');
    Some(())
}

fn is_left_out(value: &Value<'_>) -> bool {
    value.is_undefined() || value.is_function() || value.is_symbol()
}

fn write_number(text: &mut String, number: f64) {
    use std::fmt::Write as _;
    let size = number.abs();
    // Writing to a text does not fail.
    let _ = if !number.is_finite() {
        text.write_str("null")
    } else if number == 0.0 {
        text.write_str("0")
    } else if (PLAIN_MIN..PLAIN_MAX).contains(&size) {
        write!(text, "{number}")
    } else {
        write!(text, "{number:e}")
    };
}

fn write_text(text: &mut String, value: &str) {
    text.push('"');
    let mut from = 0;
    for (at, byte) in value.bytes().enumerate() {
        let escaped = match byte {
            b'"' => "\\\"",
            b'\\' => "\\\\",
            b'\n' => "\\n",
            b'\r' => "\\r",
            b'\t' => "\\t",
            0..0x20 => "",
            _ => continue,
        };
        text.push_str(value.get(from..at).unwrap_or_default());
        if escaped.is_empty() {
            use std::fmt::Write as _;
            let _ = write!(text, "\\u{byte:04x}");
        } else {
            text.push_str(escaped);
        }
        from = at + 1;
    }
    text.push_str(value.get(from..).unwrap_or_default());
    text.push('"');
}
