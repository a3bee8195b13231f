/**
 * Write Portreeve plugins in JavaScript or TypeScript.
 *
 * A plugin's source exports `verify` (a verifier), `parse` (a parser) or both:
 *
 * ```js
 * import { Refusal, Verdict, settings, timingSafeEqual } from "portreeve-guest";
 *
 * /** @type {import("portreeve-guest").Verify} *\/
 * export function verify({ userName, password }) {
 *   if (userName === null || password === null) return Refusal.notAuthorized("no credentials");
 *   if (!timingSafeEqual(settings.require("password"), password)) {
 *     return Refusal.badUserNameOrPassword("wrong password");
 *   }
 *   return Verdict.admit(userName);
 * }
 * ```
 *
 * Both functions are synchronous: a plugin cannot wait, so there is no `async`. Whatever they
 * throw becomes the plugin's error with the message of what was thrown; the gateway logs it and
 * the instance lives on. Code outside of functions runs once, while the plugin is built.
 */

/** A name and a value. Names may repeat, and the order is kept. */
export type Property = [name: string, value: string];

/**
 * Decides who a connecting device is. Called for each CONNECT, and again for each AUTH that
 * answers a challenge.
 *
 * When it throws, no decision was possible: the CONNECT is refused with 0x88 (server
 * unavailable), on MQTT 3.1.1 with 3. Instances may be new for each call: keep what must
 * outlive a call in `state`.
 */
export type Verify = (request: Connect) => Verdict;

/**
 * Translates a message. Called for each PUBLISH to a topic that the parser is bound to.
 *
 * Returns the message, or messages, to deliver instead (an empty array delivers nothing), or an
 * `Outcome`. When it throws, the binding's `on_error` decides about the message.
 */
export type Parse = (context: Context, message: Message) => Message | Message[] | Outcome;

// What a verifier is told.

/** What a peer said of itself in CONNECT. Nothing of it is proven but the certificate. */
export interface Connect {
  readonly connection: Connection;
  /** Empty where the gateway is to assign one. */
  readonly clientId: string;
  readonly userName: string | null;
  /** Binary data, at most 65,535 bytes. */
  readonly password: Uint8Array | null;
  /** MQTT 5 clean start, MQTT 3.1.1 clean session. */
  readonly cleanStart: boolean;
  /** Seconds; 0 turns it off. */
  readonly keepAlive: number;
  /** Method of MQTT 5 enhanced authentication. */
  readonly authenticationMethod: string | null;
  /** Data of the CONNECT, or of the latest AUTH. */
  readonly authenticationData: Uint8Array | null;
  /** MQTT 5 user properties of the CONNECT. */
  readonly userProperties: Property[];
}

/** Where and how a peer connected. */
export interface Connection {
  /** Unique while the gateway runs; the same in every step of one CONNECT. Exact up to 2^53. */
  readonly id: number;
  /** Name of the gateway (a group of listeners) in the configuration. */
  readonly gateway: string;
  /** Address and port, such as `192.0.2.7:50123` or `[2001:db8::7]:50123`. */
  readonly peerAddress: string;
  /** The version that the peer asked for. */
  readonly protocol: "mqtt31" | "mqtt311" | "mqtt5";
  /** Null on a plain connection. */
  readonly tls: Tls | null;
}

/** A TLS session. */
export interface Tls {
  readonly version: "1.2" | "1.3";
  /** The IANA name, such as `TLS_AES_128_GCM_SHA256`. */
  readonly cipherSuite: string;
  /** The server name that the peer asked for (SNI), lower case. */
  readonly serverName: string | null;
  /** The peer's certificate; present on mutual TLS only. */
  readonly certificate: Certificate | null;
}

/** The peer's end-entity certificate, which the gateway has verified. */
export interface Certificate {
  /** The subject as an RFC 4514 string, such as `CN=device-1,O=Example`. */
  readonly subject: string;
  /** The most specific common name of the subject. */
  readonly commonName: string | null;
  /** DNS names of the subject alternative name, in their order. */
  readonly dnsNames: string[];
  /** URIs of the subject alternative name, in their order. */
  readonly uris: string[];
  /** Email addresses of the subject alternative name, in their order. */
  readonly emailAddresses: string[];
  /** The issuer as an RFC 4514 string. */
  readonly issuer: string;
  /** Lower-case hex, no separators, no leading zero byte. */
  readonly serialNumber: string;
  /** Seconds since the Unix epoch. */
  readonly notBefore: number;
  /** Seconds since the Unix epoch. */
  readonly notAfter: number;
  /** SHA-256 of the DER encoding: 64 characters of lower-case hex. */
  readonly fingerprint: string;
  /** What the gateway knows of its revocation. */
  readonly revocation: "good" | "revoked" | "unknown" | "not-checked";
  /** The DER encoding. */
  readonly der: Uint8Array;
  /** The verified chain above it, DER, trust anchor last. */
  readonly chain: Uint8Array[];
}

