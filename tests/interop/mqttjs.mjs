#!/usr/bin/env node
// Interoperation with MQTT.js (package `mqtt` from npm).
// usage: node mqttjs.mjs HOST PORT WEBSOCKET_PORT     (WEBSOCKET_PORT 0: skip WebSocket)
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import mqtt from "mqtt";

const [host, port, webSocketPort] = process.argv.slice(2);
const run = `interop-mqttjs-${process.pid}`; // prefix of all topics and client ids of this run
const patience = 5000; // milliseconds, of each wait
const silence = 500; // milliseconds without a message that count as none
const V4 = 4;
const V5 = 5;

const within = (milliseconds, what, promise) => {
  const timer = new AbortController();
  return Promise.race([
    promise,
    sleep(milliseconds, null, { signal: timer.signal }).then(() => {
      throw new Error(`timed out: ${what}`);
    }),
  ]).finally(() => timer.abort());
};

class Peer {
  static open = new Set();

  messages = [];
  arrived = new EventTarget();

  static async connect(version, { webSocket = false, ...options } = {}) {
    const peer = new Peer();
    const url = webSocket ? `ws://${host}:${webSocketPort}/mqtt` : `mqtt://${host}:${port}`;
    peer.client = mqtt.connect(url, { protocolVersion: version, reconnectPeriod: 0, ...options });
    Peer.open.add(peer);
    peer.client.on("message", (topic, payload, { qos, retain, properties = {} }) => {
      peer.messages.push({ topic, text: payload.toString(), payload, qos, retain, ...properties });
      peer.arrived.dispatchEvent(new Event("message"));
    });
    [peer.connack] = await within(patience, "CONNACK", once(peer.client, "connect"));
    peer.client.on("error", () => {}); // what follows from it fails a wait
    return peer;
  }

  async subscribe(topic, options = {}) {
    const [granted] = await within(patience, "SUBACK", this.client.subscribeAsync(topic, { qos: 1, ...options }));
    assert.equal(granted.qos, options.qos ?? 1);
  }

  async unsubscribe(topic) {
    return (await within(patience, "UNSUBACK", this.client.unsubscribeAsync(topic)))?.granted;
  }

  publish(topic, payload = "", options = {}) {
    return within(patience, "PUBACK", this.client.publishAsync(topic, payload, { qos: 1, ...options }));
  }

  async receive() {
    if (!this.messages.length) await within(patience, "a message", once(this.arrived, "message"));
    return this.messages.shift();
  }

  async receiveNothing() {
    await sleep(silence);
    assert.deepEqual(this.messages.map((message) => message.text), []);
  }

  disconnect() {
    Peer.open.delete(this);
    return within(patience, "end of the connection", this.client.endAsync());
  }

  // Closes the socket without a DISCONNECT.
  kill() {
    this.client.stream.destroy();
  }
}

const checks = [];
const check = (name, versions, body) => {
  for (const version of versions) checks.push([`v${version === V5 ? "5" : "311"} ${name}`, version, body]);
};

// The options of a client whose session outlives its connection by so many seconds (3.1.1: for good).
const lasting = (version, clientId, seconds = 60) => ({
  clientId,
  clean: false,
  ...(version === V5 && { properties: { sessionExpiryInterval: seconds } }),
});

check("connect", [V4, V5], async (version) => {
  const peer = await Peer.connect(version);
  assert.equal(peer.connack.sessionPresent, false);
});

check("publish and subscribe, QoS 0, 1, 2", [V4, V5], async (version, topic) => {
  const subscriber = await Peer.connect(version);
  const publisher = await Peer.connect(version);
  await subscriber.subscribe(`${topic}/+`, { qos: 2 });
  for (const qos of [0, 1, 2]) {
    const sent = randomBytes(100_000);
    await publisher.publish(`${topic}/${qos}`, sent, { qos });
    const got = await subscriber.receive();
    assert.deepEqual([got.topic, got.qos, got.retain], [`${topic}/${qos}`, qos, false]);
    assert.ok(sent.equals(got.payload), "the payload differs");
  }
});

check("retained message and its removal", [V4, V5], async (version, topic) => {
  const peer = await Peer.connect(version);
  await peer.publish(topic, "kept", { retain: true });
  await peer.subscribe(topic);
  const { text, retain } = await peer.receive();
  assert.deepEqual([text, retain], ["kept", true]);
  await peer.unsubscribe(topic);
  await peer.publish(topic, "", { retain: true });
  await peer.subscribe(topic);
  await peer.receiveNothing();
});

