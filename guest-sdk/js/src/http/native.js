// The service's place in native unit tests: what `service` of testing was given.

import { HttpError } from "./error.js";

export const native = { answer: null };

export function send(request) {
  if (native.answer) return native.answer(request);
  // As in a gateway whose manifest grants nothing.
  throw new HttpError("denied");
}