// What a verifier answers.

/** The answer of a verifier. */
export type Verdict = Admission | Refusal | Challenge;

export declare const Verdict: {
  /**
   * Admits the device of this name. Without `permissions` the gateway's own rules hold.
   *
   * @param deviceName 4 to 64 of `A-Z a-z 0-9 - _ @ . :`. An unknown device is created under it.
   */
  admit(deviceName: string, options?: AdmissionOptions): Admission;
  /**
   * MQTT 5 with an authentication method only: sends AUTH with this data, at most 65,535 bytes.
   * `verify` is called again with the peer's answer in `authenticationData`; keep what is needed
   * until then in `state` under `connection.id`, with a ttl.
   */
  challenge(data: Uint8Array | string): Challenge;
};

export interface AdmissionOptions {
  /** Another product than the gateway's. */
  product?: string | null;
  /** Kept in the registry and given to parsers. At most 64, of 1 KiB each. */
  attributes?: Iterable<Property>;
  /** These and nothing else; an empty array permits nothing. Null: the gateway's own rules. */
  permissions?: Iterable<Permission> | null;
  /** Seconds after which the gateway ends the connection or verifies it again; 1 at least. */
  expiresIn?: number | null;
  /**
   * Seconds for which the gateway may reuse this verdict for the same request; 0 is none.
   * Verdicts that took a challenge are never reused.
   */
  cacheFor?: number | null;
  /** The last word of an enhanced authentication, sent with CONNACK. At most 65,535 bytes. */
  authenticationData?: Uint8Array | string | null;
}

/** Who the device is and what it may do. Made by `Verdict.admit`. */
export declare class Admission {
  constructor(deviceName: string, options?: AdmissionOptions);
  readonly verdict: "admit";
  deviceName: string;
  product: string | null;
  attributes: Property[];
  permissions: Permission[] | null;
  expiresIn: number | null;
  cacheFor: number | null;
  authenticationData: Uint8Array | null;
  /** Adds an attribute. */
  attribute(name: string, value: string): this;
  /**
   * Adds a permission; with the first one, the gateway's own rules no longer count.
   *
   * @param topicFilter `%d`, `%c` and `%u` stand for device name, client identifier and user name.
   */
  permit(action: Action, topicFilter: string): this;
}

/** What a permission permits. */
export type Action = "publish" | "subscribe" | "both";

/** A topic filter that the device may use. */
export interface Permission {
  action: Action;
  /** With `%d`, `%c`, `%u` for device name, client identifier and user name. */
  topicFilter: string;
}

/**
 * The reason of a refusal; in brackets the answers on MQTT 5 and MQTT 3.1.1:
 * `bad-user-name-or-password` (0x86, 5), `not-authorized` (0x87, 5), `banned` (0x8A, 5),
 * `server-busy` (0x89, 3), `quota-exceeded` (0x97, 3), `use-another-server` (0x9C, 3).
 */
export type RefusalReason =
  | "bad-user-name-or-password"
  | "not-authorized"
  | "banned"
  | "server-busy"
  | "quota-exceeded"
  | "use-another-server";

/** Why the peer is turned away. The message goes to the log and, on MQTT 5, to the peer: no secrets. */
export declare class Refusal {
  constructor(reason: RefusalReason, message: string, serverReference?: string | null);
  readonly verdict: "refuse";
  reason: RefusalReason;
  message: string;
  serverReference: string | null;
  /** Unknown user name, wrong password (0x86, 5). */
  static badUserNameOrPassword(message: string): Refusal;
  /** Known, but not allowed here or now (0x87, 5). */
  static notAuthorized(message: string): Refusal;
  /** Barred (0x8A, 5). */
  static banned(message: string): Refusal;
  /** Try again later (0x89, 3). */
  static serverBusy(message: string): Refusal;
  /** A quota is used up (0x97, 3). */
  static quotaExceeded(message: string): Refusal;
  /** Go elsewhere (0x9C, 3). @param serverReference Space-separated `host:port`. */
  static useAnotherServer(message: string, serverReference: string): Refusal;
}

/** Data for the peer, in an enhanced authentication. Made by `Verdict.challenge`. */
export declare class Challenge {
  constructor(data: Uint8Array | string);
  readonly verdict: "challenge";
  data: Uint8Array;
}

// What a parser is told, and what it answers.

/** Under which circumstances a message came. */
export interface Context {
  /** `up`: from a device to the platform; `down`: the other way. A property of the binding. */
  readonly direction: "up" | "down";
  /** The publisher. */
  readonly device: Device;
  /** Name of the gateway in the configuration. */
  readonly gateway: string;
  /** Milliseconds since the Unix epoch at which the gateway received the PUBLISH, as in `Date`. */
  readonly receivedAt: number;
}

