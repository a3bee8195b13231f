// The gateway, as the component imports it. Only the build tool reads this file: it picks it with
// the condition `portreeve`; Node picks `native.js`.

import log from "portreeve:plugin/log@0.1.0";
import settings from "portreeve:plugin/settings@0.1.0";
import state from "portreeve:plugin/state@0.1.0";

import { isRunning, whileRunning } from "../component/running.js";

export const host = {
  // A package that logs while the plugin is built is not a reason to fail: the line is dropped.
  log: {
    log: (level, message, fields) => void (isRunning() && log.log(level, message, fields)),
    enabled: (level) => isRunning() && log.enabled(level),
  },
  settings: {
    get: (key) => whileRunning("settings", settings).get(key),
    all: () => whileRunning("settings", settings).all(),
  },
  state: {
    get: (key) => whileRunning("state", state).get(key),
    set: (key, value, ttl) => whileRunning("state", state).set(key, value, ttl),
    remove: (key) => whileRunning("state", state).remove(key),
    increment: (key, by, ttl) => whileRunning("state", state).increment(key, by, ttl),
  },
};
