// Requests over HTTP, to what the manifest grants. A bundle that does not use this file has no
// `wasi:http` in it, and the component does not ask the gateway for it.

import { send } from "#http";

import { describe, toBytes } from "./bytes.js";

export { HttpError } from "./http/error.js";

const MILLISECONDS_MAX = 2 ** 31;

/** What a server answered. */
export class Response {
  constructor(status, body = "", headers = {}) {
    this.status = status;
    this.headers = pairs(headers);
    this.body = toBytes(body, "the body");
  }

  get ok() {
    return this.status >= 200 && this.status < 300;
  }

  header(name) {
    const wanted = name.toLowerCase();
    return this.headers.find(([other]) => other.toLowerCase() === wanted)?.[1] ?? null;
  }

  text() {
    return new TextDecoder("utf-8", { fatal: true }).decode(this.body);
  }

  json() {
    return JSON.parse(this.text());
  }
}

export function request({ method = "GET", url, headers = {}, body = null, timeout = null }) {
  const { status, headers: received, body: content } = send({
    method: checkedText(method, "the method"),
    url: checkedText(url, "the url"),
    headers: pairs(headers),
    body: body === null ? new Uint8Array(0) : toBytes(body, "the body"),
    timeout: checkedTimeout(timeout),
  });
  return new Response(status, content, received);
}

export const get = (url, options) => request({ ...options, method: "GET", url });

export const post = (url, body, options) => request({ ...options, method: "POST", url, body });

// The runtime traps on a value of the wrong type, so they are checked here.
function checkedText(value, what) {
  if (typeof value !== "string") throw new TypeError(`${what} is ${describe(value)}; it is a text`);
  return value.toWellFormed();
}

function pairs(headers) {
  const entries = typeof headers?.[Symbol.iterator] === "function" ? [...headers] : Object.entries(headers ?? {});
  return entries.map(([name, value]) => [
    checkedText(name, "a header's name"),
    checkedText(value, `the header ${describe(name)}`),
  ]);
}

function checkedTimeout(seconds) {
  if (seconds === null || seconds === undefined) return null;
  if (typeof seconds === "number" && seconds > 0 && seconds <= MILLISECONDS_MAX / 1000) return seconds;
  throw new RangeError(`the timeout is ${describe(seconds)}; it is seconds, above 0`);
}
