// The part of Node's Buffer that codecs and verifiers use.
(function (native, parts) {
  "use strict";
  const { encode, decode } = native;
  const { Uint8Array, ArrayBuffer, SharedArrayBuffer, DataView, RangeError, TypeError, String, Number, Array } = globalThis;
  const isView = ArrayBuffer.isView;
  const wellFormed = Function.prototype.call.bind(String.prototype.toWellFormed);
  const names = {
    __proto__: null, utf8: "utf8", "utf-8": "utf8", hex: "hex", base64: "base64", base64url: "base64url",
    latin1: "latin1", binary: "latin1", ascii: "ascii", utf16le: "utf16le", "utf-16le": "utf16le", ucs2: "utf16le", "ucs-2": "utf16le",
  };
  const encodingOf = (name = "utf8") => {
    const encoding = names[String(name).toLowerCase()];
    if (encoding === undefined) throw new TypeError(`Unknown encoding: ${name}`);
    return encoding;
  };
  const bytesOf = (text, encoding) => {
    const name = encodingOf(encoding);
    return encode(wellFormed(text), name === "ascii" ? "latin1" : name);
  };
  const range = (name, value) => {
    throw new RangeError(`The value of "${name}" is out of range. Received ${value}`);
  };
  const check = (buffer, offset, width) => {
    if (typeof offset !== "number" || !(offset >= 0 && offset + width <= buffer.length) || offset % 1 !== 0) {
      range("offset", offset);
    }
  };

  class Buffer extends Uint8Array {
    constructor(value, encodingOrOffset, length) {
      if (typeof value === "string") super(bytesOf(value, encodingOrOffset).buffer);
      else super(value, encodingOrOffset, length);
    }

    static from(value, encodingOrOffset, length) {
      if (typeof value === "string") return new Buffer(value, encodingOrOffset);
      if (value instanceof ArrayBuffer) return new Buffer(value, encodingOrOffset, length);
      if (isView(value) || Array.isArray(value)) return new Buffer(value);
      if (value !== null && typeof value === "object") {
        if (value.type === "Buffer" && Array.isArray(value.data)) return new Buffer(value.data);
        const inner = value.valueOf();
        if (inner !== value && inner !== null && inner !== undefined) return Buffer.from(inner, encodingOrOffset, length);
        if (typeof value.length === "number") return new Buffer(Array.from(value));
      }
      throw new TypeError("Buffer.from takes a string, an array of bytes, a buffer or an ArrayBuffer");
    }
    static of(...bytes) { return new Buffer(bytes); }
    static alloc(size, fill, encoding) {
      if (typeof size !== "number" || !(size >= 0)) range("size", size);
      const buffer = new Buffer(size);
      return fill === undefined || fill === 0 ? buffer : buffer.fill(fill, encoding);
    }
    static allocUnsafe(size) { return Buffer.alloc(size); }
    static allocUnsafeSlow(size) { return Buffer.alloc(size); }
    static isBuffer(value) { return value instanceof Buffer; }
    static isEncoding(name) { return names[String(name).toLowerCase()] !== undefined; }
    static byteLength(value, encoding) {
      return typeof value === "string" ? bytesOf(value, encoding).length : value.byteLength;
    }
    static concat(list, total) {
      const length = total ?? list.reduce((sum, part) => sum + part.length, 0);
      const joined = Buffer.alloc(length);
      let at = 0;
      for (const part of list) {
        joined.set(part.subarray(0, Math.max(0, length - at)), at);
        at += part.length;
        if (at >= length) break;
      }
      return joined;
    }
    static compare(a, b) {
      const common = Math.min(a.length, b.length);
      for (let at = 0; at < common; at++) if (a[at] !== b[at]) return a[at] < b[at] ? -1 : 1;
      return a.length === b.length ? 0 : a.length < b.length ? -1 : 1;
    }

    get parent() { return this.buffer; }
    get offset() { return this.byteOffset; }
    toString(encoding, start = 0, end = this.length) {
      const part = start > 0 || end < this.length ? this.subarray(Math.max(0, start), end) : this;
      return decode(part, encodingOf(encoding));
    }
    toLocaleString(encoding, start, end) { return this.toString(encoding, start, end); }
    toJSON() { return { type: "Buffer", data: Array.from(this) }; }
    equals(other) { return Buffer.compare(this, other) === 0; }
    compare(other, start = 0, end = other.length, ownStart = 0, ownEnd = this.length) {
      return Buffer.compare(this.subarray(ownStart, ownEnd), other.subarray(start, end));
    }
    // As in Node, and unlike Uint8Array: a view and no copy.
    slice(start, end) { return this.subarray(start, end); }
    write(text, offset, length, encoding) {
      if (typeof offset === "string") [encoding, offset, length] = [offset, 0, undefined];
      else if (typeof length === "string") [encoding, length] = [length, undefined];
      offset ??= 0;
      const room = Math.min(length ?? Infinity, this.length - offset);
      if (offset < 0 || offset > this.length) range("offset", offset);
      const bytes = bytesOf(String(text), encoding).subarray(0, Math.max(0, room));
      this.set(bytes, offset);
      return bytes.length;
    }
    fill(value, offset = 0, end = this.length, encoding) {
      if (typeof offset === "string") [encoding, offset, end] = [offset, 0, this.length];
      else if (typeof end === "string") [encoding, end] = [end, this.length];
      if (typeof value === "number" || typeof value === "boolean") { super.fill(Number(value) & 255, offset, end); return this; }
      const pattern = typeof value === "string" ? bytesOf(value, encoding) : value;
      if (pattern.length === 0) { super.fill(0, offset, end); return this; }
      for (let at = offset; at < end; at++) this[at] = pattern[(at - offset) % pattern.length];
      return this;
    }
    copy(target, targetStart = 0, start = 0, end = this.length) {
      const part = this.subarray(start, Math.min(end, start + Math.max(0, target.length - targetStart)));
      target.set(part, targetStart);
      return part.length;
    }
    indexOf(value, from = 0, encoding) {
      if (typeof value === "number") return super.indexOf(value & 255, from);
      if (typeof from === "string") [encoding, from] = [from, 0];
      const wanted = typeof value === "string" ? bytesOf(value, encoding) : value;
      for (let at = from < 0 ? Math.max(0, this.length + from) : from; at + wanted.length <= this.length; at++) {
        let same = 0;
        while (same < wanted.length && this[at + same] === wanted[same]) same++;
        if (same === wanted.length) return at;
      }
      return -1;
    }
    lastIndexOf(value, from, encoding) {
      if (typeof value === "number") return from === undefined ? super.lastIndexOf(value & 255) : super.lastIndexOf(value & 255, from);
      const wanted = typeof value === "string" ? bytesOf(value, encoding) : value;
      for (let at = Math.min(from ?? Infinity, this.length - wanted.length); at >= 0; at--) {
        if (this.indexOf(wanted, at) === at) return at;
      }
      return -1;
    }
    includes(value, from, encoding) { return this.indexOf(value, from, encoding) !== -1; }
    swap16() {
      if (this.length % 2 !== 0) throw new RangeError("Buffer size must be a multiple of 16-bits");
      for (let at = 0; at < this.length; at += 2) [this[at], this[at + 1]] = [this[at + 1], this[at]];
      return this;
    }
  }

  const methods = { __proto__: null };
  const unsigned = (little) => function (offset, width) {
    check(this, offset, width);
    let value = 0;
    if (little) for (let at = width - 1; at >= 0; at--) value = value * 256 + this[offset + at];
    else for (let at = 0; at < width; at++) value = value * 256 + this[offset + at];
    return value;
  };
  const readUnsigned = { LE: unsigned(true), BE: unsigned(false) };
  const signed = (order) => function (offset, width) {
    const value = readUnsigned[order].call(this, offset, width);
    return value >= 2 ** (8 * width - 1) ? value - 2 ** (8 * width) : value;
  };
  const writer = (little, lowest, highest) => function (value, offset, width) {
    value = +value;
    check(this, offset, width);
    if (value < lowest(width) || value > highest(width)) range("value", value);
    let rest = Math.trunc(value);
    if (rest < 0) rest += 2 ** (8 * width);
    if (rest !== rest) rest = 0;
    for (let at = 0; at < width; at++) {
      this[offset + (little ? at : width - 1 - at)] = rest % 256;
      rest = Math.floor(rest / 256);
    }
    return offset + width;
  };
  for (const order of ["LE", "BE"]) {
    const little = order === "LE";
    const readSigned = signed(order);
    const writeUnsigned = writer(little, () => 0, (width) => 2 ** (8 * width) - 1);
    const writeSigned = writer(little, (width) => -(2 ** (8 * width - 1)), (width) => 2 ** (8 * width - 1) - 1);
    methods[`readUInt${order}`] = readUnsigned[order];
    methods[`readInt${order}`] = readSigned;
    methods[`writeUInt${order}`] = writeUnsigned;
    methods[`writeInt${order}`] = writeSigned;
    for (const width of [1, 2, 4]) {
      if (width === 1 && little) continue;
      const suffix = width === 1 ? "8" : `${width * 8}${order}`;
      methods[`readUInt${suffix}`] = function (offset = 0) { return readUnsigned[order].call(this, offset, width); };
      methods[`readInt${suffix}`] = function (offset = 0) { return readSigned.call(this, offset, width); };
      methods[`writeUInt${suffix}`] = function (value, offset = 0) { return writeUnsigned.call(this, value, offset, width); };
      methods[`writeInt${suffix}`] = function (value, offset = 0) { return writeSigned.call(this, value, offset, width); };
    }
    for (const [name, type, width] of [["Float", "Float32", 4], ["Double", "Float64", 8], ["BigInt64", "BigInt64", 8], ["BigUInt64", "BigUint64", 8]]) {
      const view = (buffer) => new DataView(buffer.buffer, buffer.byteOffset, buffer.byteLength);
      methods[`read${name}${order}`] = function (offset = 0) {
        check(this, offset, width);
        return view(this)[`get${type}`](offset, little);
      };
      methods[`write${name}${order}`] = function (value, offset = 0) {
        check(this, offset, width);
        view(this)[`set${type}`](offset, value, little);
        return offset + width;
      };
    }
  }
  for (const [name, value] of Object.entries(methods)) {
    for (const spelled of [name, name.replace("UInt", "Uint")]) {
      Object.defineProperty(Buffer.prototype, spelled, { value, writable: true, configurable: true });
    }
  }
  Buffer.poolSize = 8192;

  Object.defineProperty(globalThis, "Buffer", { value: Buffer, writable: true, configurable: true });
  parts.Buffer = Buffer;
  parts.bytesOf = bytesOf;
  parts.toBuffer = (array) => new Buffer(array.buffer);
  parts.modules.buffer = { Buffer, kMaxLength: 2 ** 31 - 1 };
})