check("will after an abnormal end only", [V4, V5], async (version, topic) => {
  const subscriber = await Peer.connect(version);
  await subscriber.subscribe(topic);
  const will = { topic, payload: Buffer.from("died"), qos: 1, retain: false };
  (await Peer.connect(version, { will })).kill();
  assert.equal((await subscriber.receive()).text, "died");
  await (await Peer.connect(version, { will })).disconnect();
  await subscriber.receiveNothing();
});

check("persistent session", [V4, V5], async (version, topic) => {
  const session = lasting(version, `${run}-session-${version}`);
  const first = await Peer.connect(version, session);
  assert.equal(first.connack.sessionPresent, false);
  await first.subscribe(topic, { qos: 2 });
  await first.disconnect();
  const publisher = await Peer.connect(version);
  for (const qos of [1, 2]) await publisher.publish(topic, `missed ${qos}`, { qos });
  const second = await Peer.connect(version, session);
  assert.equal(second.connack.sessionPresent, true);
  for (const qos of [1, 2]) assert.equal((await second.receive()).text, `missed ${qos}`);
  await second.disconnect();
  const third = await Peer.connect(version, { clientId: session.clientId });
  assert.equal(third.connack.sessionPresent, false);
});

check("properties of a message", [V5], async (version, topic) => {
  const peer = await Peer.connect(version);
  await peer.subscribe(topic);
  const properties = {
    // MQTT.js has one entry per name, in the order of first appearance.
    userProperties: { b: ["1", "3"], a: "2" },
    contentType: "application/json",
    responseTopic: `${topic}/answer`,
    correlationData: Buffer.from([0, 255]),
    payloadFormatIndicator: true,
    messageExpiryInterval: 60,
  };
  await peer.publish(topic, "{}", { properties });
  const got = await peer.receive();
  for (const [name, value] of Object.entries(properties)) {
    if (name !== "userProperties") assert.deepEqual(got[name], value, name);
  }
  assert.equal(JSON.stringify(got.userProperties), JSON.stringify(properties.userProperties));
});

check("message expiry", [V5], async (version, topic) => {
  const session = lasting(version, `${run}-expiry`);
  const first = await Peer.connect(version, session);
  await first.subscribe(topic);
  await first.disconnect();
  const publisher = await Peer.connect(version);
  await publisher.publish(topic, "short", { properties: { messageExpiryInterval: 1 } });
  await publisher.publish(topic, "long", { properties: { messageExpiryInterval: 60 } });
  await sleep(2100);
  const second = await Peer.connect(version, { ...session, properties: {} });
  const { text, messageExpiryInterval: left } = await second.receive();
  assert.equal(text, "long");
  assert.ok(left > 50 && left <= 58, `${left} s left of 60 after two`);
});

check("topic alias from the client", [V5], async (version, topic) => {
  const peer = await Peer.connect(version, { autoAssignTopicAlias: true });
  const sent = [];
  peer.client.on("packetsend", (packet) => packet.cmd === "publish" && sent.push(packet.topic));
  await peer.subscribe(topic);
  for (const text of ["with topic", "alias only"]) {
    await peer.publish(topic, text);
    const got = await peer.receive();
    assert.deepEqual([got.topic, got.text], [topic, text]);
  }
  assert.deepEqual(sent, [topic, ""]);
});

check("topic aliases allowed to the broker", [V5], async (version, topic) => {
  const peer = await Peer.connect(version, { properties: { topicAliasMaximum: 1 } });
  await peer.subscribe(`${topic}/+`);
  for (const level of ["a", "b", "a", "b"]) {
    await peer.publish(`${topic}/${level}`);
    assert.equal((await peer.receive()).topic, `${topic}/${level}`);
  }
});

check("subscription identifier", [V5], async (version, topic) => {
  const peer = await Peer.connect(version);
  await peer.subscribe(topic, { properties: { subscriptionIdentifier: 268_435_455 } });
  await peer.publish(topic);
  assert.equal((await peer.receive()).subscriptionIdentifier, 268_435_455);
});

check("no-local", [V5], async (version, topic) => {
  const peer = await Peer.connect(version);
  const other = await Peer.connect(version);
  await peer.subscribe(topic, { nl: true });
  await peer.publish(topic, "own");
  await other.publish(topic, "other's");
  assert.equal((await peer.receive()).text, "other's");
  await peer.receiveNothing();
});

