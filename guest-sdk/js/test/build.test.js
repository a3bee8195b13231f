// The build tool, on small projects in a temporary folder.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";

import { build } from "../src/build/build.js";
import { project } from "./project.js";

const fails = (root, message) => assert.rejects(build(root, { small: true }), { message });

test("a project of several files, in TypeScript, becomes a component; again, nothing is done", async () => {
  const root = project("my-plugin", {
    "src/plugin.ts": `
      import { Outcome, Verdict, type Connect, type Parse } from "portreeve-guest";
      import { reason } from "./reason.ts";
      console.log("dropped: the plugin is being built");
      export const verify = (request: Connect) => Verdict.admit(request.clientId);
      export const parse: Parse = () => Outcome.reject(reason);
    `,
    "src/reason.ts": 'export const reason: string = "no";',
    "my-plugin.toml": "[settings]\n",
  });
  assert.match(await build(root, { small: true }), /^build.my-plugin\.wasm: verifier and parser, 1\.\d+ MB/);
  const component = readFileSync(join(root, "build", "my-plugin.wasm"));
  assert.deepEqual([...component.subarray(0, 4)], [0, 0x61, 0x73, 0x6d]);
  assert.equal(readFileSync(join(root, "build", "my-plugin.toml"), "utf8"), "[settings]\n");
  assert.match(await build(root, { small: true }), /nothing changed/);
});

test("a source without a role is refused", () =>
  fails(project("no-role", { "src/plugin.js": "export const x = 1;" }), /exports neither `verify` nor `parse` \(it exports x\)/));

test("a module of Node.js is refused with its place", () =>
  fails(
    project("node-module", { "src/plugin.js": 'import "node:fs";\nexport const parse = () => {};' }),
    /src\/plugin\.js:1:8: Could not resolve "node:fs"[^]*no modules of Node\.js/,
  ));

test("settings outside of a function are refused", () =>
  fails(
    project("too-early", {
      "src/plugin.js": 'import { settings } from "portreeve-guest";\nconst key = settings.get("key");\nexport const parse = () => key;',
    }),
    /settings were asked for outside of a function[^]*ask inside verify or parse/,
  ));

test("a role that is no function is refused", () =>
  fails(project("no-function", { "src/plugin.js": "export const parse = 5;" }), /`parse` is 5, not a function/));

test("a folder without a source says what is missing", () =>
  fails(project("empty", {}), /the source is missing: src\/plugin\.js or src\/plugin\.ts/));
