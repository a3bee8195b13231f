// A custom authorizer of AWS IoT Core.
exports.handler = function (event, context, callback) {
  var mqtt = event.protocolData.mqtt;
  var name = (mqtt.username || '').split('?')[0];
  var password = Buffer.from(mqtt.password || '', 'base64').toString();
  if (password !== 'demo') {
    callback(null, { isAuthenticated: false });
    return;
  }
  var arn = 'arn:aws:iot:eu-central-1:123456789012:';
  callback(null, {
    isAuthenticated: true,
    principalId: name.replace(/[^a-zA-Z0-9]/g, ''),
    disconnectAfterInSeconds: 86400,
    refreshAfterInSeconds: 3600,
    policyDocuments: [{
      Version: '2012-10-17',
      Statement: [
        { Effect: 'Allow', Action: 'iot:Connect', Resource: arn + 'client/' + mqtt.clientId },
        { Effect: 'Allow', Action: 'iot:Publish', Resource: arn + 'topic/devices/' + mqtt.clientId + '/*' },
        { Effect: 'Allow', Action: 'iot:Subscribe', Resource: arn + 'topicfilter/devices/' + mqtt.clientId + '/down' },
        { Effect: 'Allow', Action: 'iot:Receive', Resource: arn + 'topic/devices/' + mqtt.clientId + '/down' }
      ]
    }]
  });
};
