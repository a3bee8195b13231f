// The gateway's place in native unit tests: settings, state and log of this process.

const KEY_BYTES_MAX = 256;
const VALUE_BYTES_MAX = 65_536;
const STATE_BYTES_MAX = 1_048_576;
const SUM_MAX = 2n ** 63n - 1n;
const SUM_MIN = -(2n ** 63n);

export const native = { settings: new Map(), state: new Map(), lines: [] };

const log = {
  log(level, message, fields) {
    native.lines.push({ level, message, fields: Object.fromEntries(fields) });
  },
  enabled: () => true,
};

const settings = {
  get: (key) => native.settings.get(key) ?? null,
  all: () => [...native.settings].sort(([a], [b]) => (a < b ? -1 : 1)),
};

// Without expiry: a unit test does not wait.
const state = {
  get: (key) => native.state.get(key)?.slice() ?? null,

  set(key, value) {
    const keyBytes = Buffer.byteLength(key);
    if (keyBytes > KEY_BYTES_MAX) fail("key-too-long", KEY_BYTES_MAX);
    if (value.length > VALUE_BYTES_MAX) fail("value-too-long", VALUE_BYTES_MAX);
    let total = keyBytes + value.length;
    for (const [other, held] of native.state) {
      if (other !== key) total += Buffer.byteLength(other) + held.length;
    }
    if (total > STATE_BYTES_MAX) fail("full", STATE_BYTES_MAX);
    native.state.set(key, value.slice());
  },

  remove: (key) => void native.state.delete(key),

  increment(key, by) {
    const bytes = native.state.get(key) ?? new Uint8Array(8);
    if (bytes.length !== 8) fail("not-a-counter");
    const sum = new DataView(bytes.buffer, bytes.byteOffset, 8).getBigInt64(0, true) + BigInt(by);
    const held = new DataView(new ArrayBuffer(8));
    held.setBigInt64(0, sum > SUM_MAX ? SUM_MAX : sum < SUM_MIN ? SUM_MIN : sum, true);
    state.set(key, new Uint8Array(held.buffer));
    return Number(held.getBigInt64(0, true));
  },
};

export const host = { log, settings, state };

// The shape in which the runtime throws the contract's errors.
function fail(tag, val) {
  throw Object.assign(new Error("state"), { payload: { tag, val } });
}
