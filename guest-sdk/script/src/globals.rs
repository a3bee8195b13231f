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

#[cfg(test)]
mod tests {
    use crate::{Argument, Returned, Script, Source};

    /// Each line is an expression and what Node 18 or later makes of it, as JSON.
    const CASES: &str = include_str!("testdata/globals.txt");

    #[test]
    fn expressions_have_the_values_that_node_gives_them() {
        let mut script = Script::load(&Source::new(
            "a.js",
            "/* Buffer Text crypto */ function run(text) { return JSON.stringify(eval(text)); }",
        ))
        .unwrap();
        let run = script.function("run").unwrap();
        let mut wrong = Vec::new();
        for line in CASES.lines() {
            let (expression, expected) = line.rsplit_once(" -> ").unwrap();
            let value = script.call(run, &[Argument::Text(expression)]);
            if value != Ok(Returned::Text(expected.to_owned())) {
                wrong.push(format!("{line}, and not {value:?}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn a_module_that_is_not_there_says_what_to_do() {
        let script = "const axios = require('axios'); function run() {}";
        let error = Script::load(&Source::new("a.js", script)).unwrap_err().to_string();
        assert!(error.starts_with("a.js:1:") && error.contains("one file"), "{error}");
    }

    #[test]
    fn variables_of_the_settings_are_in_the_environment() {
        let source = Source::new("a.js", "function run() { return process.env.TABLE; }")
            .environment([("TABLE".to_owned(), "devices".to_owned())].into());
        let mut script = Script::load(&source).unwrap();
        let run = script.function("run").unwrap();
        assert_eq!(script.call(run, &[]), Ok(Returned::Text("devices".to_owned())));
    }
}
