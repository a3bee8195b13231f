// The error of a request.

/** Why there is no response. */
export class HttpError extends Error {
  constructor(code, detail) {
    const text = TEXTS[code] ?? code;
    super(detail === undefined ? text : `${text}: ${detail}`);
    this.name = "HttpError";
    this.code = code;
  }
}

const TEXTS = {
  denied: "the manifest does not grant this request",
  invalid: "the request cannot be sent",
  "timed-out": "no response in time",
  unreachable: "the server cannot be reached",
  broken: "the response cannot be read",
};
