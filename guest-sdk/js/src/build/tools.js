// The build tools that package.json pins. Where the SDK lies inside the project, `npm install`
// has put them into the project's node_modules. Where it lies beside it, npm leaves a linked
// package's dependencies alone, and they are installed into the SDK's own folder, once.

import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

import { BuildError } from "./error.js";

export const sdk = fileURLToPath(new URL("../..", import.meta.url));

export async function tool(name) {
  if (!resolved(name)) install();
  const path = resolved(name);
  if (!path) throw new BuildError(`${name} is not installed: run \`npm install\` in ${sdk}`);
  try {
    const module = await import(pathToFileURL(path).href);
    return module.default ?? module;
  } catch (error) {
    throw new BuildError(
      `${name} does not start (${error.message}): remove node_modules and run \`npm install\` again`,
    );
  }
}

/** What a component depends on beside its source. */
export function toolVersions() {
  const { version, dependencies } = JSON.parse(readFileSync(join(sdk, "package.json"), "utf8"));
  return JSON.stringify([version, dependencies]);
}

function resolved(name) {
  try {
    return createRequire(import.meta.url).resolve(name);
  } catch {
    return null;
  }
}

function install() {
  console.error(`installing the build tools into ${join(sdk, "node_modules")}, once`);
  const npm = process.platform === "win32" ? "npm.cmd" : "npm";
  const options = ["install", "--omit=dev", "--no-package-lock", "--no-audit", "--no-fund", "--loglevel=error"];
  const { status, error } = spawnSync(npm, options, { cwd: sdk, stdio: ["ignore", 2, 2], shell: npm !== "npm" });
  if (status !== 0) {
    throw new BuildError(`\`npm install\` failed in ${sdk}${error ? `: ${error.message}` : ""}`);
  }
}
