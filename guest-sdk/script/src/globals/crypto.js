// The part of Node's crypto that needs a digest and no more.
(function (native, parts) {
  "use strict";
  const { digest, hmac, randomBytes } = native;
  const { Buffer, bytesOf } = parts;
  const { Error, RangeError, TypeError, Uint8Array, ArrayBuffer, String } = globalThis;
  const name = (algorithm) => String(algorithm).toLowerCase().replace(/^rsa-|-(?=\d)/g, "");
  const input = (value, encoding) => {
    if (typeof value === "string") return bytesOf(value, encoding);
    if (ArrayBuffer.isView(value)) return new Uint8Array(value.buffer, value.byteOffset, value.byteLength);
    throw new TypeError("a string, a Buffer or a Uint8Array is needed here");
  };
  class Hash {
    #parts = [];
    #finish;
    constructor(finish) { this.#finish = finish; }
    update(value, encoding) {
      if (this.#parts === null) throw new Error("Digest already called");
      this.#parts.push(Buffer.from(input(value, encoding)));
      return this;
    }
    digest(encoding) {
      if (this.#parts === null) throw new Error("Digest already called");
      const result = new Buffer(this.#finish(new Uint8Array(Buffer.concat(this.#parts))).buffer);
      this.#parts = null;
      return encoding === undefined || encoding === "buffer" ? result : result.toString(encoding);
    }
  }
  const random = (length) => new Buffer(randomBytes(length).buffer);
  const crypto = {
    createHash: (algorithm) => new Hash((bytes) => digest(name(algorithm), bytes)),
    createHmac: (algorithm, key) => {
      const secret = new Uint8Array(input(key));
      return new Hash((bytes) => hmac(name(algorithm), secret, bytes));
    },
    timingSafeEqual: (a, b) => {
      const [left, right] = [input(a), input(b)];
      if (left.length !== right.length) throw new RangeError("Input buffers must have the same byte length");
      let difference = 0;
      for (let at = 0; at < left.length; at++) difference |= left[at] ^ right[at];
      return difference === 0;
    },
    randomBytes: random,
    randomUUID: () => {
      const bytes = random(16);
      bytes[6] = (bytes[6] & 0x0f) | 0x40;
      bytes[8] = (bytes[8] & 0x3f) | 0x80;
      return bytes.toString("hex").replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
    },
    getHashes: () => ["md5", "sha1", "sha256", "sha384", "sha512"],
  };
  parts.modules.crypto = crypto;
  Object.defineProperty(globalThis, "crypto", { value: crypto, writable: true, configurable: true });
})
