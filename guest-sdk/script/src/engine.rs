//! One script in an engine of its own.

use std::collections::BTreeMap;

use rquickjs::context::EvalOptions;
use rquickjs::function::Args;
use rquickjs::{Context, Ctx, Function, Module, Persistent, Runtime, Value};

use crate::convert::{Argument, Makers, Returned};
use crate::error::{Fault, ScriptError};
use crate::globals::{self, Wanted};

/// Bytes of a script. It is compiled in each instance, so a library goes into it with care.
pub const SCRIPT_BYTES_MAX: usize = 256 << 10;
/// What a script may have of the 16 MiB that an instance has by default.
pub(crate) const MEMORY_BYTES_DEFAULT: usize = 8 << 20;
/// The engine stops a recursion here with an error, after some 500 calls. WebAssembly's own stack,
/// of which the engine knows nothing, has room for some 1,000.
const STACK_BYTES_MAX: usize = 128 << 10;
/// Jobs of promises that may follow the answer of a call.
const JOBS_AFTER_CALL_MAX: usize = 10_000;

/// A script and how it is run.
#[derive(Debug, Clone)]
pub struct Source<'a> {
    name: &'a str,
    text: &'a str,
    memory_bytes_max: usize,
    environment: BTreeMap<String, String>,
    with_buffer: bool,
    body_of: Option<&'a str>,
    helpers: Option<&'a str>,
}

impl<'a> Source<'a> {
    /// A script; its name stands in messages.
    #[must_use]
    pub const fn new(name: &'a str, text: &'a str) -> Self {
        Self {
            name,
            text,
            memory_bytes_max: MEMORY_BYTES_DEFAULT,
            environment: BTreeMap::new(),
            with_buffer: false,
            body_of: None,
            helpers: None,
        }
    }

    /// With another bound for the memory of the engine.
    #[must_use]
    pub const fn memory(mut self, bytes_max: usize) -> Self {
        self.memory_bytes_max = bytes_max;
        self
    }

    /// With these variables in `process.env`.
    #[must_use]
    pub fn environment(mut self, variables: BTreeMap<String, String>) -> Self {
        self.environment = variables;
        self
    }

    /// With `Buffer`, also where the script does not name it.
    #[must_use]
    pub const fn with_buffer(mut self) -> Self {
        self.with_buffer = true;
        self
    }

    /// A text that is no script but returns, is the body of a function with this head, such as
    /// `Decoder(payload, metadata)`.
    #[must_use]
    pub const fn body_of(mut self, head: &'a str) -> Self {
        self.body_of = Some(head);
        self
    }

    /// With functions that a platform puts beside its scripts: JavaScript that runs before.
    #[must_use]
    pub const fn helpers(mut self, text: &'a str) -> Self {
        self.helpers = Some(text);
        self
    }
}

/// A function of a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FunctionId(usize);

/// A script that was run once, and whose functions can be called.
pub struct Script {
    // What lives in the engine is dropped before it.
    functions: Vec<(String, Persistent<Function<'static>>)>,
    exports: Persistent<Value<'static>>,
    invoke: Persistent<Function<'static>>,
    makers: Makers,
    context: Context,
    name: String,
}

impl std::fmt::Debug for Script {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Script").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Script {
    /// Compiles a script and runs its outermost lines.
    ///
    /// # Errors
    /// Where it cannot be compiled, is too long, or throws.
    pub fn load(source: &Source<'_>) -> Result<Self, ScriptError> {
        let name = source.name;
        let failed = |text: String| ScriptError::new(name, Fault::Memory, text);
        if source.text.len() > SCRIPT_BYTES_MAX {
            let bytes = source.text.len();
            return Err(ScriptError::new(
                name,
                Fault::Syntax,
                format!(
                    "{bytes} bytes are more than the {SCRIPT_BYTES_MAX} of a script; a bundler that minifies helps"
                ),
            ));
        }
        let start = || {
            let runtime = Runtime::new()?;
            runtime.set_memory_limit(source.memory_bytes_max);
            runtime.set_max_stack_size(STACK_BYTES_MAX);
            Context::full(&runtime)
        };
        let context =
            start().map_err(|error| failed(format!("the engine does not start: {error}")))?;
        let (exports, globals) = context.with(|ctx| {
            let wanted = Wanted::by(source.text, source.with_buffer);
            let globals = globals::install(&ctx, wanted, &source.environment)
                .map_err(|error| ScriptError::of(&ctx, name, &error))?;
            if let Some(helpers) = source.helpers {
                eval(&ctx, "portreeve:helpers", helpers.to_owned())
                    .map_err(|error| ScriptError::of(&ctx, name, &error))?;
            }
            let exports = run(&ctx, source)?;
            finish_jobs(&ctx, name)?;
            Ok((Persistent::save(&ctx, exports), globals))
        })?;
        Ok(Self {
            functions: Vec::new(),
            exports,
            invoke: globals.invoke,
            makers: globals.makers,
            context,
            name: name.to_owned(),
        })
    }

