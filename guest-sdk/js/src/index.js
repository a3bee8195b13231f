// What a plugin's author imports. `index.d.ts` documents every name.

export { Admission, Challenge, Refusal, Verdict } from "./connect.js";
export { Message, Outcome } from "./message.js";
export { timingSafeEqual } from "./bytes.js";
export * as http from "./http.js";
export * as log from "./log.js";
export * as settings from "./settings.js";
export * as state from "./state.js";
