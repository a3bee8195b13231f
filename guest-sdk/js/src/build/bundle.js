// One JavaScript file from the author's files and npm packages, TypeScript included.

import { BuildError } from "./error.js";

const HINT =
  "a plugin has no modules of Node.js and no sockets: use a package that is plain JavaScript " +
  "(one for browsers), or `npm install` it if it is only missing";

const options = (project) => ({
  absWorkingDir: project,
  bundle: true,
  write: false,
  format: "esm",
  // QuickJS has ES2023 and most of what came after; a newer syntax is rewritten.
  target: "es2023",
  platform: "neutral",
  mainFields: ["module", "browser", "main"],
  conditions: ["portreeve", "browser", "module", "import"],
  define: { "process.env.NODE_ENV": '"production"' },
  external: ["portreeve:*", "wasi:*", "wasj:*"],
  charset: "utf8",
  logLevel: "silent",
});

/** The names that the source exports. */
export async function exportsOf(esbuild, project, source) {
  const { metafile } = await run(esbuild, {
    ...options(project),
    entryPoints: [source],
    outfile: "exports.js",
    metafile: true,
  });
  return Object.values(metafile.outputs)[0].exports;
}

/**
 * The component's code: the SDK's globals first, then the source, then the contract's exports; and
 * whether it makes requests over HTTP, which is known by what is left of the SDK once all that is not
 * used is dropped.
 */
export async function bundle(esbuild, project, source, roles) {
  const lines = [
    'import { exportParser, exportVerifier } from "portreeve-guest/component";',
    `import * as plugin from ${JSON.stringify(`./${source}`)};`,
  ];
  if (roles.includes("verifier")) lines.push("export const onConnect = exportVerifier(plugin.verify);");
  if (roles.includes("parser")) lines.push("export const onPublish = exportParser(plugin.parse);");
  const { outputFiles, metafile } = await run(esbuild, {
    ...options(project),
    stdin: { contents: lines.join("\n"), resolveDir: project, sourcefile: "component.js" },
    outfile: "bundle.js",
    metafile: true,
  });
  const imported = Object.values(metafile.outputs)[0].imports;
  return { code: outputFiles[0].text, http: imported.some(({ path }) => path.startsWith("wasj:http/")) };
}

async function run(esbuild, options) {
  try {
    return await esbuild.build(options);
  } catch (failure) {
    if (!failure.errors?.length) throw new BuildError(failure.message);
    throw new BuildError(failure.errors.map(explained).join("\n"));
  }
}

function explained({ text, location }) {
  const place = location ? `${location.file}:${location.line}:${location.column + 1}: ` : "";
  const line = location?.lineText ? `\n    ${location.lineText.trim()}` : "";
  return `${place}${text}${line}${text.startsWith("Could not resolve") ? `\n  ${HINT}` : ""}`;
}