check("retain handling", [V5], async (version, topic) => {
  const peer = await Peer.connect(version);
  await peer.publish(topic, "kept", { retain: true });
  await peer.subscribe(topic, { rh: 2 });
  await peer.receiveNothing();
  await peer.subscribe(topic, { rh: 1 });
  await peer.receiveNothing();
  await peer.unsubscribe(topic);
  for (const rh of [1, 0]) {
    await peer.subscribe(topic, { rh });
    assert.equal((await peer.receive()).text, "kept");
  }
  await peer.publish(topic, "", { retain: true });
});

check("retain as published", [V5], async (version, topic) => {
  const peer = await Peer.connect(version);
  await peer.subscribe(topic, { rap: true });
  for (const retain of [true, false]) {
    await peer.publish(topic, "", { retain });
    assert.equal((await peer.receive()).retain, retain);
  }
});

check("shared subscription", [V5], async (version, topic) => {
  const members = [await Peer.connect(version), await Peer.connect(version)];
  for (const member of members) await member.subscribe(`$share/group/${topic}`);
  const publisher = await Peer.connect(version);
  const sent = Array.from({ length: 20 }, (_, number) => `${number + 10}`);
  await Promise.all(sent.map((text) => publisher.publish(topic, text)));
  await sleep(silence);
  const got = members.map((member) => member.messages.map((message) => message.text));
  assert.deepEqual(got.flat().sort(), sent);
  assert.ok(got[0].length && got[1].length, "one member got nothing");
});

check("assigned client id", [V5], async (version) => {
  const ids = [];
  for (let number = 0; number < 2; number++) {
    const peer = await Peer.connect(version, { clientId: "" });
    ids.push(peer.connack.properties?.assignedClientIdentifier);
  }
  assert.ok(ids[0] && ids[1] && ids[0] !== ids[1], `assigned ${ids}`);
});

check("unsubscribe from nothing", [V5], async (version, topic) => {
  const peer = await Peer.connect(version);
  assert.deepEqual(await peer.unsubscribe(topic), [0x11]);
  await peer.subscribe(topic);
  assert.deepEqual(await peer.unsubscribe(topic), [0x00]);
});

// MQTT.js acknowledges one message after the other, so that this cannot show too many in flight;
// what it shows is that the broker goes on after each acknowledgement.
check("receive maximum", [V5], async (version, topic) => {
  const subscriber = await Peer.connect(version, { properties: { receiveMaximum: 1 } });
  const publisher = await Peer.connect(version);
  await subscriber.subscribe(topic, { qos: 2 });
  const sent = Array.from({ length: 30 }, (_, number) => `${number}`);
  await Promise.all(sent.map((text, number) => publisher.publish(topic, text, { qos: (number % 2) + 1 })));
  const got = [];
  for (const _ of sent) got.push((await subscriber.receive()).text);
  assert.deepEqual(got.sort(), sent.sort());
});

check("session expiry", [V5], async (version, topic) => {
  const session = lasting(version, `${run}-short`, 1);
  for (const [pause, present] of [[0, true], [2100, false]]) {
    const first = await Peer.connect(version, { ...session, clean: true });
    await first.subscribe(topic);
    await first.disconnect();
    await sleep(pause);
    const second = await Peer.connect(version, { ...session, properties: {} });
    assert.equal(second.connack.sessionPresent, present);
    await second.disconnect();
  }
});

if (webSocketPort !== "0") {
  check("WebSocket, QoS 1", [V4, V5], async (version, topic) => {
    const peer = await Peer.connect(version, { webSocket: true });
    await peer.subscribe(topic);
    const sent = randomBytes(100_000);
    await peer.publish(topic, sent);
    assert.ok(sent.equals((await peer.receive()).payload), "the payload differs");
  });
}

let failed = 0;
for (const [number, [name, version, body]] of checks.entries()) {
  try {
    await body(version, `${run}/${number}`);
    console.log(`ok ${name}`);
  } catch (error) {
    failed++;
    console.log(`FAIL ${name}: ${error.message.replaceAll("\n", " ")}`);
  }
  await Promise.allSettled([...Peer.open].map((peer) => peer.disconnect()));
}
console.log(`${checks.length - failed} passed, ${failed} failed`);
process.exit(failed ? 1 : 0);
