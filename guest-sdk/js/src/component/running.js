// Whether the plugin runs. The build runs everything outside of functions once and freezes what
// it left in memory, so that an instance starts in no time; the gateway is not there then.

let running = false;

export const isRunning = () => running;

export function run() {
  running = true;
}

export function whileRunning(name, given) {
  if (running) return given;
  throw new Error(
    `${name} were asked for outside of a function, which happens while the plugin is built: ` +
      "ask inside verify or parse",
  );
}
