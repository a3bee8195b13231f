// TextEncoder and TextDecoder of the component against those of Node.

import assert from "node:assert/strict";
import { test } from "node:test";

import { shown } from "../src/component/console.js";
import * as ours from "../src/component/text.js";

// QuickJS has these natively; older versions of Node do not.
Uint8Array.fromBase64 ??= (text) => new Uint8Array(Buffer.from(text, "base64"));
Uint8Array.prototype.toBase64 ??= function () {
  return Buffer.from(this.buffer, this.byteOffset, this.length).toString("base64");
};

const SEQUENCES = 20_000;
// Bytes at which the rules of UTF-8 change, and `%` and `A`.
const EDGES = [0x25, 0x41, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbb, 0xbf, 0xc0, 0xc2, 0xdf, 0xe0, 0xe1, 0xed, 0xef, 0xf0, 0xf4, 0xf5, 0xff];

test("decoding equals the standard's, whatever the bytes", () => {
  for (const bytes of sequences()) {
    assert.equal(new ours.TextDecoder().decode(bytes), new TextDecoder().decode(bytes));
    const options = { ignoreBOM: true, fatal: true };
    assert.deepEqual(attempt(ours.TextDecoder, bytes, options), attempt(TextDecoder, bytes, options));
  }
});

test("decoding in pieces equals decoding at once", () => {
  for (const bytes of sequences()) {
    const decoder = new ours.TextDecoder();
    let text = "";
    for (const byte of bytes) text += decoder.decode(Uint8Array.of(byte), { stream: true });
    assert.equal(text + decoder.decode(), new TextDecoder().decode(bytes));
  }
});

test("encoding equals the standard's, lone surrogates included", () => {
  for (const bytes of sequences()) {
    const text = String.fromCharCode(...bytes, 0xd800 + bytes.length * 200, bytes.length * 5000);
    assert.deepEqual(new ours.TextEncoder().encode(text), new TextEncoder().encode(text));
    const [a, b] = [new Uint8Array(5), new Uint8Array(5)];
    assert.deepEqual(new ours.TextEncoder().encodeInto(text, a), new TextEncoder().encodeInto(text, b));
    assert.deepEqual(a, b);
  }
});

test("another encoding is refused", () => {
  assert.throws(() => new ours.TextDecoder("latin1"), RangeError);
});

test("console shows values in one line", () => {
  assert.equal(shown({ a: 1n, b: Uint8Array.of(255) }), '{"a":"1n","b":"ff"}');
  assert.equal(shown(Uint8Array.of(1, 255)), "Uint8Array(2) 01ff");
  assert.equal(shown(undefined), "undefined");
});

function* sequences() {
  let seed = 1;
  const random = (below) => {
    seed = (Math.imul(seed, 1_103_515_245) + 12_345) >>> 0;
    return (seed >>> 8) % below;
  };
  for (let i = 0; i < SEQUENCES; i++) {
    const bytes = () => (random(4) ? EDGES[random(EDGES.length)] : random(256));
    yield Uint8Array.from({ length: random(10) }, bytes);
  }
}

function attempt(Decoder, bytes, options) {
  try {
    return new Decoder("utf-8", options).decode(bytes);
  } catch (error) {
    return error.constructor.name;
  }
}
