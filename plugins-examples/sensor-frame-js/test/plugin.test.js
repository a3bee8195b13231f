import assert from "node:assert/strict";
import { test } from "node:test";

import { context, message, replaced } from "portreeve-guest/testing";

import { parse } from "../src/plugin.js";

const up = (topic, ...bytes) => parse(context("up"), message(topic, Uint8Array.of(...bytes)));
const down = (topic, text) => parse(context("down"), message(topic, text));

test("a frame becomes JSON", () => {
  const json = '{"temperature":21.5,"humidity":45.5,"battery":3.3}';
  const answer = up("devices/d/raw", 0x08, 0x66, 0x11, 0xc6, 0x0c, 0xe4);
  assert.deepEqual(replaced(answer), [["devices/d/telemetry", json]]);
  const [[, frost]] = replaced(up("raw", 0xff, 0x38, 0, 0, 0, 0));
  assert.equal(JSON.parse(frost).temperature, -2);
});

test("a frame of another length is rejected", () => {
  assert.deepEqual(up("t", 0x08, 0x66), { outcome: "reject", reason: "a frame has 6 bytes, this has 2" });
});

test("a command becomes two bytes", () => {
  assert.deepEqual(replaced(down("devices/d/set", '{"report_interval":60}')), [["devices/d/down", "\0\x3c"]]);
  for (const text of ['{"report_interval":65536}', '{"report_interval":"60"}', "{}", "null", "off", ""]) {
    assert.equal(down("t", text).outcome, "reject");
  }
});
