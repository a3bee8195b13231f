// From the author's source to a component: bundle, find the roles, componentize.

import { createHash } from "node:crypto";
import { copyFileSync, existsSync, mkdirSync, readFileSync, renameSync, statSync, writeFileSync } from "node:fs";
import { join, relative } from "node:path";

import { bundle, exportsOf } from "./bundle.js";
import { BuildError } from "./error.js";
import { nameImports } from "./imports.js";
import { tool, toolVersions } from "./tools.js";
import { writeWorld } from "./world.js";

export { BuildError } from "./error.js";

const SOURCES = ["src/plugin.js", "src/plugin.ts"];

/** Builds the plugin in `project` and returns a line that says what was made. */
export async function build(project, { small }) {
  const started = performance.now();
  const { name, source } = readPackage(project);
  const esbuild = await tool("esbuild");
  const roles = rolesOf(await exportsOf(esbuild, project, source), source);
  const { code, http } = await bundle(esbuild, project, source, roles);

  const output = join(project, "build", `${name}.wasm`);
  mkdirSync(join(project, "build"), { recursive: true });
  copyManifest(project, name);
  const { witPath, world, witText } = writeWorld(project, roles, http);
  const stampPath = join(project, "build", `.${name}.stamp`);
  const stamp = createHash("sha256")
    .update([code, witText, world, small, toolVersions()].join("\0"))
    .digest("hex");
  const shown = relative(project, output);
  if (existsSync(output) && existsSync(stampPath) && readFileSync(stampPath, "utf8") === stamp) {
    return `${shown}: nothing changed`;
  }

  // The bundle stays beside the component: the line numbers of stack traces are its own.
  const bundlePath = join(project, "build", `${name}.js`);
  writeFileSync(bundlePath, code);
  const component = await componentized({ witPath, world, code, bundlePath, source, small });
  writeFileSync(`${output}.partial`, component);
  renameSync(`${output}.partial`, output);
  writeFileSync(stampPath, stamp);
  const seconds = ((performance.now() - started) / 1000).toFixed(1);
  const megabytes = (statSync(output).size / 1e6).toFixed(2);
  return `${shown}: ${roles.join(" and ")}, ${megabytes} MB, built in ${seconds} s`;
}

function readPackage(project) {
  const path = join(project, "package.json");
  if (!existsSync(path)) {
    throw new BuildError(`${project} has no package.json: run this in the plugin's folder`);
  }
  let content;
  try {
    content = JSON.parse(readFileSync(path, "utf8"));
  } catch (error) {
    throw new BuildError(`package.json: ${error.message}`);
  }
  if (!/^[a-z0-9][a-z0-9._-]*$/.test(content.name ?? "")) {
    throw new BuildError('package.json: "name" is to be the plugin\'s name, such as "my-parser"');
  }
  const source = content.main ?? SOURCES.find((path) => existsSync(join(project, path)));
  if (!source || !existsSync(join(project, source))) {
    throw new BuildError(`the source is missing: ${source ?? SOURCES.join(" or ")}`);
  }
  return { name: content.name, source };
}

function rolesOf(names, source) {
  const roles = [];
  if (names.includes("verify")) roles.push("verifier");
  if (names.includes("parse")) roles.push("parser");
  if (roles.length > 0) return roles;
  const found = names.length > 0 ? ` (it exports ${names.join(", ")})` : "";
  throw new BuildError(
    `${source}: exports neither \`verify\` nor \`parse\`${found}; write, for a parser, ` +
      "`export function parse(context, message) { … }`",
  );
}

// `portreeve plugin call` reads the settings from the manifest beside the component.
function copyManifest(project, name) {
  const manifest = join(project, `${name}.toml`);
  if (existsSync(manifest)) copyFileSync(manifest, join(project, "build", `${name}.toml`));
}

async function componentized({ witPath, world, code, bundlePath, source, small }) {
  const { componentize } = await tool("componentize-qjs");
  // WASI stays in (no `stubWasi`): the clocks are real, and the runtime's last words before a
  // trap reach the gateway's log.
  const work = componentize({
    witPath,
    world,
    jsSource: code,
    jsPath: bundlePath,
    sync: true,
    optSize: small,
  });
  const { component } = await withinLimit(work).catch((error) => {
    throw new BuildError(
      `${source}: the code outside of functions, which runs once for the build, failed:\n` +
        `${error.message.replace(RUNTIME_WORDS, "")}\n` +
        `The lines are those of ${bundlePath}.`,
    );
  });
  return nameImports(component);
}

const RUNTIME_WORDS =
  /^[:\s]*(Failed to evaluate user JavaScript module: )?(Failed to finish JavaScript module evaluation: )?/;
const SECONDS_MAX = 120;

// An endless loop outside of functions would otherwise hang the build.
function withinLimit(work) {
  let timer;
  const late = new Promise((_, reject) => {
    const error = new Error(`it did not end within ${SECONDS_MAX} s`);
    timer = setTimeout(() => reject(error), SECONDS_MAX * 1000);
  });
  return Promise.race([work, late]).finally(() => clearTimeout(timer));
}
