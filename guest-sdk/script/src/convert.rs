//! Values on their way into a script and out of it.

use rquickjs::{Array, Ctx, Function, Object, Persistent, TypedArray, Value};

use crate::error::{Fault, ScriptError};
use crate::json;

/// What a function of a script is called with.
#[derive(Debug, Clone, Copy)]
pub enum Argument<'a> {
    /// `undefined`
    Undefined,
    /// A number.
    Number(f64),
    /// A string.
    Text(&'a str),
    /// Whatever a JSON text says.
    Json(&'a str),
    /// An array of numbers from 0 to 255.
    Numbers(&'a [u8]),
    /// A `Buffer`, for which [`Source::with_buffer`](crate::Source::with_buffer) has to be set.
    Buffer(&'a [u8]),
    /// A `Date`: milliseconds since the Unix epoch.
    Date(u64),
    /// An object with these members.
    Object(&'a [(&'a str, Self)]),
    /// An object with these strings; the last of several with one name counts.
    Strings(&'a [(String, String)]),
}

/// What a function of a script returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Returned {
    /// `undefined` or `null`.
    Nothing,
    /// A string.
    Text(String),
    /// A `Uint8Array`, a `Buffer` or an `ArrayBuffer`.
    Bytes(Vec<u8>),
    /// Anything else, as `JSON.stringify` writes it.
    Json(String),
}

/// Functions of ours that make values for a script.
#[derive(Debug)]
pub(crate) struct Makers {
    pub(crate) date: Persistent<Function<'static>>,
    /// `Object.prototype`
    pub(crate) plain: Persistent<Object<'static>>,
    pub(crate) buffer: Option<Persistent<Function<'static>>>,
}

impl Argument<'_> {
    pub(crate) fn value<'js>(
        &self,
        ctx: &Ctx<'js>,
        makers: &Makers,
    ) -> rquickjs::Result<Value<'js>> {
        Ok(match *self {
            Self::Undefined => Value::new_undefined(ctx.clone()),
            Self::Number(number) => Value::new_number(ctx.clone(), number),
            Self::Text(text) => rquickjs::String::from_str(ctx.clone(), text)?.into_value(),
            Self::Json(text) if json::has_more_levels(text) => {
                let levels = json::DEPTH_READ_MAX;
                let text = format!("the JSON has more than {levels} levels");
                return Err(rquickjs::Exception::throw_range(ctx, &text));
            }
            Self::Json(text) => ctx.json_parse(text)?,
            Self::Numbers(bytes) => {
                let array = Array::new(ctx.clone())?;
                for (index, &byte) in bytes.iter().enumerate() {
                    array.set(index, i32::from(byte))?;
                }
                array.into_value()
            }
            Self::Buffer(bytes) => {
                let array = TypedArray::new_copy(ctx.clone(), bytes)?;
                match &makers.buffer {
                    Some(maker) => maker.clone().restore(ctx)?.call((array,))?,
                    None => array.into_value(),
                }
            }
            Self::Date(milliseconds) => {
                #[expect(clippy::cast_precision_loss, reason = "JavaScript's dates are doubles")]
                let milliseconds = milliseconds as f64;
                makers.date.clone().restore(ctx)?.call((milliseconds,))?
            }
            Self::Object(members) => {
                let object = Object::new(ctx.clone())?;
                for (name, member) in members {
                    object.set(*name, member.value(ctx, makers)?)?;
                }
                object.into_value()
            }
            Self::Strings(members) => {
                let object = Object::new(ctx.clone())?;
                for (name, text) in members {
                    // Defined and not set: the name `__proto__` is one like any other.
                    object.prop(
                        name.as_str(),
                        rquickjs::object::Property::from(text.as_str())
                            .configurable()
                            .enumerable()
                            .writable(),
                    )?;
                }
                object.into_value()
            }
        })
    }
}

impl Returned {
    pub(crate) fn of<'js>(
        ctx: &Ctx<'js>,
        script: &str,
        makers: &Makers,
        value: Value<'js>,
    ) -> Result<Self, ScriptError> {
        if value.is_undefined() || value.is_null() {
            return Ok(Self::Nothing);
        }
        let failed = |error: rquickjs::Error| ScriptError::of(ctx, script, &error);
        if let Some(text) = value.as_string() {
            return text.to_string().map(Self::Text).map_err(failed);
        }
        // Plain objects come first: the engine throws an error, with its stack, to say that
        // something is no `ArrayBuffer`.
        if let Ok(plain) = makers.plain.clone().restore(ctx) {
            if let Some(text) = json::written(&value, &plain) {
                return Ok(Self::Json(text));
            }
            // What a getter threw is thrown again below.
            drop(ctx.catch());
        }
        let bytes = bytes_of(&value);
        drop(ctx.catch());
        if let Some(bytes) = bytes {
            return Ok(Self::Bytes(bytes));
        }
        match ctx.json_stringify(value).map_err(failed)? {
            Some(text) => text.to_string().map(Self::Json).map_err(failed),
            None => Err(ScriptError::new(script, Fault::Result, "it returned what is no value")),
        }
    }
}

/// A copy of the bytes of a `Uint8Array` or an `ArrayBuffer`.
#[expect(unsafe_code, reason = "the engine's memory is copied before JavaScript runs again")]
pub(crate) fn bytes_of(value: &Value<'_>) -> Option<Vec<u8>> {
    let object = value.as_object()?;
    if let Some(array) = object.as_typed_array::<u8>() {
        // SAFETY: no JavaScript runs between this line and the end of the copy.
        let bytes = unsafe { array.as_bytes() };
        return bytes.map(<[u8]>::to_vec);
    }
    let buffer = object.as_array_buffer()?;
    // SAFETY: no JavaScript runs between this line and the end of the copy.
    let bytes = unsafe { buffer.as_bytes() };
    bytes.map(<[u8]>::to_vec)
}
