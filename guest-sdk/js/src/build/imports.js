// The names under which a component imports HTTP.
//
// The compiler runs the component once while it makes it, with WASI of its own and a stand-in for
// every other import. It knows `wasi:io` but not `wasi:http`, and the stand-in for the one does not
// fit the other. So it is given both under another name of the same length, for which it has
// stand-ins throughout, and the finished component gets the right one. It then imports `wasi:io`
// twice, once for the compiler's engine, in two versions.

const NAME = "wasi:";
const NAME_FOR_COMPILER = "wasj:";
const PREAMBLE_BYTES = 8;
const IMPORT_SECTION = 10;

/** The text of WIT with the name for the compiler. */
export const forCompiler = (wit) => wit.replaceAll(NAME, NAME_FOR_COMPILER);

/** Gives the imports of a component their right names, in place. */
export function nameImports(component) {
  let at = PREAMBLE_BYTES;
  while (at < component.length) {
    const section = component[at++];
    let [length, shift, byte] = [0, 0, 0];
    do {
      byte = component[at++];
      length += (byte & 0x7f) * 2 ** shift;
      shift += 7;
    } while (byte > 0x7f);
    if (section === IMPORT_SECTION) nameIn(component.subarray(at, at + length));
    at += length;
  }
  return component;
}

// A section of imports holds no other text than their names.
function nameIn(section) {
  const found = Buffer.from(NAME_FOR_COMPILER);
  const bytes = Buffer.from(section.buffer, section.byteOffset, section.length);
  for (let at = bytes.indexOf(found); at >= 0; at = bytes.indexOf(found, at)) bytes.write(NAME, at);
}
