// What authors expect of a JavaScript runtime and QuickJS lacks, or has in a form that is unsafe
// here. It runs before everything else of the component.

import { TextDecoder, TextEncoder } from "./text.js";
import { console } from "./console.js";
import { crypto, random } from "./random.js";

Math.random = random;
Object.assign(globalThis, { TextDecoder, TextEncoder, console, crypto });
