"""Does what the topic, or the client identifier, says: for the tests of the package."""

import datetime
import random
import secrets
import sys
import time
from pathlib import Path

from portreeve_guest import (
    Action,
    Admission,
    Answer,
    Challenge,
    Connect,
    Context,
    Drop,
    Error,
    Message,
    Pass,
    Refusal,
    RefusalReason,
    Reject,
    Replace,
    Verdict,
    log,
    parser,
    settings,
    state,
    verifier,
)

TEXT = Path(__file__).with_name("text.txt").read_text().strip()
MODULE_SECRET = secrets.token_hex(8)
calls = 0


@verifier
def verify(request: Connect) -> Verdict:
    match request.client_id:
        case "admission":
            admission = Admission("device-1", product="p", expires_in=60, cache_for=5)
            admission.attribute("a", "b").permit(Action.SUBSCRIBE, "devices/%d/#")
            admission.authentication_data = bytearray(b"\x01")
            return admission
        case "refusal":
            return Refusal(RefusalReason.USE_ANOTHER_SERVER, "go", "other:1883")
        case "challenge":
            return Challenge(b"\x02\x03")
        case "request":
            return Refusal.not_authorized(repr(request))
        case "none":
            return None
        case "negative":
            return Admission("device-1", expires_in=-1)
        case _:
            raise Error("nothing is known of this client identifier")


@parser
def parse(context: Context, message: Message) -> Answer:
    global calls
    calls += 1
    match message.topic:
        case "pass":
            return Pass()
        case "drop":
            return Drop()
        case "replace":
            return Replace([message, message.with_topic("b", bytearray(b"x"))])
        case "echo":
            return message
        case "context":
            return Reject(repr(context))
        case "message":
            return Reject(repr(message))
        case "calls":
            return Reject(str(calls))
        case "error":
            raise Error("a plain text")
        case "value-error":
            return {}["missing"]
        case "import":
            import http.client
        case "text-payload":
            message.payload = "text"
            return message
        case "surrogate":
            return Reject("\ud800")
        case "surrogate-error":
            raise Error("\ud800")
        case "big-ttl":
            state.set("k", b"v", 2**32)
        case "long-key":
            state.set("k" * 300, b"v")
        case "no-counter":
            state.set("k", b"v")
            state.increment("k")
        case "counter":
            return Reject(f"{state.increment('c', 2)} {state.increment('c', ttl=5)} {state.get('c')}")
        case "settings":
            return Reject(f"{settings.all()} {settings.parse_or('seconds', int, 0)}")
        case "require":
            settings.require("absent")
        case "log":
            log.info("a line", n=1)
            log.log(log.Level.ERROR, "another")
            print("printed")
            return Reject(str(log.enabled(log.Level.TRACE)))
        case "clock":
            time.sleep(0.01)
            return Reject(f"{time.time()} {time.monotonic()} {datetime.datetime.now()}")
        case "random":
            return Reject(f"{random.random()} {secrets.token_hex(8)} {MODULE_SECRET}")
        case "strptime":
            return Reject(str(datetime.datetime.strptime("2026-01-02", "%Y-%m-%d").year))
        case "file":
            open("/etc/hostname")
        case "text":
            return Reject(TEXT)
        case "recursion":
            return recurse(message)
        case "memory":
            return Reject(str(len(bytearray(64 << 20))))
        case "exit":
            sys.exit(3)
        case "socket":
            import _socket

            _socket.socket()
        case "host-name":
            import _socket

            _socket.getaddrinfo("127.0.0.1", 80)
        case "none":
            return None
        case "spin":
            while True:
                pass
    return Pass()


def recurse(message: Message) -> Answer:
    return recurse(message)