/** A registered device. */
export interface Device {
  /** 4 to 64 of `A-Z a-z 0-9 - _ @ . :`. */
  readonly name: string;
  /** The product that it belongs to. */
  readonly product: string;
  /** Client identifier of its session. */
  readonly clientId: string;
  /** Attributes of its registry entry. */
  readonly attributes: Property[];
}

/** The fields of a message beside topic and payload. */
export interface MessageFields {
  /** What the sender says the payload is; nobody checks it. */
  payloadFormat: "unspecified" | "utf8" | null;
  /** Quality of service. */
  qos: 0 | 1 | 2;
  /** Keep it for later subscribers. */
  retain: boolean;
  /** MIME type, by convention. */
  contentType: string | null;
  /** A topic name: where an answer goes. */
  responseTopic: string | null;
  /** What an answer carries back. */
  correlationData: Uint8Array | null;
  /** Seconds that remain. */
  messageExpiryInterval: number | null;
  /** MQTT 5 user properties. */
  userProperties: Property[];
}

/** An application message. On MQTT 3.1.1 the options are null and the lists empty. */
export declare class Message implements MessageFields {
  /**
   * A message with QoS 0 and nothing but topic and payload, unless `fields` says more.
   *
   * @param topic A topic name: 1 to 65,535 bytes, no wildcard.
   * @param payload Bytes, or a text that becomes UTF-8.
   */
  constructor(topic: string, payload: Uint8Array | string, fields?: Partial<MessageFields>);
  topic: string;
  /** At most the gateway's packet limit (1 MiB by default). */
  payload: Uint8Array;
  payloadFormat: "unspecified" | "utf8" | null;
  qos: 0 | 1 | 2;
  retain: boolean;
  contentType: string | null;
  responseTopic: string | null;
  correlationData: Uint8Array | null;
  messageExpiryInterval: number | null;
  userProperties: Property[];

  /** The levels of the topic. */
  topicLevels(): string[];
  /** The topic with `level` in place of its last level. */
  siblingTopic(level: string): string;
  /**
   * The same message to another topic, with another payload. Payload format and content type
   * described the old payload and are cleared; `fields` sets them, or others, anew.
   */
  with(topic: string, payload: Uint8Array | string, fields?: Partial<MessageFields>): Message;
  /** As `with`, the payload being `value` as JSON: UTF-8, `application/json`. */
  withJson(topic: string, value: unknown, fields?: Partial<MessageFields>): Message;
  /** The payload as text. @throws {TypeError} when it is not UTF-8 */
  text(): string;
  /** The payload read as JSON. @throws {TypeError | SyntaxError} when it is not JSON in UTF-8 */
  json(): any;
}

/** The answer of a parser, where it is not simply a message or an array of messages. */
export type Outcome =
  | { readonly outcome: "pass" }
  | { readonly outcome: "drop" }
  | { readonly outcome: "replace"; readonly messages: Message[] }
  | { readonly outcome: "reject"; readonly reason: string };

export declare const Outcome: {
  /** Deliver the message as it came; nothing is copied back. */
  readonly pass: Outcome;
  /** Acknowledge and deliver nothing. */
  readonly drop: Outcome;
  /**
   * The payload is not what it should be: 0x99 (payload format invalid) on MQTT 5. The reason is
   * sent as the reason string and goes to the log.
   */
  reject(reason: string): Outcome;
  /**
   * Deliver these instead, in their order, 64 at most. Each topic must lie under the binding's
   * `may_publish` filters. Returning the array itself means the same.
   */
  replace(messages: Message[]): Outcome;
};

/**
 * Whether two values are equal, in a time that does not tell how much of them is right; texts
 * count as their UTF-8. Values of different lengths are told apart at once.
 */
export declare function timingSafeEqual(a: Uint8Array | string, b: Uint8Array | string): boolean;

/**
 * Lines in the gateway's log, under the plugin's name: by default 100 a second, of 8 KiB. The
 * values of `fields` become text. `console` writes here too (`console.log` as `info`).
 */
export declare namespace log {
  type Level = "trace" | "debug" | "info" | "warn" | "error";
  type Fields = Record<string, unknown>;
  function trace(message: string, fields?: Fields): void;
  /** A line for whoever debugs the plugin. */
  function debug(message: string, fields?: Fields): void;
  /** A line that an operator may want to read. */
  function info(message: string, fields?: Fields): void;
  /** A line that an operator should read. */
  function warn(message: string, fields?: Fields): void;
  /** A line that an operator must act upon. */
  function error(message: string, fields?: Fields): void;
  /** Whether a line of this level would be written. Ask before building an expensive message. */
  function enabled(level: Level): boolean;
}

