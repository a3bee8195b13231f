// Requests over HTTP: natively, and as a component that the gateway runs against a server.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

import { http } from "portreeve-guest";
import { service } from "portreeve-guest/testing";

import { build } from "../src/build/build.js";
import { nameImports } from "../src/build/imports.js";
import { project } from "./project.js";

test("a request reaches the service, and its answer comes back", () => {
  const asked = [];
  service((request) => {
    asked.push(request);
    return new http.Response(201, '{"known":true}', { "Content-Type": "application/json" });
  });
  const response = http.post("https://a.example/verify", "x", { headers: { "x-a": "1" }, timeout: 0.5 });
  assert.deepEqual(asked, [
    { method: "POST", url: "https://a.example/verify", headers: [["x-a", "1"]], body: Uint8Array.of(0x78), timeout: 0.5 },
  ]);
  assert.equal(response.status, 201);
  assert.equal(response.ok, true);
  assert.equal(response.header("content-type"), "application/json");
  assert.equal(response.header("absent"), null);
  assert.deepEqual(response.json(), { known: true });
  http.get("https://a.example/", { headers: [["a", "1"], ["a", "2"]] });
  assert.deepEqual(asked[1].headers, [["a", "1"], ["a", "2"]]);
  assert.equal(asked[1].method, "GET");
});

test("without a service a request is denied, and an error says why", () => {
  service(null);
  assert.throws(() => http.get("https://a.example/"), {
    name: "HttpError",
    code: "denied",
    message: "the manifest does not grant this request",
  });
  const error = new http.HttpError("unreachable", "connection-refused");
  assert.equal(error.message, "the server cannot be reached: connection-refused");
});

test("a request of the wrong type is refused with its place", () => {
  assert.throws(() => http.get(5), /the url is 5; it is a text/);
  assert.throws(() => http.request({ url: "https://a", body: 5 }), /the body is 5/);
  assert.throws(() => http.get("https://a", { headers: { a: 5 } }), /the header "a" is 5; it is a text/);
  assert.throws(() => http.get("https://a", { timeout: 0 }), RangeError);
});

test("only names of imports are changed", () => {
  const section = (id, text) => [id, text.length, ...Buffer.from(text)];
  const bytes = Uint8Array.from([0, 0x61, 0x73, 0x6d, 0xd, 0, 1, 0, ...section(10, "_wasj:io_wasj:http"), ...section(0, "wasj:")]);
  const named = Buffer.from(nameImports(bytes)).toString("latin1");
  assert.ok(named.endsWith("_wasi:io_wasi:http\x00\x05wasj:"), named);
});

// What guest-sdk/tests/asking.py asks for.
const ASKS = `
  import { http } from "portreeve-guest";
  export const parse = (context, message) => message.with("told", message.text().split("\\n").map(told).join("\\n"));
  function told(line) {
    const [method, url, milliseconds, mark, bytes] = line.split(" ");
    const timeout = Number(milliseconds) / 1000 || null;
    try {
      const response = http.request({ method, url, headers: { "x-mark": mark }, body: "x".repeat(bytes), timeout });
      return response.status + " " + response.header("X-Served") + " " + response.text();
    } catch (error) {
      if (!(error instanceof http.HttpError)) throw error;
      return error.code;
    }
  }`;
const PLAIN = 'import { Outcome } from "portreeve-guest"; export const parse = () => Outcome.pass;';

test("a component asks a service, within its grant", { skip: !process.env.PORTREEVE }, async () => {
  const components = [];
  for (const [name, source] of Object.entries({ asks: ASKS, plain: PLAIN })) {
    const root = project(name, { "src/plugin.js": source });
    await build(root, { small: true });
    components.push(join(root, "build", `${name}.wasm`));
  }
  const asking = fileURLToPath(new URL("../../tests/asking.py", import.meta.url));
  const { status, stderr } = spawnSync("python3", [asking, ...components], { encoding: "utf8" });
  assert.equal(status, 0, stderr);
});
