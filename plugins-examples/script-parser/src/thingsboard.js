// Functions that ThingsBoard's converters call without declaring them.
function decodeToString(payload) { return decodeURIComponent(escape(String.fromCharCode.apply(null, payload))); }
function decodeToJson(payload) { return JSON.parse(decodeToString(payload)); }
function stringToBytes(text) {
  return Array.from(unescape(encodeURIComponent(text)), function (unit) { return unit.charCodeAt(0); });
}
function hexToBytes(hex) {
  var bytes = [];
  for (var at = 0; at + 1 < hex.length; at += 2) bytes.push(parseInt(hex.substr(at, 2), 16));
  return bytes;
}
function bytesToHex(bytes) {
  return Array.from(bytes, function (byte) { return ("0" + (byte & 255).toString(16)).slice(-2); }).join("");
}
function base64ToBytes(text) {
  return Array.from(atob(text), function (unit) { return unit.charCodeAt(0); });
}
function bytesToBase64(bytes) { return btoa(String.fromCharCode.apply(null, bytes)); }