/** The settings of the plugin's manifest; to be asked for inside `verify` or `parse`. */
export declare namespace settings {
  /** The value of one setting, null when the manifest does not have it. */
  function get(key: string): string | null;
  /** @throws {Error} that names the setting when the manifest does not have it */
  function require(key: string): string;
  /**
   * A setting that is not text, such as a number or a list, or `fallback` when the manifest does
   * not have it.
   *
   * @throws {Error} that names the setting when it is not of the fallback's type
   */
  function parseOr<T>(key: string, fallback: T): T;
  /** Every setting, in the order of the keys. */
  function all(): Property[];
}

/**
 * A small key-value space of the plugin's own, shared by its instances. It ends with the gateway.
 *
 * Keys are at most 256 bytes, values at most 64 KiB, all entries together at most the manifest's
 * `limits.state` (1 MiB by default). Each call is atomic. `ttl` is whole seconds; without it an
 * entry stays until it is removed.
 */
export declare namespace state {
  /** The entry, null where there is none or its time is over. */
  function get(key: string): Uint8Array | null;
  /** Stores an entry. @throws {Error} when it is too long or the space is full */
  function set(key: string, value: Uint8Array | string, ttl?: number | null): void;
  /** Removes an entry; nothing happens where there is none. */
  function remove(key: string): void;
  /**
   * Adds to a counter and returns its new value; an absent one is 0, and the sum saturates at 64
   * bits. `ttl` counts from the counter's creation. Beyond 2^53 the returned number is rounded;
   * `counter` is exact.
   *
   * @param by A whole number within 2^53, 1 when it is left out.
   * @throws {Error} when the entry is no counter or the space is full
   */
  function increment(key: string, by?: number | bigint, ttl?: number | null): number;
  /** The exact value of a counter, 0n where there is none. @throws {Error} when it is no counter */
  function counter(key: string): bigint;
}

/**
 * Requests over HTTP, to what the manifest grants: `http = ["https://auth.example.com/verify"]`. A
 * call waits for its response and returns it; nothing is asynchronous. Any status is a response.
 *
 * ```js
 * const response = http.post("https://auth.example.com/verify", JSON.stringify({ user }), {
 *   headers: { "content-type": "application/json" },
 * });
 * const isKnown = response.status === 200 && response.json().active;
 * ```
 *
 * To be made inside `verify` or `parse`. A request ends with the call's deadline, whatever its timeout.
 * A plugin that uses none of this asks the gateway for no HTTP.
 */
export declare namespace http {
  /** @throws {HttpError} when there is no response */
  function request(request: Request): Response;
  /** GET. @throws {HttpError} when there is no response */
  function get(url: string, options?: Options): Response;
  /** POST with a body, a text as UTF-8. @throws {HttpError} when there is no response */
  function post(url: string, body: Uint8Array | string, options?: Options): Response;

  interface Options {
    /** Names and values; as pairs where a name comes more than once. */
    headers?: Headers;
    /**
     * Seconds, fractions too, for the connection, for the first byte of the response, and between its
     * parts; the manifest's `http_client.timeout` where it is left out.
     */
    timeout?: number | null;
  }

  interface Request extends Options {
    /** `GET` where it is left out. */
    method?: string;
    /** Scheme, host, port, path and query. */
    url: string;
    /** A text is sent as UTF-8. */
    body?: Uint8Array | string | null;
  }

  type Headers = Record<string, string> | Iterable<Property>;

  /** What a server answered. Tests make their own. */
  class Response {
    constructor(status: number, body?: Uint8Array | string, headers?: Headers);
    /** Such as 200. */
    readonly status: number;
    /** Names, in lower case, and values. */
    readonly headers: Property[];
    /** The gateway bounds it (`http_client.response`). */
    readonly body: Uint8Array;
    /** Whether the status is 200 to 299. */
    readonly ok: boolean;
    /** The value of the first header of this name, in whatever case, null where there is none. */
    header(name: string): string | null;
    /** The body as text. @throws {TypeError} when it is not UTF-8 */
    text(): string;
    /** The body read as JSON. @throws {TypeError | SyntaxError} when it is not JSON in UTF-8 */
    json(): any;
  }

  /**
   * Why there is no response; the gateway's log says more.
   *
   * `denied`: the manifest does not grant the request. `invalid`: it cannot be sent as it is.
   * `timed-out`: no response in time. `unreachable`: no connection, or a certificate that is not to be
   * trusted. `broken`: the response broke off, or is larger than the manifest allows.
   */
  type Code = "denied" | "invalid" | "timed-out" | "unreachable" | "broken";

  class HttpError extends Error {
    /** @param detail What the message says beyond the code. */
    constructor(code: Code, detail?: string);
    readonly code: Code;
  }
}
