// `wasi:http/outgoing-handler`, used one request at a time. Only the build tool reads this file: it
// picks it with the condition `portreeve`; Node picks `native.js`. `wasj:` is the name for the compiler:
// see `build/imports.js`.

import handler from "wasj:http/outgoing-handler@0.2.2";
import types from "wasj:http/types@0.2.2";

import { isRunning } from "../component/running.js";
import { HttpError } from "./error.js";

// As many bytes as the contract lets one write take, and as are read at a time.
const WRITE_BYTES = 4096;
const READ_BYTES = 65_536;
const NANOSECONDS = 1_000_000_000;
const METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];
const DENIED = ["HTTP-request-denied", "destination-IP-prohibited", "connection-limit-reached"];
const INVALID = ["HTTP-request-URI-invalid", "HTTP-request-method-invalid", "HTTP-request-body-size"];
const TIMED_OUT = ["HTTP-response-timeout", "connection-timeout", "connection-read-timeout"];
const BROKEN = ["HTTP-response-incomplete", "HTTP-response-body-size"];

const encoder = new TextEncoder();

/** Sends a request and waits for the whole response. */
export function send(request) {
  if (!isRunning()) {
    throw new Error(
      "a request was made outside of a function, which happens while the plugin is built: " +
        "make it inside verify or parse",
    );
  }
  const content = outgoing(request);
  const future = refused(() => handler.handle(content.request, options(request.timeout)));
  try {
    write(content.body, request.body);
    return read(answered(future));
  } finally {
    dispose(future);
  }
}

function outgoing({ method, url, headers, body }) {
  const [scheme, authority, path] = parts(url);
  const fields = new types.Fields();
  const all = headers.map(([name, value]) => [name, encoder.encode(value)]);
  const hasLength = headers.some(([name]) => name.toLowerCase() === "content-length");
  if (body.length > 0 && !hasLength) all.push(["content-length", encoder.encode(String(body.length))]);
  for (const [name, value] of all) {
    accepted(() => fields.append(name, value), `header ${name}`);
  }
  const request = new types.OutgoingRequest(fields);
  accepted(() => request.setScheme(scheme), "its scheme is none");
  accepted(() => request.setAuthority(authority), "its host is none");
  accepted(() => request.setPathWithQuery(path), "its path is none");
  accepted(() => request.setMethod(methodOf(method)), "its method is none");
  return { request, body: request.body() };
}

function parts(url) {
  const [, scheme, authority, rest] = /^([^:/?#]+):\/\/([^/?#]*)([^#]*)/.exec(url) ?? [];
  if (scheme === undefined) throw new HttpError("invalid", "its URL has no scheme");
  const known = { https: { tag: "HTTPS" }, http: { tag: "HTTP" } };
  return [known[scheme] ?? { tag: "other", val: scheme }, authority, rest.startsWith("/") ? rest : `/${rest}`];
}

function methodOf(method) {
  return METHODS.includes(method) ? { tag: method.toLowerCase() } : { tag: "other", val: method };
}

function options(timeout) {
  if (timeout === null) return null;
  const given = new types.RequestOptions();
  const nanoseconds = Math.ceil(timeout * NANOSECONDS);
  given.setConnectTimeout(nanoseconds);
  given.setFirstByteTimeout(nanoseconds);
  given.setBetweenBytesTimeout(nanoseconds);
  return given;
}

// Where the request is refused nobody reads the body; the response then says why.
function write(outgoingBody, body) {
  const stream = outgoingBody.write();
  let isWritten = true;
  try {
    for (let at = 0; at < body.length; at += WRITE_BYTES) {
      stream.blockingWriteAndFlush(body.slice(at, at + WRITE_BYTES));
    }
  } catch {
    isWritten = false;
  } finally {
    dispose(stream);
  }
  if (isWritten) refused(() => types.OutgoingBody.finish(outgoingBody, null));
  else dispose(outgoingBody);
}

function answered(future) {
  const pollable = future.subscribe();
  pollable.block();
  dispose(pollable);
  const outcome = future.get();
  if (outcome?.tag !== "ok") throw new HttpError("broken", "no response");
  if (outcome.val.tag !== "ok") throw sorted(outcome.val.val);
  return outcome.val.val;
}

// What came from another resource is disposed before it.
function read(response) {
  const fields = response.headers();
  const headers = fields.entries();
  dispose(fields);
  const status = response.status();
  const incoming = response.consume();
  const stream = incoming.stream();
  try {
    const decoder = new TextDecoder();
    return { status, headers: headers.map(([name, value]) => [name, decoder.decode(value)]), body: drained(stream) };
  } finally {
    for (const resource of [stream, incoming, response]) dispose(resource);
  }
}

function drained(stream) {
  const chunks = [];
  try {
    for (;;) chunks.push(stream.blockingRead(READ_BYTES));
  } catch (thrown) {
    const why = thrown?.payload;
    if (why === undefined) throw thrown;
    if (why.tag !== "closed") throw brokenOff(why.val);
  }
  const body = new Uint8Array(chunks.reduce((sum, chunk) => sum + chunk.length, 0));
  let at = 0;
  for (const chunk of chunks) {
    body.set(chunk, at);
    at += chunk.length;
  }
  return body;
}

function brokenOff(error) {
  const [code, text] = [types.httpErrorCode(error), error.toDebugString()];
  dispose(error);
  // Some hosts have a text only for what goes wrong within a body.
  if (code === null) return new HttpError(...(text.includes("timeout") ? ["timed-out"] : ["broken", text]));
  return TIMED_OUT.includes(code.tag) ? sorted(code) : new HttpError("broken", shown(code));
}

function refused(call) {
  try {
    return call();
  } catch (thrown) {
    if (thrown?.payload === undefined) throw thrown;
    throw sorted(thrown.payload);
  }
}

function accepted(call, what) {
  try {
    call();
  } catch (thrown) {
    throw new HttpError("invalid", thrown?.payload?.tag ? `${what}: ${thrown.payload.tag}` : what);
  }
}

function sorted(code) {
  if (DENIED.includes(code.tag)) return new HttpError("denied");
  if (TIMED_OUT.includes(code.tag)) return new HttpError("timed-out");
  if (INVALID.includes(code.tag)) return new HttpError("invalid", shown(code));
  return new HttpError(BROKEN.includes(code.tag) ? "broken" : "unreachable", shown(code));
}

const shown = ({ tag, val }) => (val === undefined || val === null ? tag : `${tag} ${JSON.stringify(val)}`);

const dispose = (resource) => resource[Symbol.dispose]();
