// Between the contract's functions and the author's: records in, checked answers out.

import "./globals.js";

import { describe } from "../bytes.js";
import { answered } from "./answered.js";
import { message, outcome, verdict } from "./contract.js";

export function exportVerifier(verify) {
  mustBeFunction("verify", verify);
  return { verify: (request) => answered(() => verdict(verify(request))) };
}

export function exportParser(parse) {
  mustBeFunction("parse", parse);
  return { parse: (context, received) => answered(() => outcome(parse(context, message(received)))) };
}

function mustBeFunction(name, given) {
  if (typeof given !== "function") throw new TypeError(`\`${name}\` is ${describe(given)}, not a function`);
}
