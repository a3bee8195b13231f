// What a parser is told, and what it answers.

import { toBytes } from "./bytes.js";

const decoder = new TextDecoder("utf-8", { fatal: true });

export class Message {
  constructor(topic, payload, fields) {
    this.topic = topic;
    this.payload = toBytes(payload, "payload");
    this.payloadFormat = null;
    this.qos = 0;
    this.retain = false;
    this.contentType = null;
    this.responseTopic = null;
    this.correlationData = null;
    this.messageExpiryInterval = null;
    this.userProperties = [];
    if (fields) Object.assign(this, fields);
  }

  topicLevels() {
    return this.topic.split("/");
  }

  siblingTopic(level) {
    return this.topic.slice(0, this.topic.lastIndexOf("/") + 1) + level;
  }

  with(topic, payload, fields) {
    const copy = Object.assign(Object.create(Message.prototype), this);
    copy.topic = topic;
    copy.payload = toBytes(payload, "payload");
    copy.payloadFormat = null;
    copy.contentType = null;
    return fields ? Object.assign(copy, fields) : copy;
  }

  withJson(topic, value, fields) {
    const copy = this.with(topic, JSON.stringify(value));
    copy.payloadFormat = "utf8";
    copy.contentType = "application/json";
    return fields ? Object.assign(copy, fields) : copy;
  }

  text() {
    return decoder.decode(this.payload);
  }

  json() {
    return JSON.parse(this.text());
  }
}

export const Outcome = {
  pass: Object.freeze({ outcome: "pass" }),
  drop: Object.freeze({ outcome: "drop" }),
  reject: (reason) => ({ outcome: "reject", reason }),
  replace: (messages) => ({ outcome: "replace", messages }),
};
