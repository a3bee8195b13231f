// `console` writes into the gateway's log, under the plugin's name.

import { host } from "#host";

const line = (level) => (...values) => {
  if (host.log.enabled(level)) host.log.log(level, values.map(shown).join(" ").toWellFormed(), []);
};

export const console = {
  trace: line("trace"),
  debug: line("debug"),
  log: line("info"),
  info: line("info"),
  warn: line("warn"),
  error: line("error"),
  assert(condition, ...values) {
    if (!condition) console.error("assertion failed:", ...values);
  },
};

export function shown(value) {
  if (typeof value === "string") return value;
  if (typeof value === "bigint") return `${value}n`;
  if (typeof value === "function") return `function ${value.name}`;
  if (value instanceof Error) return `${value.name}: ${value.message}\n${value.stack}`;
  if (value instanceof Uint8Array) return `Uint8Array(${value.length}) ${hex(value)}`;
  try {
    return JSON.stringify(value, replaced) ?? String(value);
  } catch {
    return String(value);
  }
}

function replaced(_key, value) {
  if (typeof value === "bigint") return `${value}n`;
  if (value instanceof Uint8Array) return hex(value);
  if (value instanceof Map) return [...value];
  if (value instanceof Set) return [...value];
  if (value instanceof Error) return `${value.name}: ${value.message}`;
  return value;
}

const HEX_BYTES_MAX = 64;

function hex(bytes) {
  const digits = Array.from(bytes.subarray(0, HEX_BYTES_MAX), (byte) => byte.toString(16).padStart(2, "0"));
  return digits.join("") + (bytes.length > HEX_BYTES_MAX ? "…" : "");
}
