// What an author builds, and what crosses to the gateway.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Message, Outcome, Refusal, Verdict, timingSafeEqual } from "portreeve-guest";
import { connect, context, message as received, replaced, takeLog, tls } from "portreeve-guest/testing";

import { answered } from "../src/component/answered.js";
import { message, outcome, verdict } from "../src/component/contract.js";

test("an admission crosses with everything that it says", () => {
  const given = Verdict.admit("device-1", { product: "meters", expiresIn: 60, authenticationData: "x" })
    .attribute("room", "7")
    .permit("publish", "devices/%d/#");
  assert.deepEqual(verdict(given), {
    tag: "admit",
    val: {
      deviceName: "device-1",
      product: "meters",
      attributes: [["room", "7"]],
      permissions: [{ action: "publish", topicFilter: "devices/%d/#" }],
      expiresIn: 60,
      cacheFor: null,
      authenticationData: Uint8Array.of(0x78),
    },
  });
  assert.equal(verdict(Verdict.admit("d")).val.permissions, null);
  assert.deepEqual(verdict(Verdict.admit("d", { permissions: [] })).val.permissions, []);
});

test("refusals and challenges cross", () => {
  const { val } = verdict(Refusal.useAnotherServer("full", "b:1883"));
  assert.deepEqual(val, { reason: "use-another-server", message: "full", serverReference: "b:1883" });
  assert.deepEqual(verdict(Verdict.challenge("x")), { tag: "challenge", val: Uint8Array.of(0x78) });
});

test("a wrong verdict is an error that names the place", () => {
  const refused = (answer) => assert.throws.bind(assert, () => verdict(answer));
  refused(undefined)(/verify returned undefined; it returns Verdict\.admit/);
  refused(Promise.resolve())(/a promise \(a plugin cannot wait/);
  refused({ tag: "admit" })(/an object/);
  refused(Verdict.admit(5))(/Admission: deviceName is 5; it is to be a text/);
  refused(Verdict.admit("d", { expiresIn: 1.5 }))(/Admission: expiresIn is 1\.5/);
  refused(Verdict.admit("d").permit("pub", "t"))(/action is "pub"; it is to be one of publish/);
  refused(new Refusal("no", "m"))(/Refusal: reason is "no"/);
});

test("a message crosses both ways", () => {
  const given = message({ ...received("a/b", "x"), qos: "at-least-once" });
  assert.ok(given instanceof Message);
  assert.equal(given.qos, 1);
  assert.equal(given.siblingTopic("c"), "a/c");
  assert.deepEqual(given.topicLevels(), ["a", "b"]);
  const { tag, val } = outcome(given.withJson("t", { a: 1 }, { retain: true }));
  assert.equal(tag, "replace");
  assert.equal(val[0].qos, "at-least-once");
  assert.equal(val[0].retain, true);
  assert.equal(val[0].payloadFormat, "utf8");
  assert.equal(val[0].contentType, "application/json");
  assert.deepEqual(replaced(given.with("t", "y", { contentType: "text/plain" })), [["t", "y"]]);
});

test("every outcome crosses", () => {
  assert.deepEqual(outcome(Outcome.pass), { tag: "pass" });
  assert.deepEqual(outcome(Outcome.drop), { tag: "drop" });
  assert.deepEqual(outcome(Outcome.reject("no")), { tag: "reject", val: "no" });
  assert.deepEqual(outcome([]), { tag: "replace", val: [] });
  assert.equal(outcome(Outcome.replace([new Message("t", "x")])).val.length, 1);
});

test("a wrong outcome is an error that names the place", () => {
  const given = new Message("t", "x");
  const refused = (answer) => assert.throws.bind(assert, () => outcome(answer));
  refused(undefined)(/parse returned undefined/);
  refused([given, { topic: "t" }])(/messages\[1\]: itself is an object; it is to be a Message/);
  refused(given.with("t", "x", { qos: 3 }))(/the message: qos is 3; it is to be 0, 1 or 2/);
  refused(given.with("t", "x", { userProperties: [["a"]] }))(/userProperties is an array; it is to be an array of pairs/);
  refused(given.with("\ud800", "x"))(/without lone surrogates/);
  assert.throws(() => given.with("t", 5), /payload is 5; it is a Uint8Array or a text/);
});

test("a payload that is not UTF-8 or not JSON throws", () => {
  assert.throws(() => new Message("t", Uint8Array.of(0xff)).text(), TypeError);
  assert.throws(() => new Message("t", "off").json(), SyntaxError);
});

test("what is thrown becomes a text, with its causes", () => {
  const thrownBy = (what) => {
    try {
      answered(() => { throw what; });
    } catch (thrown) {
      return thrown;
    }
  };
  assert.equal(thrownBy(new Error("outer", { cause: new Error("inner") })), "outer: inner");
  assert.equal(thrownBy("plain"), "plain");
  assert.equal(thrownBy(new RangeError()), "RangeError");
  assert.equal(thrownBy({ a: 1 }), '{"a":1}');
  assert.equal(thrownBy(undefined), "undefined");
  assert.equal(thrownBy(new Error("a\ud800")), "a\ufffd");
  assert.equal(takeLog()[0].level, "debug");
});

test("equal values are equal", () => {
  assert.equal(timingSafeEqual("demo", Uint8Array.of(0x64, 0x65, 0x6d, 0x6f)), true);
  assert.equal(timingSafeEqual("demo", "demO"), false);
  assert.equal(timingSafeEqual("demo", "dem"), false);
});

test("the builders fill what is left out", () => {
  const request = connect("c", { password: "p", connection: { tls: tls({ commonName: "x" }) } });
  assert.deepEqual(request.password, Uint8Array.of(0x70));
  assert.equal(request.connection.tls.certificate.commonName, "x");
  assert.equal(request.connection.protocol, "mqtt5");
  assert.equal(context("up", { device: { name: "d" } }).device.product, "test");
});
