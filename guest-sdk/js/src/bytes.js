// Bytes and texts.

const encoder = new TextEncoder();

/** The bytes themselves, or the UTF-8 of a text. `what` names the value in the error. */
export function toBytes(value, what) {
  if (typeof value === "string") return encoder.encode(value);
  if (value instanceof Uint8Array) return value;
  throw new TypeError(`${what} is ${describe(value)}; it is a Uint8Array or a text`);
}

export function timingSafeEqual(a, b) {
  const left = toBytes(a, "the first value");
  const right = toBytes(b, "the second value");
  if (left.length !== right.length) return false;
  let difference = 0;
  for (let i = 0; i < left.length; i++) difference |= left[i] ^ right[i];
  return difference === 0;
}

/** A value for an error message: its kind, and itself where it is short. */
export function describe(value) {
  if (value === null || value === undefined) return String(value);
  if (typeof value === "number" || typeof value === "boolean") return String(value);
  if (typeof value === "bigint") return `${value}n`;
  if (typeof value === "string") {
    return value.length <= 40 ? JSON.stringify(value) : `a text of ${value.length} characters`;
  }
  if (typeof value === "function") return "a function";
  if (typeof value.then === "function") return "a promise";
  if (Array.isArray(value)) return "an array";
  return value.constructor?.name && value.constructor !== Object
    ? `a ${value.constructor.name}`
    : "an object";
}
