// Stands in for the gateway in native unit tests. `testing.d.ts` documents every name.

import { Message } from "./message.js";
import { toBytes } from "./bytes.js";
import { native } from "./host/native.js";
import { native as web } from "./http/native.js";

export function settings(values) {
  native.settings = new Map(
    Object.entries(values).map(([key, value]) => [
      key,
      typeof value === "string" ? value : JSON.stringify(value),
    ]),
  );
}

export function clearState() {
  native.state = new Map();
}

export function service(answer) {
  web.answer = answer;
}

export function takeLog() {
  return native.lines.splice(0);
}

export function connect(clientId, fields = {}) {
  return {
    clientId,
    userName: null,
    cleanStart: true,
    keepAlive: 60,
    authenticationMethod: null,
    userProperties: [],
    ...fields,
    password: optionalBytes(fields.password, "password"),
    authenticationData: optionalBytes(fields.authenticationData, "authenticationData"),
    connection: {
      id: 1,
      gateway: "test",
      peerAddress: "192.0.2.1:50000",
      protocol: "mqtt5",
      tls: null,
      ...fields.connection,
    },
  };
}

export function tls(certificate = null, fields = {}) {
  return {
    version: "1.3",
    cipherSuite: "TLS_AES_128_GCM_SHA256",
    serverName: null,
    ...fields,
    certificate: certificate && {
      subject: "CN=device-1,O=Example",
      commonName: "device-1",
      dnsNames: [],
      uris: [],
      emailAddresses: [],
      issuer: "CN=Example CA",
      serialNumber: "1",
      notBefore: 1_700_000_000,
      notAfter: 2_000_000_000,
      fingerprint: "0".repeat(64),
      revocation: "not-checked",
      der: new Uint8Array(0),
      chain: [],
      ...certificate,
    },
  };
}

export function message(topic, payload, fields) {
  return new Message(topic, payload, fields);
}

export function context(direction, fields = {}) {
  return {
    direction,
    gateway: "test",
    receivedAt: 0,
    ...fields,
    device: {
      name: "device-1",
      product: "test",
      clientId: "client-1",
      attributes: [],
      ...fields.device,
    },
  };
}

export function replaced(answer) {
  const messages = answer instanceof Message ? [answer] : (answer?.messages ?? answer);
  if (!Array.isArray(messages)) throw new Error(`not replaced: ${JSON.stringify(answer)}`);
  const decoder = new TextDecoder();
  return messages.map(({ topic, payload }) => [topic, decoder.decode(payload)]);
}

const optionalBytes = (value, what) => (value == null ? null : toBytes(value, what));
