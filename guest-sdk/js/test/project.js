// A project of a plugin in a temporary folder.

import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after } from "node:test";

import { sdk } from "../src/build/tools.js";

const folder = mkdtempSync(join(tmpdir(), "portreeve-guest-"));
after(() => rmSync(folder, { recursive: true }));

/** Makes one with these files, and returns its folder. */
export function project(name, files) {
  const root = join(folder, name);
  mkdirSync(join(root, "src"), { recursive: true });
  mkdirSync(join(root, "node_modules"));
  symlinkSync(sdk, join(root, "node_modules", "portreeve-guest"));
  writeFileSync(join(root, "package.json"), JSON.stringify({ name, type: "module" }));
  for (const [path, text] of Object.entries(files)) writeFileSync(join(root, path), text);
  return root;
}