    /// The name of its file.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A function that the script exports or declares.
    ///
    /// # Errors
    /// Where there is none of this name.
    pub fn function(&mut self, name: &str) -> Result<FunctionId, ScriptError> {
        if let Some(at) = self.functions.iter().position(|(known, _)| known == name) {
            return Ok(FunctionId(at));
        }
        let function = self.context.with(|ctx| {
            let found = find(&ctx, &self.exports, name);
            // What a getter threw is nobody's concern.
            drop(ctx.catch());
            found.map(|function| Persistent::save(&ctx, function))
        });
        let Some(function) = function else {
            return Err(ScriptError::new(
                &self.name,
                Fault::Missing,
                format!(
                    "it has no function `{name}`; declare it, or export it with `exports.{name} = …`"
                ),
            ));
        };
        self.functions.push((name.to_owned(), function));
        Ok(FunctionId(self.functions.len() - 1))
    }

    /// Whether the script has such a function.
    pub fn has(&mut self, name: &str) -> bool {
        self.function(name).is_ok()
    }

    /// Calls a function and waits for the promise that it may return.
    ///
    /// # Errors
    /// Where it throws, rejects, is never done, or returns what is no value.
    pub fn call(
        &mut self,
        function: FunctionId,
        arguments: &[Argument<'_>],
    ) -> Result<Returned, ScriptError> {
        self.run_function(function, arguments, false)
    }

    /// Calls a cloud function: `(event, context, callback)`. What it gives to its callback, what
    /// its promise resolves to, or else what it returns is the result, whichever is first.
    ///
    /// # Errors
    /// As [`Script::call`]; the first argument of the callback is an error, too.
    pub fn call_handler(
        &mut self,
        function: FunctionId,
        event: Argument<'_>,
        context: Argument<'_>,
    ) -> Result<Returned, ScriptError> {
        self.run_function(function, &[event, context], true)
    }

    fn run_function(
        &self,
        FunctionId(at): FunctionId,
        arguments: &[Argument<'_>],
        is_handler: bool,
    ) -> Result<Returned, ScriptError> {
        let name = self.name.as_str();
        let Some((_, function)) = self.functions.get(at) else {
            return Err(ScriptError::new(name, Fault::Missing, "a function of another script"));
        };
        globals::console::begin_call();
        self.context
            .with(|ctx| {
                let called = self.apply(&ctx, function, arguments, is_handler);
                let value = called.map_err(|error| ScriptError::of(&ctx, name, &error));
                let returned =
                    value.and_then(|value| Returned::of(&ctx, name, &self.makers, value));
                // Nothing of this call may run within the next one.
                finish_jobs(&ctx, name)?;
                returned
            })
            // It was compiled long ago: this is what `JSON.parse` throws.
            .map_err(|error| match error.fault {
                Fault::Syntax => ScriptError { fault: Fault::Thrown, ..error },
                _ => error,
            })
    }

    fn apply<'js>(
        &self,
        ctx: &Ctx<'js>,
        function: &Persistent<Function<'static>>,
        arguments: &[Argument<'_>],
        is_handler: bool,
    ) -> rquickjs::Result<Value<'js>> {
        let function = function.clone().restore(ctx)?;
        let mut args = Args::new(ctx.clone(), arguments.len() + usize::from(is_handler));
        if is_handler {
            args.push_arg(function.clone())?;
        }
        for argument in arguments {
            args.push_arg(argument.value(ctx, &self.makers)?)?;
        }
        let value: Value<'js> = if is_handler {
            args.apply(&self.invoke.clone().restore(ctx)?)?
        } else {
            args.apply(&function)?
        };
        match value.as_promise() {
            Some(promise) => promise.finish(),
            None => Ok(value),
        }
    }
}

/// Runs the script, and returns what it exports.
fn run<'js>(ctx: &Ctx<'js>, source: &Source<'_>) -> Result<Value<'js>, ScriptError> {
    let failed = |error: rquickjs::Error| ScriptError::of(ctx, source.name, &error);
    let error = match eval(ctx, source.name, source.text.to_owned()) {
        Ok(()) => return exports(ctx).map_err(failed),
        Err(error) => failed(error),
    };
    if error.fault != Fault::Syntax {
        return Err(error);
    }
    if let Some(head) = source.body_of
        && let text = format!("function {head} {{{}\n}}", source.text)
        && eval(ctx, source.name, text).is_ok()
    {
        return exports(ctx).map_err(failed);
    }
    drop(ctx.catch());
    if is_module(source.text) {
        return module(ctx, source).map_err(failed);
    }
    Err(error)
}

/// As a browser does it: old scripts assign to variables that they never declared.
fn eval(ctx: &Ctx<'_>, name: &str, text: String) -> rquickjs::Result<()> {
    let mut options = EvalOptions::default();
    options.strict = false;
    options.filename = Some(name.to_owned());
    ctx.eval_with_options::<Value<'_>, _>(text, options).map(drop)
}

fn exports<'js>(ctx: &Ctx<'js>) -> rquickjs::Result<Value<'js>> {
    let module: Value<'js> = ctx.globals().get("module")?;
    match module.as_object() {
        Some(module) => module.get("exports"),
        None => Ok(module),
    }
}

