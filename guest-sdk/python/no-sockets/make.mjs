// node make.mjs WIT OUTPUT: makes the component of core.wat; see README.md.
import { readFileSync, writeFileSync } from "node:fs";
import { componentEmbed, componentNew, parse } from "@bytecodealliance/jco";

const [wit, output] = process.argv.slice(2);
const interfaces = ["network", "instance-network", "udp", "udp-create-socket", "tcp"];
interfaces.push("tcp-create-socket", "ip-name-lookup");
const exports = interfaces.map((name) => `export wasi:sockets/${name}@0.2.12;`);
// One text of nested packages, without comments, which would be kept in the component.
// A duration is a number: a component may import the clock after the sockets, or not at all.
const packages = ["io", "clocks", "sockets"].map((name) => {
  const text = readFileSync(`${wit}/${name}.wit`, "utf8")
    .replace(/\s*\/\/.*/g, "")
    .replace(/use wasi:clocks\S+\{duration\};/, "type duration = u64;");
  return `${text.replace(/package ([^;]+);/, "package $1 {")}\n}`;
});
const world = `package portreeve:stand-ins; world no-sockets { ${exports.join(" ")} }`;
const core = await parse(readFileSync(new URL("core.wat", import.meta.url), "utf8"));
const witSource = [world, ...packages].join("\n");
const options = { binary: core, witSource, worldName: "no-sockets", metadata: [] };
writeFileSync(output, await componentNew(await componentEmbed(options), []));
