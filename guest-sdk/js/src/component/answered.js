// Every exception of a call as the contract's error, so that the instance lives on.

import { host } from "#host";

import { run } from "./running.js";

const CAUSES_MAX = 8;

/** What `call` returns. What it throws is thrown on as a text: the runtime traps on an object. */
export function answered(call) {
  run();
  try {
    return call();
  } catch (thrown) {
    if (thrown instanceof Error && host.log.enabled("debug")) {
      host.log.log("debug", `${thrown.name}: ${thrown.message}\n${thrown.stack}`.toWellFormed(), []);
    }
    throw errorText(thrown).toWellFormed();
  }
}

function errorText(thrown) {
  if (!(thrown instanceof Error)) return typeof thrown === "string" ? thrown : jsonText(thrown);
  const texts = [];
  for (let error = thrown; error instanceof Error && texts.length < CAUSES_MAX; error = error.cause) {
    texts.push(error.message || error.name);
  }
  return texts.join(": ");
}

function jsonText(value) {
  try {
    return JSON.stringify(value) ?? String(value);
  } catch {
    return String(value);
  }
}
