// Settings, state and log, against the native stand-in.

import assert from "node:assert/strict";
import { test } from "node:test";

import { log, settings, state } from "portreeve-guest";
import { clearState, settings as given, takeLog } from "portreeve-guest/testing";

test("settings are texts, and what is not text is JSON", () => {
  given({ text: "t", number: 7, list: [1, 2] });
  assert.equal(settings.get("absent"), null);
  assert.equal(settings.require("text"), "t");
  assert.throws(() => settings.require("absent"), { message: "the manifest's [settings] has no `absent`" });
  assert.equal(settings.parseOr("number", 5), 7);
  assert.deepEqual(settings.parseOr("list", []), [1, 2]);
  assert.equal(settings.parseOr("absent", 5), 5);
  assert.throws(() => settings.parseOr("text", 5), { message: 'the setting `text` is "t", not a number' });
  assert.deepEqual(settings.all().map(([key]) => key), ["list", "number", "text"]);
});

test("the state keeps bytes, within its limits", () => {
  clearState();
  assert.equal(state.get("k"), null);
  state.set("k", "text", 10);
  assert.deepEqual(state.get("k"), new TextEncoder().encode("text"));
  state.remove("k");
  assert.equal(state.get("k"), null);
  assert.throws(() => state.set("k".repeat(257), ""), /its key is longer than 256 bytes/);
  assert.throws(() => state.set("k", new Uint8Array(65_537)), /its value is longer than 65536 bytes/);
  assert.throws(() => state.set("k", "v", -1), RangeError);
  for (let i = 0; i < 15; i++) state.set(`k${i}`, new Uint8Array(65_536));
  assert.throws(() => state.set("last", new Uint8Array(65_536)), /would exceed 1048576 bytes/);
});

test("counters count beyond what a number holds", () => {
  clearState();
  assert.equal(state.increment("c"), 1);
  assert.equal(state.increment("c", 4n), 5);
  assert.equal(state.increment("c", -6), -1);
  assert.equal(state.counter("c"), -1n);
  assert.equal(state.counter("absent"), 0n);
  for (let i = 0; i < 3; i++) state.increment("big", Number.MAX_SAFE_INTEGER);
  assert.equal(state.counter("big"), 3n * (2n ** 53n - 1n));
  assert.throws(() => state.increment("c", 1.5), RangeError);
  assert.throws(() => state.increment("c", 2n ** 60n), RangeError);
  state.set("text", "t");
  assert.throws(() => state.increment("text"), /it is no counter/);
});

test("a line of the log has fields of text", () => {
  takeLog();
  log.info("seen", { count: 1 });
  assert.deepEqual(takeLog(), [{ level: "info", message: "seen", fields: { count: "1" } }]);
  assert.equal(log.enabled("debug"), true);
  assert.throws(() => log.enabled("loud"), /no level: loud/);
});
