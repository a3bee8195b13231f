//! What scripts find around them: `console`, `Buffer`, `require` and the like. The parts in
//! JavaScript are run only where the script names what they hold.

pub(crate) mod console;
mod crypto;
mod text;

use std::collections::BTreeMap;

use rquickjs::context::EvalOptions;
use rquickjs::{Ctx, Function, Object, Persistent, Value};

use crate::convert::Makers;
use crate::json;

/// What a script needs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    text: bool,
    buffer: bool,
    crypto: bool,
}

impl Wanted {
    pub(crate) fn by(script: &str, with_buffer: bool) -> Self {
        let crypto = script.contains("crypto");
        Self {
            text: script.contains("Text") || script.contains("util"),
            buffer: crypto || with_buffer || script.contains("Buffer") || script.contains("buffer"),
            crypto,
        }
    }
}

/// What of it the host calls.
pub(crate) struct Installed {
    pub(crate) invoke: Persistent<Function<'static>>,
    pub(crate) makers: Makers,
}

pub(crate) fn install(
    ctx: &Ctx<'_>,
    wanted: Wanted,
    environment: &BTreeMap<String, String>,
) -> rquickjs::Result<Installed> {
    let native = Object::new(ctx.clone())?;
    native.set("write", Function::new(ctx.clone(), console::write)?)?;
    native.set("random", Function::new(ctx.clone(), crypto::random)?)?;
    native.set("isDeep", Function::new(ctx.clone(), json::is_deep)?)?;
    native.set("jsonDepthMax", json::DEPTH_READ_MAX)?;
    native.set("encode", Function::new(ctx.clone(), text::encode)?)?;
    native.set("decode", Function::new(ctx.clone(), text::decode)?)?;
    let variables = Object::new(ctx.clone())?;
    for (name, value) in environment {
        variables.set(name.as_str(), value.as_str())?;
    }
    native.set("environment", variables)?;
    let parts = Object::new(ctx.clone())?;
    run(ctx, "base", include_str!("globals/base.js"), &native, &parts)?;
    if wanted.text {
        run(ctx, "text", include_str!("globals/text.js"), &native, &parts)?;
    }
    if wanted.buffer {
        run(ctx, "buffer", include_str!("globals/buffer.js"), &native, &parts)?;
    }
    if wanted.crypto {
        native.set("digest", Function::new(ctx.clone(), crypto::digest)?)?;
        native.set("hmac", Function::new(ctx.clone(), crypto::hmac)?)?;
        native.set("randomBytes", Function::new(ctx.clone(), crypto::random_bytes)?)?;
        run(ctx, "crypto", include_str!("globals/crypto.js"), &native, &parts)?;
    }
    let kept = |name: &str| -> rquickjs::Result<_> {
        Ok(Persistent::save(ctx, parts.get::<_, Function<'_>>(name)?))
    };
    let buffer = if wanted.buffer { Some(kept("toBuffer")?) } else { None };
    let plain = Object::new(ctx.clone())?.get_prototype().ok_or(rquickjs::Error::Unknown)?;
    let plain = Persistent::save(ctx, plain);
    Ok(Installed { invoke: kept("invoke")?, makers: Makers { date: kept("date")?, plain, buffer } })
}

/// Runs a part of ours: a function of what is native, and of what the parts before it made.
fn run<'js>(
    ctx: &Ctx<'js>,
    name: &str,
    text: &str,
    native: &Object<'js>,
    parts: &Object<'js>,
) -> rquickjs::Result<()> {
    let mut options = EvalOptions::default();
    options.filename = Some(format!("portreeve:{name}"));
    let part: Function<'_> = ctx.eval_with_options(text, options)?;
    part.call::<_, Value<'_>>((native.clone(), parts.clone())).map(drop)
}
