import assert from "node:assert/strict";
import { test } from "node:test";

import { connect, settings } from "portreeve-guest/testing";

import { verify } from "../src/plugin.js";

function admittedAs(userName, password) {
  settings({ "user.device-1": "demo", "user.app": "x", "device.app": "platform", "user.none": "" });
  const verdict = verify(connect("c", { userName, password }));
  return verdict.verdict === "admit" ? verdict.deviceName : null;
}

test("only a listed user with its password is admitted", () => {
  assert.equal(admittedAs("device-1", "demo"), "device-1");
  assert.equal(admittedAs("app", "x"), "platform");
  const others = [["device-1", "demO"], ["device-1", ""], ["device-2", "demo"], ["none", ""], ["", ""]];
  for (const [userName, password] of others) assert.equal(admittedAs(userName, password), null);
});

test("a CONNECT without user name or password is refused", () => {
  assert.equal(verify(connect("c")).verdict, "refuse");
  assert.equal(verify(connect("c", { userName: "device-1" })).reason, "bad-user-name-or-password");
});
