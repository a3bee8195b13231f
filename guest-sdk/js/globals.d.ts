// What a plugin has of the web's globals, for TypeScript projects without the library "dom":
// add "portreeve-guest/globals" to `types` in tsconfig.json.

/** Writes into the gateway's log, under the plugin's name; `log` is the level `info`. */
declare const console: Record<
  "trace" | "debug" | "log" | "info" | "warn" | "error",
  (...values: unknown[]) => void
> & { assert(condition: unknown, ...values: unknown[]): void };

/** Random numbers of the host; there is no `crypto.subtle`. Only inside `verify` and `parse`. */
declare const crypto: {
  /** Fills a typed array, of 65,536 bytes at most, and returns it. */
  getRandomValues<T extends ArrayBufferView>(array: T): T;
  /** A random UUID, version 4. */
  randomUUID(): string;
};

declare class TextEncoder {
  readonly encoding: string;
  encode(text?: string): Uint8Array;
  encodeInto(text: string, destination: Uint8Array): { read: number; written: number };
}

/** UTF-8 only. */
declare class TextDecoder {
  constructor(label?: string, options?: { fatal?: boolean; ignoreBOM?: boolean });
  readonly encoding: string;
  readonly fatal: boolean;
  readonly ignoreBOM: boolean;
  decode(input?: ArrayBuffer | ArrayBufferView, options?: { stream?: boolean }): string;
}

declare function atob(base64: string): string;
declare function btoa(binary: string): string;

/** The differences between two values are milliseconds; the values themselves mean nothing. */
declare const performance: { now(): number };
