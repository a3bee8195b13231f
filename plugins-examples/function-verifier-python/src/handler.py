"""The function: replace this file with yours. `handler` is called with an event and a context."""

import hashlib
import hmac

from portreeve_guest import settings

# SHA-256 of "development:demo".
DEVICES = {
    "device-1": "23d31909ce67e505e15bf30f79232099e7cb59e3b690e4a8ca467370327569fa",
}


def handler(event, context):
    salt = settings.get("SALT") or ""
    given = hashlib.sha256(f"{salt}:{event['password']}".encode()).hexdigest()
    expected = DEVICES.get(event["userName"])
    if expected is None or not hmac.compare_digest(given, expected):
        print(f"refused {event['userName']}, request {context.aws_request_id}")
        return {"result": "reject", "reason": "bad-user-name-or-password", "message": "unknown device"}
    return {
        "result": "accept",
        "deviceName": event["userName"],
        "attributes": {"site": "north"},
        "permissions": [
            {"action": "publish", "topicFilter": "devices/%d/#"},
            {"action": "subscribe", "topicFilter": "devices/%d/down"},
        ],
        "expiresIn": 3600,
        "cacheFor": 60,
    }
