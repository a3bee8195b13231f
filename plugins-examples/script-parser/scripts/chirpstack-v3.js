// The codec of chirpstack-v4.js as ChirpStack 3 calls it.
function Decode(fPort, bytes, variables) {
  var count = ((bytes[0] << 24) | (bytes[1] << 16) | (bytes[2] << 8) | bytes[3]) >>> 0;
  return { volume: count / (variables.pulses_per_unit || 1), battery: bytes[4] / 10, port: fPort };
}

function Encode(fPort, obj, variables) {
  return [obj.reset ? 1 : 0];
}
