// Random numbers of the host. QuickJS seeds `Math.random` once, while the plugin is built: every
// instance would draw the same numbers.

import host from "wasi:random/random@0.2.12";

import { isRunning, whileRunning } from "./running.js";

const BYTES_MAX = 65_536;
const WORDS_KEPT = 128;

const randomBytes = (count) =>
  whileRunning("random numbers of crypto", host).getRandomBytes(count);

export const crypto = {
  getRandomValues(array) {
    if (!ArrayBuffer.isView(array)) throw new TypeError("getRandomValues fills a typed array");
    if (array.byteLength > BYTES_MAX) {
      throw new DOMException(`more than ${BYTES_MAX} bytes`, "QuotaExceededError");
    }
    const view = new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
    view.set(randomBytes(array.byteLength));
    return array;
  },

  randomUUID() {
    const bytes = randomBytes(16);
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    const hex = bytes.toHex();
    return [[0, 8], [8, 12], [12, 16], [16, 20], [20, 32]]
      .map(([from, to]) => hex.slice(from, to))
      .join("-");
  },
};

const seededOnce = Math.random;
let words = new Uint32Array(0);
let next = 0;

// A package that draws a number while the plugin is built gets the seeded one: nothing random
// may be kept in memory before the instances are made.
export function random() {
  if (!isRunning()) return seededOnce();
  if (next >= words.length) {
    words = new Uint32Array(randomBytes(WORDS_KEPT * 4).buffer, 0, WORDS_KEPT);
    next = 0;
  }
  const high = words[next++] >>> 5;
  const low = words[next++] >>> 6;
  return (high * 0x400_0000 + low) / 0x20_0000_0000_0000;
}
