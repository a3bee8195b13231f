// The world that a component is made for: the contract's, the host's random numbers and, where the
// plugin makes requests, HTTP. The gateway refuses a component that imports what its manifest does not
// grant, so that no other plugin imports it.

import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";

import { BuildError } from "./error.js";
import { forCompiler } from "./imports.js";
import { sdk } from "./tools.js";

const RANDOM = readFileSync(new URL("random.wit", import.meta.url), "utf8");
const HTTP = forCompiler("  import wasi:http/outgoing-handler@0.2.2;\n");

/** Writes the world's WIT under `build/` and returns its place, its name and all its text. */
export function writeWorld(project, roles, http) {
  const place = placeOfContract(project);
  const contract = readFolder(place);
  const wasi = http ? readFolder(join(place, "deps")) : {};
  const world = roles.length === 2 ? "plugin" : roles[0];
  const own = `package portreeve:guest-js;

world ${world} {
  include portreeve:plugin/${world}@0.1.0;
  import wasi:random/random@0.2.12;
${http ? HTTP : ""}}
`;
  const witPath = join(project, "build", ".wit");
  rmSync(witPath, { recursive: true, force: true });
  write(join(witPath, "deps", "contract"), contract);
  write(join(witPath, "deps", "random"), { "random.wit": RANDOM });
  for (const [name, text] of Object.entries(wasi)) write(join(witPath, "deps", name), { [name]: forCompiler(text) });
  write(witPath, { "world.wit": own });
  const texts = [...Object.values(contract), ...Object.values(wasi)];
  return { witPath, world, witText: own + RANDOM + texts.join("") };
}

// In a project of `portreeve plugin new` the contract lies beside the SDK; in Portreeve's own
// repository it lies two folders up.
function placeOfContract(project) {
  const places = [join(project, "wit"), resolve(sdk, "../wit"), resolve(sdk, "../../wit")];
  const place = places.find((folder) => existsSync(join(folder, "worlds.wit")));
  if (!place) throw new BuildError(`the contract (worlds.wit) is in none of ${places.join(", ")}`);
  return place;
}

function readFolder(place) {
  const names = readdirSync(place).filter((name) => name.endsWith(".wit")).sort();
  return Object.fromEntries(names.map((name) => [name, readFileSync(join(place, name), "utf8")]));
}

function write(folder, files) {
  mkdirSync(folder, { recursive: true });
  for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text);
}
