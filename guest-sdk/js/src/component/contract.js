// The contract's records to and from the author's objects. The runtime traps on a value of the
// wrong type and does not say where it was; the checks here do. A check takes the object's and
// the field's name apart, so that no text is made for a value that is right.

import { describe } from "../bytes.js";
import { Message } from "../message.js";

const QOS = ["at-most-once", "at-least-once", "exactly-once"];
const QOS_NUMBERS = { "at-most-once": 0, "at-least-once": 1, "exactly-once": 2 };
const ACTIONS = ["publish", "subscribe", "both"];
const FORMATS = ["unspecified", "utf8"];
const REASONS = [
  "bad-user-name-or-password",
  "not-authorized",
  "banned",
  "server-busy",
  "quota-exceeded",
  "use-another-server",
];
const U32_MAX = 0xffff_ffff;
const PASS = { tag: "pass" };
const DROP = { tag: "drop" };

/** The message that a parser is given: the contract's record itself, with its methods. */
export function message(record) {
  record.qos = QOS_NUMBERS[record.qos];
  return Object.setPrototypeOf(record, Message.prototype);
}

/** What the author's `verify` returned, as the contract's variant. */
export function verdict(answer) {
  switch (answer?.verdict) {
    case "admit":
      return { tag: "admit", val: admission(answer) };
    case "refuse":
      return { tag: "refuse", val: refusal(answer) };
    case "challenge":
      return { tag: "challenge", val: bytes(answer.data, "Challenge", "data") };
    default:
      throw new TypeError(
        `verify returned ${described(answer)}; it returns Verdict.admit(…), a Refusal or Verdict.challenge(…)`,
      );
  }
}

/** What the author's `parse` returned, as the contract's variant. */
export function outcome(answer) {
  if (answer instanceof Message) return { tag: "replace", val: [record(answer, "the message")] };
  if (Array.isArray(answer)) return replace(answer);
  switch (answer?.outcome) {
    case "pass":
      return PASS;
    case "drop":
      return DROP;
    case "replace":
      return replace(answer.messages);
    case "reject":
      return { tag: "reject", val: text(answer.reason, "Outcome.reject", "reason") };
    default:
      throw new TypeError(
        `parse returned ${described(answer)}; it returns a Message, an array of Messages, ` +
          "Outcome.pass, Outcome.drop or Outcome.reject(…)",
      );
  }
}

function admission(given) {
  const what = "Admission";
  return {
    deviceName: text(given.deviceName, what, "deviceName"),
    product: optional(text, given.product, what, "product"),
    attributes: properties(given.attributes, what, "attributes"),
    permissions: optional(permissions, given.permissions, what, "permissions"),
    expiresIn: optional(u32, given.expiresIn, what, "expiresIn"),
    cacheFor: optional(u32, given.cacheFor, what, "cacheFor"),
    authenticationData: optional(bytes, given.authenticationData, what, "authenticationData"),
  };
}

function permissions(given, what, field) {
  return list(given, what, field).map((permission) => ({
    action: oneOf(ACTIONS, permission?.action, what, "permission's action"),
    topicFilter: text(permission.topicFilter, what, "permission's topicFilter"),
  }));
}

function refusal(given) {
  return {
    reason: oneOf(REASONS, given.reason, "Refusal", "reason"),
    message: text(given.message, "Refusal", "message"),
    serverReference: optional(text, given.serverReference, "Refusal", "serverReference"),
  };
}

function replace(messages) {
  const val = list(messages, "Outcome.replace", "messages").map((given, i) => record(given, `messages[${i}]`));
  return { tag: "replace", val };
}

function record(given, what) {
  if (!(given instanceof Message)) throw wrong(given, what, "itself", "a Message");
  const qos = QOS[given.qos];
  if (qos === undefined) throw wrong(given.qos, what, "qos", "0, 1 or 2");
  return {
    topic: text(given.topic, what, "topic"),
    payload: bytes(given.payload, what, "payload"),
    payloadFormat: optional(format, given.payloadFormat, what, "payloadFormat"),
    qos,
    retain: given.retain === true,
    contentType: optional(text, given.contentType, what, "contentType"),
    responseTopic: optional(text, given.responseTopic, what, "responseTopic"),
    correlationData: optional(bytes, given.correlationData, what, "correlationData"),
    messageExpiryInterval: optional(u32, given.messageExpiryInterval, what, "messageExpiryInterval"),
    userProperties: properties(given.userProperties, what, "userProperties"),
  };
}

function optional(check, value, what, field) {
  return value === null || value === undefined ? null : check(value, what, field);
}

function text(value, what, field) {
  if (typeof value !== "string") throw wrong(value, what, field, "a text");
  if (!value.isWellFormed()) throw wrong(value, what, field, "a text without lone surrogates");
  return value;
}

function bytes(value, what, field) {
  if (value instanceof Uint8Array) return value;
  throw wrong(value, what, field, "a Uint8Array");
}

function u32(value, what, field) {
  if (Number.isInteger(value) && value >= 0 && value <= U32_MAX) return value;
  throw wrong(value, what, field, `whole seconds, 0 to ${U32_MAX}`);
}

function format(value, what, field) {
  return oneOf(FORMATS, value, what, field);
}

function oneOf(names, value, what, field) {
  if (names.includes(value)) return value;
  throw wrong(value, what, field, `one of ${names.join(", ")}`);
}

function properties(value, what, field) {
  const pairs = list(value, what, field);
  for (const pair of pairs) {
    if (!Array.isArray(pair) || pair.length !== 2) {
      throw wrong(pair, what, field, "an array of pairs: [[name, value], …]");
    }
    text(pair[0], what, field);
    text(pair[1], what, field);
  }
  return pairs;
}

function list(value, what, field) {
  if (Array.isArray(value)) return value;
  throw wrong(value, what, field, "an array");
}

function wrong(value, what, field, wanted) {
  return new TypeError(`${what}: ${field} is ${describe(value)}; it is to be ${wanted}`);
}

function described(answer) {
  const kind = describe(answer);
  return kind === "a promise" ? "a promise (a plugin cannot wait: no async, no await)" : kind;
}
