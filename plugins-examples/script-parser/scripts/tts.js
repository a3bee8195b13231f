// Payload formatter of a sensor for temperature and humidity: T (i16, 0.01 °C), H (u8, 0.5 %).
function decodeUplink(input) {
  if (input.fPort !== 1) {
    return { errors: ['unknown FPort ' + input.fPort] };
  }
  if (input.bytes.length !== 3) {
    return { errors: ['a frame has 3 bytes, this has ' + input.bytes.length] };
  }
  var temperature = (((input.bytes[0] << 8) | input.bytes[1]) << 16) >> 16;
  return {
    data: { temperature: temperature / 100, humidity: input.bytes[2] / 2 },
    warnings: input.bytes[2] > 200 ? ['humidity beyond 100 %'] : []
  };
}

function normalizeUplink(input) {
  return { data: { air: { temperature: input.data.temperature, relativeHumidity: input.data.humidity } } };
}

function encodeDownlink(input) {
  return { bytes: [input.data.interval >> 8, input.data.interval & 255], fPort: 2 };
}

function decodeDownlink(input) {
  return { data: { interval: (input.bytes[0] << 8) | input.bytes[1] } };
}
