// A small key-value space of the plugin's own, shared by its instances.

import { host } from "#host";

import { describe, toBytes } from "./bytes.js";

const SECONDS_MAX = 0xffff_ffff;

export function get(key) {
  return host.state.get(checkedKey(key)) ?? null;
}

export function set(key, value, ttl) {
  stored(() => host.state.set(checkedKey(key), toBytes(value, "the value"), checkedTtl(ttl)));
}

export function remove(key) {
  host.state.remove(checkedKey(key));
}

export function increment(key, by = 1, ttl) {
  const amount = checkedAmount(by);
  return stored(() => host.state.increment(checkedKey(key), amount, checkedTtl(ttl)));
}

export function counter(key) {
  const bytes = get(key);
  if (bytes === null) return 0n;
  if (bytes.length !== 8) throw new Error(`the entry \`${key}\` is no counter`);
  return new DataView(bytes.buffer, bytes.byteOffset, 8).getBigInt64(0, true);
}

// The runtime turns a key, an amount or a time of the wrong type into a trap or into another
// number without a word, so they are checked here.
function checkedKey(key) {
  if (typeof key !== "string") throw new TypeError(`the key is ${describe(key)}; it is a text`);
  return key.toWellFormed();
}

function checkedTtl(ttl) {
  if (ttl === undefined || ttl === null) return null;
  if (Number.isInteger(ttl) && ttl >= 0 && ttl <= SECONDS_MAX) return ttl;
  throw new RangeError(`the ttl is ${describe(ttl)}; it is whole seconds, 0 to ${SECONDS_MAX}`);
}

// A number of JavaScript holds 53 bits, and the runtime takes no bigint.
function checkedAmount(by) {
  const amount = typeof by === "bigint" ? Number(by) : by;
  if (Number.isSafeInteger(amount)) return amount;
  throw new RangeError(`the amount is ${describe(by)}; it is a whole number within 2^53`);
}

function stored(call) {
  try {
    return call();
  } catch (thrown) {
    const why = thrown?.payload;
    if (why === undefined) throw thrown;
    throw new Error(`the state did not take the entry: ${explained(why)}`, { cause: why });
  }
}

function explained({ tag, val }) {
  switch (tag) {
    case "key-too-long":
      return `its key is longer than ${val} bytes`;
    case "value-too-long":
      return `its value is longer than ${val} bytes`;
    case "full":
      return `the entries would exceed ${val} bytes`;
    default:
      return "it is no counter";
  }
}
