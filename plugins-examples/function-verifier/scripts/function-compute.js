// A function of Alibaba Cloud's Function Compute: the event is a Buffer that holds JSON.
exports.handler = function (event, context, callback) {
  var request = JSON.parse(event.toString());
  var isKnown = request.userName === 'device-1' && request.password === 'demo';
  console.log('request ' + context.requestId + ': ' + isKnown);
  callback(null, JSON.stringify(
    isKnown ? { result: 'accept', deviceName: request.userName } : { result: 'reject' }
  ));
};
