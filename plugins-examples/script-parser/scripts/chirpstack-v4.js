// Codec of a counter of pulses: count (u32, big-endian), battery (u8, 0.1 V).
function decodeUplink(input) {
  if (input.bytes.length < 5) {
    return { errors: ["a frame has 5 bytes"] };
  }
  const frame = Buffer.from(input.bytes);
  const perUnit = Number(input.variables.pulses_per_unit || 1);
  return { data: { volume: frame.readUInt32BE(0) / perUnit, battery: frame.readUInt8(4) / 10 } };
}

function encodeDownlink(input) {
  return { bytes: [input.data.reset ? 1 : 0] };
}
