// What every script has. Everything that is used later is taken hold of here, before the script
// may change it.
(function (native, parts) {
  "use strict";
  const { Promise, Date, Function, Error, RangeError, String, JSON, Math } = globalThis;
  const { write, random } = native;
  const define = (name, value) =>
    Object.defineProperty(globalThis, name, {
      value, writable: true, configurable: true, enumerable: false,
    });

  const at = (level) => (...values) => write(level, ...values);
  const nothing = () => undefined;
  define("console", {
    trace: at(0), debug: at(1), log: at(2), info: at(2), dir: at(2), table: at(2), warn: at(3), error: at(4),
    assert: (holds, ...values) => { if (!holds) write(4, "Assertion failed", ...values); },
    time: nothing, timeEnd: nothing, timeLog: nothing, group: nothing, groupEnd: nothing, count: nothing,
  });
  define("global", globalThis);
  define("process", { env: native.environment, platform: "wasi", versions: {}, nextTick: (job, ...values) => {
    Promise.resolve().then(() => job(...values));
  } });
  Math.random = random;
  // What devices send decides how deep this goes, and so it is bounded.
  const { parse } = JSON;
  JSON.parse = function (text, reviver) {
    if (typeof text === "string" && text.length > 2 * native.jsonDepthMax && native.isDeep(text)) {
      throw new RangeError(`JSON.parse: more than ${native.jsonDepthMax} levels`);
    }
    return parse(text, reviver);
  };

  parts.modules = { __proto__: null };
  const strip = (name) => (name.startsWith("node:") ? name.slice(5) : name);
  define("require", function require(name) {
    const module = parts.modules[strip(String(name))];
    if (module !== undefined) return module;
    throw new Error(
      `require(${JSON.stringify(String(name))}): only buffer, crypto and util are here; ` +
      "put the script and what it needs into one file, as a bundler does",
    );
  });
  const module = { exports: {} };
  define("module", module);
  define("exports", module.exports);

  parts.date = (milliseconds) => new Date(milliseconds);

  // How clouds call their functions. The first answer counts.
  const then = Function.prototype.call.bind(Promise.prototype.then);
  parts.invoke = (handler, event, context) => {
    let settle, fail, isDone = false;
    const promise = new Promise((resolve, reject) => { settle = resolve; fail = reject; });
    const callback = (error, value) => {
      if (isDone) return;
      isDone = true;
      if (error === null || error === undefined) settle(value);
      else fail(error);
    };
    if (typeof context === "object" && context !== null) {
      context.done = callback;
      context.succeed = (value) => callback(null, value);
      context.fail = (error) => callback(error === null || error === undefined ? new Error("failed") : error);
    }
    const returned = handler(event, context, callback);
    if (returned !== undefined && !isDone) {
      // A promise may be beside the callback, and then the callback comes first.
      const succeed = (value) => callback(null, value);
      try {
        then(returned, succeed, fail);
      } catch {
        // No promise of the engine's own.
        then(new Promise((resolve) => resolve(returned)), succeed, fail);
      }
    }
    return promise;
  };
})
