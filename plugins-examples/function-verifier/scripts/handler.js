// A table of devices and a hash of each password, as an application's function would ask a database.
const crypto = require('crypto');

const SALT = process.env.SALT || 'development';
const DEVICES = {
  // SHA-256 of "development:demo"
  'device-1': '23d31909ce67e505e15bf30f79232099e7cb59e3b690e4a8ca467370327569fa'
};

exports.handler = async function (event, context) {
  const expected = DEVICES[event.userName];
  const given = crypto.createHash('sha256').update(SALT + ':' + event.password).digest('hex');
  if (!Object.hasOwn(DEVICES, event.userName) ||
      !crypto.timingSafeEqual(Buffer.from(given), Buffer.from(expected))) {
    console.log('refused %s, request %s', event.userName, context.requestId);
    return { result: 'reject', reason: 'bad-user-name-or-password', message: 'unknown device' };
  }
  return {
    result: 'accept',
    deviceName: event.userName,
    attributes: { site: 'north' },
    permissions: [
      { action: 'publish', topicFilter: 'devices/%d/#' },
      { action: 'subscribe', topicFilter: 'devices/%d/down' }
    ],
    expiresIn: 3600,
    cacheFor: 60
  };
};
