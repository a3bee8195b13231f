// TextEncoder and TextDecoder.
(function (native, parts) {
  "use strict";
  const { encode, decode } = native;
  const { Uint8Array, ArrayBuffer, RangeError, String } = globalThis;
  const isView = ArrayBuffer.isView;
  const wellFormed = Function.prototype.call.bind(String.prototype.toWellFormed);
  const labels = {
    __proto__: null, "utf-8": "utf8", utf8: "utf8", "unicode-1-1-utf-8": "utf8", ascii: "latin1", "us-ascii": "latin1",
    latin1: "latin1", "iso-8859-1": "latin1", "windows-1252": "latin1", "utf-16le": "utf16le", "utf-16": "utf16le",
  };

  class TextEncoder {
    get encoding() { return "utf-8"; }
    encode(text = "") { return encode(wellFormed(String(text)), "utf8"); }
    encodeInto(text, into) {
      const bytes = encode(wellFormed(String(text)), "utf8").subarray(0, into.length);
      into.set(bytes);
      return { read: decode(bytes, "utf8").length, written: bytes.length };
    }
  }

  class TextDecoder {
    #encoding;
    constructor(label = "utf-8", options = {}) {
      this.#encoding = labels[String(label).trim().toLowerCase()];
      if (this.#encoding === undefined) throw new RangeError(`TextDecoder: unknown encoding ${label}`);
      this.fatal = Boolean(options.fatal);
      this.ignoreBOM = Boolean(options.ignoreBOM);
    }
    get encoding() { return this.#encoding === "utf8" ? "utf-8" : this.#encoding === "latin1" ? "windows-1252" : "utf-16le"; }
    decode(input) {
      if (input === undefined) return "";
      const bytes = isView(input) ? new Uint8Array(input.buffer, input.byteOffset, input.byteLength) : new Uint8Array(input);
      const text = decode(bytes, this.#encoding === "utf8" && this.fatal ? "utf8-fatal" : this.#encoding);
      return !this.ignoreBOM && text.charCodeAt(0) === 0xfeff ? text.slice(1) : text;
    }
  }

  for (const [name, value] of [["TextEncoder", TextEncoder], ["TextDecoder", TextDecoder]]) {
    Object.defineProperty(globalThis, name, { value, writable: true, configurable: true });
  }
  parts.modules.util = { TextEncoder, TextDecoder };
})
