//! `console`, into the plugin's log.

use std::cell::Cell;

use portreeve_guest::log::{self, Level};
use rquickjs::function::Rest;
use rquickjs::{Ctx, Value};

use crate::error::shorten;

/// Lines of one call; the gateway bounds those of a second.
const LINES_PER_CALL_MAX: u32 = 50;
/// Bytes of one line; the gateway cuts at 8 KiB.
const LINE_BYTES_MAX: usize = 4 << 10;

thread_local! {
    static LINES: Cell<u32> = const { Cell::new(0) };
}

/// The lines of the next call are counted anew.
pub(crate) fn begin_call() {
    LINES.set(0);
}

/// Writes one line. The level is a number from 0 (trace) to 4 (error).
#[expect(clippy::needless_pass_by_value, reason = "the engine hands its arguments over")]
pub(super) fn write<'js>(ctx: Ctx<'js>, level: u32, values: Rest<Value<'js>>) {
    let level = match level {
        0 => Level::Trace,
        1 => Level::Debug,
        2 => Level::Info,
        3 => Level::Warn,
        _ => Level::Error,
    };
    let line = LINES.get();
    if line > LINES_PER_CALL_MAX || !log::enabled(level) {
        return;
    }
    LINES.set(line + 1);
    if line == LINES_PER_CALL_MAX {
        log::warn("console: further lines of this call are left out");
        return;
    }
    let mut text = formatted(&ctx, &values.0);
    shorten(&mut text, LINE_BYTES_MAX);
    log::log(level, &text, &[]);
}

/// As Node writes it: a first text with `%s`, `%d`, `%i`, `%f`, `%j`, `%o`, `%O` takes values in.
fn formatted<'js>(ctx: &Ctx<'js>, values: &[Value<'js>]) -> String {
    let mut rest = values.iter();
    let mut text = String::new();
    if let Some(format) = values.first().and_then(Value::as_string)
        && let Ok(format) = format.to_string()
    {
        rest.next();
        let mut pieces = format.split('%');
        text.push_str(pieces.next().unwrap_or_default());
        let mut is_escaped = false;
        for piece in pieces {
            let code = piece.chars().next();
            match code {
                _ if is_escaped => {
                    is_escaped = false;
                    text.push_str(piece);
                }
                None if rest.len() < values.len() && !piece.is_empty() => {}
                Some('s' | 'd' | 'i' | 'f' | 'j' | 'o' | 'O') if rest.len() > 0 => {
                    if let Some(value) = rest.next() {
                        text.push_str(&shown(ctx, value));
                    }
                    text.push_str(piece.get(1..).unwrap_or_default());
                }
                _ => {
                    // `%%` leaves an empty piece behind and stands for one sign.
                    is_escaped = piece.is_empty();
                    text.push('%');
                    text.push_str(piece);
                }
            }
        }
    }
    for value in rest {
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(&shown(ctx, value));
        if text.len() > LINE_BYTES_MAX {
            break;
        }
    }
    text
}

fn shown<'js>(ctx: &Ctx<'js>, value: &Value<'js>) -> String {
    if let Some(text) = value.as_string() {
        return text.to_string().unwrap_or_default();
    }
    if value.is_undefined() {
        return "undefined".to_owned();
    }
    if let Some(number) = value.as_number() {
        return number.to_string();
    }
    if value.is_error()
        && let Some(error) = value.as_object()
    {
        let field = |key: &str| error.get::<_, Option<String>>(key).ok().flatten();
        let text = [field("name").unwrap_or_default(), field("message").unwrap_or_default()];
        let stack = field("stack").unwrap_or_default();
        drop(ctx.catch());
        return format!("{}\n{stack}", text.join(": ")).trim_end().to_owned();
    }
    if value.is_function() {
        return "[Function]".to_owned();
    }
    let text = ctx.json_stringify(value.clone()).ok().flatten();
    // A cycle, or a getter that throws.
    drop(ctx.catch());
    text.and_then(|text| text.to_string().ok())
        .unwrap_or_else(|| format!("[{}]", value.type_name()))
}
