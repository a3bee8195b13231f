/**
 * Stands in for the gateway in native unit tests: settings, state and log of this process.
 *
 * ```js
 * import { connect, settings } from "portreeve-guest/testing";
 *
 * settings({ password: "demo" });
 * const verdict = verify(connect("client-1", { userName: "device-1", password: "demo" }));
 * ```
 */

import type {
  Certificate,
  Connect,
  Connection,
  Context,
  Device,
  Message,
  MessageFields,
  Outcome,
  Tls,
  http as requests,
  log,
} from "./index.js";

/** Replaces the settings. What is not text becomes JSON, as in the manifest. */
export declare function settings(values: Record<string, unknown>): void;

/** Removes every entry of the state. Entries do not expire: a unit test does not wait. */
export declare function clearState(): void;

/**
 * From now on this answers the requests that the plugin makes; without it, or with null, each is
 * `denied`. It may throw `new http.HttpError("timed-out")`.
 *
 * ```js
 * service(({ url }) => new http.Response(url.endsWith("/known") ? 200 : 404));
 * ```
 */
export declare function service(
  answer: ((request: ServiceRequest) => requests.Response) | null,
): void;

/** A request as a service sees it. */
export interface ServiceRequest {
  method: string;
  url: string;
  headers: [name: string, value: string][];
  /** Empty for none. */
  body: Uint8Array;
  /** Seconds. */
  timeout: number | null;
}

/** The lines logged through `log` since the last call. `console` is Node's own in a test. */
export declare function takeLog(): { level: log.Level; message: string; fields: Record<string, string> }[];

/** A CONNECT of this client identifier over a plain MQTT 5 connection, with `fields` put over it. */
export declare function connect(
  clientId: string,
  fields?: Partial<Omit<Connect, "connection" | "password" | "authenticationData">> & {
    password?: Uint8Array | string | null;
    authenticationData?: Uint8Array | string | null;
    connection?: Partial<Connection>;
  },
): Connect;

/** A TLS session for `connection.tls`; with a certificate of `CN=device-1` when one is given. */
export declare function tls(certificate?: Partial<Certificate> | null, fields?: Partial<Tls>): Tls;

/** A message with QoS 0. */
export declare function message(
  topic: string,
  payload: Uint8Array | string,
  fields?: Partial<MessageFields>,
): Message;

/** A context with the device `device-1`, received at 0. */
export declare function context(
  direction: "up" | "down",
  fields?: Partial<Omit<Context, "direction" | "device">> & { device?: Partial<Device> },
): Context;

/**
 * Topic and payload, as text, of the messages that replace another.
 *
 * @throws {Error} when the answer does not replace the message
 */
export declare function replaced(answer: Message | Message[] | Outcome): [topic: string, text: string][];
