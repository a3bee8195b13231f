// Lines in the gateway's log, under the plugin's name.

import { host } from "#host";

export const trace = (message, fields) => write("trace", message, fields);
export const debug = (message, fields) => write("debug", message, fields);
export const info = (message, fields) => write("info", message, fields);
export const warn = (message, fields) => write("warn", message, fields);
export const error = (message, fields) => write("error", message, fields);

const LEVELS = ["trace", "debug", "info", "warn", "error"];

export function enabled(level) {
  if (!LEVELS.includes(level)) throw new TypeError(`no level: ${level}; it is ${LEVELS.join(", ")}`);
  return host.log.enabled(level);
}

// The runtime traps on a lone surrogate, so every text is made well-formed.
function write(level, message, fields) {
  const entries = fields ? Object.entries(fields) : [];
  host.log.log(level, well(message), entries.map(([name, value]) => [well(name), well(value)]));
}

const well = (value) => String(value).toWellFormed();
