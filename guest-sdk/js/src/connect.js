// What a verifier answers.

import { toBytes } from "./bytes.js";

export class Admission {
  constructor(deviceName, options = {}) {
    this.verdict = "admit";
    this.deviceName = deviceName;
    this.product = options.product ?? null;
    this.attributes = [...(options.attributes ?? [])];
    this.permissions = options.permissions ? [...options.permissions] : null;
    this.expiresIn = options.expiresIn ?? null;
    this.cacheFor = options.cacheFor ?? null;
    this.authenticationData =
      options.authenticationData == null
        ? null
        : toBytes(options.authenticationData, "authenticationData");
  }

  attribute(name, value) {
    this.attributes.push([name, value]);
    return this;
  }

  permit(action, topicFilter) {
    this.permissions ??= [];
    this.permissions.push({ action, topicFilter });
    return this;
  }
}

export class Refusal {
  constructor(reason, message, serverReference = null) {
    this.verdict = "refuse";
    this.reason = reason;
    this.message = message;
    this.serverReference = serverReference;
  }

  static badUserNameOrPassword(message) {
    return new Refusal("bad-user-name-or-password", message);
  }

  static notAuthorized(message) {
    return new Refusal("not-authorized", message);
  }

  static banned(message) {
    return new Refusal("banned", message);
  }

  static serverBusy(message) {
    return new Refusal("server-busy", message);
  }

  static quotaExceeded(message) {
    return new Refusal("quota-exceeded", message);
  }

  static useAnotherServer(message, serverReference) {
    return new Refusal("use-another-server", message, serverReference);
  }
}

export class Challenge {
  constructor(data) {
    this.verdict = "challenge";
    this.data = toBytes(data, "the data of a challenge");
  }
}

export const Verdict = {
  admit: (deviceName, options) => new Admission(deviceName, options),
  challenge: (data) => new Challenge(data),
};
