#!/usr/bin/env node
// `portreeve-guest build`: makes the component of the plugin in the current folder.

import { build, BuildError } from "../src/build/build.js";

const USAGE = `Usage: portreeve-guest build [--small]

Builds the plugin of the current folder: reads package.json (name, and main for the source, else
src/plugin.js or src/plugin.ts), writes build/NAME.wasm and copies NAME.toml beside it.

  --small   a component that is a third smaller, and whose calls take half as long again`;

const [command, ...options] = process.argv.slice(2);
if (command !== "build" || options.some((option) => option !== "--small")) {
  console.error(USAGE);
  process.exit(2);
}
try {
  console.log(await build(process.cwd(), { small: options.includes("--small") }));
} catch (error) {
  if (!(error instanceof BuildError)) throw error;
  console.error(error.message);
  process.exit(1);
}
