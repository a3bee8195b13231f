// A thermostat of eight bytes and more. Up, `00` is a report: identifier (u32), prop_int16 (i16),
// prop_bool (u8), prop_float (f32), all big-endian. Down, `01` sets the same properties.
var REPORT = 0x00;
var SET = 0x01;
var METHOD_REPORT = 'thing.event.property.post';
var METHOD_SET = 'thing.service.property.set';

function rawDataToProtocol(bytes) {
  var view = new DataView(new Uint8Array(bytes).buffer);
  if (view.getUint8(0) !== REPORT) {
    throw new Error('unknown frame 0x' + view.getUint8(0).toString(16));
  }
  return {
    method: METHOD_REPORT,
    version: '1.0',
    id: String(view.getUint32(1)),
    params: {
      prop_int16: view.getInt16(5),
      prop_bool: view.getUint8(7),
      prop_float: view.getFloat32(8)
    }
  };
}

function protocolToRawData(json) {
  if (json.method !== METHOD_SET) {
    throw new Error('unknown method ' + json.method);
  }
  var frame = new DataView(new ArrayBuffer(12));
  frame.setUint8(0, SET);
  frame.setUint32(1, parseInt(json.id, 10));
  frame.setInt16(5, json.params.prop_int16);
  frame.setUint8(7, json.params.prop_bool);
  frame.setFloat32(8, json.params.prop_float);
  return Array.prototype.slice.call(new Uint8Array(frame.buffer));
}

function transformPayload(topic, bytes) {
  if (topic.lastIndexOf('/raw') === topic.length - 4) {
    return rawDataToProtocol(bytes);
  }
  return { topic: topic, hex: Buffer.from(bytes).toString('hex') };
}
