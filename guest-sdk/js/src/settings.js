// The settings of the plugin's manifest.

import { host } from "#host";

import { describe } from "./bytes.js";

export function get(key) {
  if (typeof key !== "string") throw new TypeError(`the key of a setting is ${describe(key)}`);
  return host.settings.get(key.toWellFormed()) ?? null;
}

export function require(key) {
  const text = get(key);
  if (text === null) throw new Error(`the manifest's [settings] has no \`${key}\``);
  return text;
}

export function parseOr(key, fallback) {
  const text = get(key);
  if (text === null) return fallback;
  if (typeof fallback === "string") return text;
  let value;
  try {
    value = JSON.parse(text);
  } catch {
    // Stays undefined, which is of no fallback's type.
  }
  if (kind(value) !== kind(fallback)) {
    throw new Error(`the setting \`${key}\` is ${JSON.stringify(text)}, not ${kind(fallback)}`);
  }
  return value;
}

export const all = () => host.settings.all();

function kind(value) {
  if (Array.isArray(value)) return "a list";
  if (value === null) return "null";
  return `a ${value === undefined ? "value" : typeof value}`;
}
