// TextEncoder and TextDecoder for UTF-8, which QuickJS lacks.
//
// A loop of JavaScript takes about 90 ns a byte in this runtime, so the common ways go through
// native functions: a "binary" string (one character a byte) by base64, then escape sequences.

const ASCII = /^[\x00-\x7f]*$/;
const LABELS = ["utf-8", "utf8", "unicode-1-1-utf-8", "unicode11utf8", "unicode20utf8", "x-unicode20utf8"];

export class TextEncoder {
  get encoding() {
    return "utf-8";
  }

  encode(text = "") {
    const well = String(text).toWellFormed();
    return fromBinary(ASCII.test(well) ? well : unescape(encodeURIComponent(well)));
  }

  encodeInto(text, destination) {
    let read = 0;
    let written = 0;
    for (const character of String(text)) {
      const bytes = this.encode(character);
      if (written + bytes.length > destination.length) break;
      destination.set(bytes, written);
      read += character.length;
      written += bytes.length;
    }
    return { read, written };
  }
}

export class TextDecoder {
  #fatal;
  #ignoreBom;
  #held = new Uint8Array(0);
  #begun = false;

  constructor(label = "utf-8", options = {}) {
    if (!LABELS.includes(String(label).trim().toLowerCase())) {
      throw new RangeError(`a plugin decodes UTF-8 only, not ${label}`);
    }
    this.#fatal = Boolean(options?.fatal);
    this.#ignoreBom = Boolean(options?.ignoreBOM);
  }

  get encoding() {
    return "utf-8";
  }

  get fatal() {
    return this.#fatal;
  }

  get ignoreBOM() {
    return this.#ignoreBom;
  }

  decode(input, options) {
    const bytes = joined(this.#held, viewOf(input));
    this.#held = new Uint8Array(0);
    const more = Boolean(options?.stream);
    let text;
    if (more || this.#begun) {
      const decoded = decodeLoop(bytes, this.#fatal, more);
      this.#held = decoded.held;
      text = decoded.text;
    } else {
      text = decodeWhole(bytes, this.#fatal);
    }
    if (!this.#begun && !this.#ignoreBom && text.charCodeAt(0) === 0xfeff) text = text.slice(1);
    this.#begun = more && (this.#begun || text !== "" || bytes.length > this.#held.length);
    return text;
  }
}

function decodeWhole(bytes, fatal) {
  const binary = atob(bytes.toBase64());
  if (ASCII.test(binary)) return binary;
  try {
    return decodeURIComponent(escape(binary));
  } catch {
    return decodeLoop(bytes, fatal, false).text;
  }
}

// The UTF-8 decoder of the Encoding Standard, one U+FFFD for each maximal invalid part. With
// `more` an unfinished sequence at the end is held for the next call.
function decodeLoop(bytes, fatal, more) {
  let text = "";
  let at = 0;
  while (at < bytes.length) {
    const lead = bytes[at];
    const length = lead < 0x80 ? 1 : lead < 0xc2 ? 0 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : lead < 0xf5 ? 4 : 0;
    let taken = 1;
    while (taken < length && at + taken < bytes.length && continues(lead, taken, bytes[at + taken])) {
      taken++;
    }
    if (length !== 0 && taken === length) {
      text += String.fromCodePoint(codePoint(bytes, at, length));
    } else if (more && length !== 0 && at + taken === bytes.length) {
      return { text, held: bytes.slice(at) };
    } else if (fatal) {
      throw new TypeError(`the bytes are not UTF-8 at ${at}`);
    } else {
      text += "\ufffd";
    }
    at += taken;
  }
  return { text, held: new Uint8Array(0) };
}

// The second byte has a narrower range where the first would otherwise begin an overlong form,
// a surrogate or a value above U+10FFFF.
function continues(lead, place, byte) {
  let from = 0x80;
  let to = 0xbf;
  if (place === 1) {
    if (lead === 0xe0) from = 0xa0;
    else if (lead === 0xed) to = 0x9f;
    else if (lead === 0xf0) from = 0x90;
    else if (lead === 0xf4) to = 0x8f;
  }
  return byte >= from && byte <= to;
}

function codePoint(bytes, at, length) {
  if (length === 1) return bytes[at];
  let value = bytes[at] & (0xff >> (length + 1));
  for (let i = 1; i < length; i++) value = (value << 6) | (bytes[at + i] & 0x3f);
  return value;
}

const fromBinary = (binary) => Uint8Array.fromBase64(btoa(binary));

function viewOf(input) {
  if (input === undefined) return new Uint8Array(0);
  if (input instanceof Uint8Array) return input;
  if (ArrayBuffer.isView(input)) return new Uint8Array(input.buffer, input.byteOffset, input.byteLength);
  if (input instanceof ArrayBuffer || input instanceof SharedArrayBuffer) return new Uint8Array(input);
  throw new TypeError("decode takes an ArrayBuffer or a view of one");
}

function joined(held, bytes) {
  if (held.length === 0) return bytes;
  const all = new Uint8Array(held.length + bytes.length);
  all.set(held);
  all.set(bytes, held.length);
  return all;
}