fn is_module(text: &str) -> bool {
    text.lines().any(|line| line.starts_with("export ") || line.starts_with("import "))
}

fn module<'js>(ctx: &Ctx<'js>, source: &Source<'_>) -> rquickjs::Result<Value<'js>> {
    let declared = Module::declare(ctx.clone(), source.name, source.text)?;
    let (module, evaluated) = declared.eval()?;
    evaluated.finish::<()>()?;
    Ok(module.namespace()?.into_value())
}

/// Looks among what is exported, then among what is declared.
fn find<'js>(
    ctx: &Ctx<'js>,
    exports: &Persistent<Value<'static>>,
    name: &str,
) -> Option<Function<'js>> {
    let exports = exports.clone().restore(ctx).ok()?;
    let exported = exports.as_object().and_then(|object| object.get::<_, Value<'js>>(name).ok());
    if let Some(function) = exported.and_then(Value::into_function) {
        return Some(function);
    }
    let is_name = |character: char| character.is_ascii_alphanumeric() || "_$".contains(character);
    if !name.is_empty() && name.chars().all(is_name) {
        // `const decode = …` is no member of the global object, but a name of the script.
        let value: rquickjs::Result<Value<'js>> =
            ctx.eval(format!("typeof {name} === 'function' ? {name} : undefined"));
        if let Some(function) = value.ok().and_then(Value::into_function) {
            return Some(function);
        }
    }
    // `module.exports = function …`
    exports.into_function()
}

/// Lets promises run to their end. One that goes on for ever ends with the call's deadline, or
/// here.
fn finish_jobs(ctx: &Ctx<'_>, name: &str) -> Result<(), ScriptError> {
    for _ in 0..JOBS_AFTER_CALL_MAX {
        if !ctx.execute_pending_job() {
            return Ok(());
        }
    }
    Err(ScriptError::new(name, Fault::Memory, "its promises go on and on after the call"))
}
