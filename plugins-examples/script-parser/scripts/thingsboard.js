// An uplink converter as ThingsBoard's editor holds it: the body of Decoder(payload, metadata).
var data = decodeToJson(payload);

return {
  deviceName: metadata.deviceName,
  deviceType: metadata.deviceType,
  attributes: { firmware: data.fw },
  telemetry: { ts: metadata.ts, values: { temperature: data.t / 10 } }
};
