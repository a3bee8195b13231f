// Up, a frame of six bytes becomes JSON: temperature (i16, 0.01 °C), humidity (u16, 0.01 %),
// battery (u16, mV), big-endian, published to `…/telemetry`. Down, `{"report_interval": 60}`
// becomes two bytes (u16, seconds), published to `…/down`.

import { Outcome } from "portreeve-guest";

/** @type {import("portreeve-guest").Parse} */
export function parse(context, message) {
  return context.direction === "up" ? telemetry(message) : command(message);
}

/** @param {import("portreeve-guest").Message} message */
function telemetry(message) {
  const { buffer, byteOffset, length } = message.payload;
  if (length !== 6) return Outcome.reject(`a frame has 6 bytes, this has ${length}`);
  const frame = new DataView(buffer, byteOffset, length);
  return message.withJson(message.siblingTopic("telemetry"), {
    temperature: frame.getInt16(0) / 100,
    humidity: frame.getUint16(2) / 100,
    battery: frame.getUint16(4) / 1000,
  });
}

/** @param {import("portreeve-guest").Message} message */
function command(message) {
  let seconds;
  try {
    seconds = message.json().report_interval;
  } catch {
    return Outcome.reject("a command is a JSON object");
  }
  if (!Number.isInteger(seconds) || seconds < 0 || seconds > 65535) {
    return Outcome.reject("report_interval is to be a whole number from 0 to 65535");
  }
  return message.with(message.siblingTopic("down"), Uint8Array.of(seconds >> 8, seconds & 0xff));
}
