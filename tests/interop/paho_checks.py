#!/usr/bin/env python3
"""Interoperation with Eclipse Paho for Python (paho-mqtt from PyPI).

usage: paho_checks.py HOST PORT WEBSOCKET_PORT     (WEBSOCKET_PORT 0: skip WebSocket)
"""

import os
import queue
import sys
import time

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

HOST, PORT, WEBSOCKET_PORT = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
RUN = f"interop-paho-{os.getpid()}"  # prefix of all topics and client ids of this run
TIMEOUT = 5  # seconds, of each wait
SILENCE = 0.5  # seconds without a message that count as none
V4, V5 = mqtt.MQTTv311, mqtt.MQTTv5


def properties(packet, **values):
    result = Properties(getattr(PacketTypes, packet))
    for name, value in values.items():
        setattr(result, name, value)
    return result


def expect(wanted, got):
    if wanted != got:
        raise AssertionError(f"expected {wanted!r}, got {got!r}")


class Peer:
    """A client whose calls return once the broker has answered."""

    def __init__(self, version, name="", clean=True, will=None, session=0, websocket=False,
                 manual_ack=False, **connect):
        self.messages, self.answers = queue.Queue(), queue.Queue()
        v5 = version == V5
        client = self.client = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2,
            client_id=name,
            clean_session=None if v5 else clean,
            protocol=version,
            transport="websockets" if websocket else "tcp",
            manual_ack=manual_ack,
            reconnect_on_failure=False,
        )
        client.on_connect = lambda _c, _u, flags, reason, props: self.answers.put((flags, reason, props))
        client.on_subscribe = lambda _c, _u, _mid, reasons, _p: self.answers.put(reasons)
        client.on_unsubscribe = lambda _c, _u, _mid, reasons, _p: self.answers.put(reasons)
        client.on_message = lambda _c, _u, message: self.messages.put(message)
        if will:
            client.will_set(will, b"died", qos=1)
        only_v5 = {
            "clean_start": clean,
            "properties": properties("CONNECT", SessionExpiryInterval=session, **connect),
        } if v5 else {}
        client.connect(HOST, WEBSOCKET_PORT if websocket else PORT, **only_v5)
        client.loop_start()
        self.flags, reason, self.properties = self.answers.get(timeout=TIMEOUT)
        expect(0, reason.value)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.disconnect()

    def subscribe(self, topic, qos=1, identifier=None, **options):
        if self.client.protocol == V5:
            props = properties("SUBSCRIBE", SubscriptionIdentifier=identifier) if identifier else None
            self.client.subscribe(topic, options=SubscribeOptions(qos, **options), properties=props)
        else:
            self.client.subscribe(topic, qos)
        expect([qos], [reason.value for reason in self.answers.get(timeout=TIMEOUT)])

    def unsubscribe(self, topic):
        self.client.unsubscribe(topic)
        return [reason.value for reason in self.answers.get(timeout=TIMEOUT)]

    def publish(self, topic, payload=b"", qos=1, retain=False, **props):
        props = properties("PUBLISH", **props) if props else None
        info = self.client.publish(topic, payload, qos, retain, props)
        info.wait_for_publish(TIMEOUT)
        if not info.is_published():
            raise AssertionError(f"PUBLISH to {topic} was not acknowledged")

    def receive(self, wanted=None):
        message = self.messages.get(timeout=TIMEOUT)
        if wanted is not None:
            expect(wanted, message.payload)
        return message

    def receive_nothing(self):
        try:
            message = self.messages.get(timeout=SILENCE)
        except queue.Empty:
            return
        raise AssertionError(f"unexpected {message.payload!r} on {message.topic}")

    def disconnect(self):
        self.client.disconnect()
        self.client.loop_stop()

    def kill(self):
        """Close the socket without a DISCONNECT."""
        self.client.loop_stop()
        self.client.socket().close()


CHECKS = []


def check(name, *versions):
    def add(function):
        for version in versions:
            CHECKS.append((f"v{'5' if version == V5 else '311'} {name}", function, version))
        return function
    return add


@check("connect", V4, V5)
def _(version, _topic):
    with Peer(version) as peer:
        expect(False, peer.flags.session_present)


@check("publish and subscribe, QoS 0, 1, 2", V4, V5)
def _(version, topic):
    with Peer(version) as subscriber, Peer(version) as publisher:
        subscriber.subscribe(f"{topic}/+", qos=2)
        for qos in 0, 1, 2:
            payload = bytes(range(256)) * 400
            publisher.publish(f"{topic}/{qos}", payload, qos)
            message = subscriber.receive(payload)
            expect((f"{topic}/{qos}", qos, False), (message.topic, message.qos, message.retain))


@check("retained message and its removal", V4, V5)
def _(version, topic):
    with Peer(version) as peer:
        peer.publish(topic, b"kept", retain=True)
        peer.subscribe(topic)
        expect(True, peer.receive(b"kept").retain)
        peer.publish(topic, b"", retain=True)
        expect(False, peer.receive(b"").retain)
        peer.subscribe(topic)
        peer.receive_nothing()


@check("will after an abnormal end only", V4, V5)
def _(version, topic):
    with Peer(version) as subscriber:
        subscriber.subscribe(topic)
        Peer(version, will=topic).kill()
        subscriber.receive(b"died")
        Peer(version, will=topic).disconnect()
        subscriber.receive_nothing()


@check("persistent session", V4, V5)
def _(version, topic):
    name = f"{RUN}-session"
    with Peer(version, name, clean=False, session=60) as subscriber:
        expect(False, subscriber.flags.session_present)
        subscriber.subscribe(topic, qos=2)
    with Peer(version) as publisher:
        for qos in 1, 2:
            publisher.publish(topic, b"%d" % qos, qos)
    with Peer(version, name, clean=False, session=60) as subscriber:
        expect(True, subscriber.flags.session_present)
        subscriber.receive(b"1")
        subscriber.receive(b"2")
    with Peer(version, name) as subscriber:  # a clean start removes the session
        expect(False, subscriber.flags.session_present)


@check("unacknowledged messages come again", V4, V5)
def _(version, topic):
    name = f"{RUN}-again"
    subscriber = Peer(version, name, clean=False, session=60, manual_ack=True)
    subscriber.subscribe(topic)
    with Peer(version) as publisher:
        publisher.publish(topic, b"once more")
    expect(False, subscriber.receive(b"once more").dup)
    subscriber.kill()
    with Peer(version, name, clean=False, session=60) as subscriber:
        expect(True, subscriber.receive(b"once more").dup)
    Peer(version, name).disconnect()


@check("take-over of a client id", V4, V5)
def _(version, _topic):
    ended = queue.Queue()
    first = Peer(version, f"{RUN}-taken")
    first.client.on_disconnect = lambda _c, _u, _flags, reason, _p: ended.put(reason)
    with Peer(version, f"{RUN}-taken"):
        reason = ended.get(timeout=TIMEOUT)
        if version == V5:
            expect(0x8E, reason.value)
    first.client.loop_stop()


@check("properties of a message", V5)
def _(version, topic):
    with Peer(version) as peer:
        peer.subscribe(topic)
        sent = {
            "UserProperty": [("b", "1"), ("a", "2"), ("b", "3")],
            "ContentType": "application/json",
            "ResponseTopic": f"{topic}/answer",
            "CorrelationData": b"\x00\xff",
            "PayloadFormatIndicator": 1,
            "MessageExpiryInterval": 60,
        }
        peer.publish(topic, b"{}", **sent)
        got = peer.receive(b"{}").properties
        for name, value in sent.items():
            expect((name, value), (name, getattr(got, name)))


@check("message expiry", V5)
def _(version, topic):
    name = f"{RUN}-expiry"
    with Peer(version, name, session=60) as subscriber:
        subscriber.subscribe(topic)
    with Peer(version) as publisher:
        publisher.publish(topic, b"short", MessageExpiryInterval=1)
        publisher.publish(topic, b"long", MessageExpiryInterval=60)
    time.sleep(2.1)
    with Peer(version, name, clean=False) as subscriber:
        left = subscriber.receive(b"long").properties.MessageExpiryInterval
        if not 50 < left <= 58:
            raise AssertionError(f"{left} s left of 60 after two")


@check("topic alias from the client", V5)
def _(version, topic):
    with Peer(version) as peer:
        peer.subscribe(topic)
        peer.publish(topic, b"with topic", TopicAlias=1)
        peer.publish("", b"alias only", TopicAlias=1)
        for payload in b"with topic", b"alias only":
            expect(topic, peer.receive(payload).topic)


@check("subscription identifier", V5)
def _(version, topic):
    with Peer(version) as peer:
        peer.subscribe(topic, identifier=268_435_455)
        peer.publish(topic)
        expect([268_435_455], peer.receive().properties.SubscriptionIdentifier)


@check("no-local", V5)
def _(version, topic):
    with Peer(version) as peer, Peer(version) as other:
        peer.subscribe(topic, noLocal=True)
        peer.publish(topic, b"own")
        other.publish(topic, b"other's")
        peer.receive(b"other's")
        peer.receive_nothing()


@check("retain handling", V5)
def _(version, topic):
    with Peer(version) as peer:
        peer.publish(topic, b"kept", retain=True)
        peer.subscribe(topic, retainHandling=SubscribeOptions.RETAIN_DO_NOT_SEND)
        peer.receive_nothing()
        peer.subscribe(topic, retainHandling=SubscribeOptions.RETAIN_SEND_IF_NEW_SUB)
        peer.receive_nothing()
        peer.unsubscribe(topic)
        peer.subscribe(topic, retainHandling=SubscribeOptions.RETAIN_SEND_IF_NEW_SUB)
        peer.receive(b"kept")
        peer.subscribe(topic, retainHandling=SubscribeOptions.RETAIN_SEND_ON_SUBSCRIBE)
        peer.receive(b"kept")
        peer.publish(topic, b"", retain=True)


@check("retain as published", V5)
def _(version, topic):
    with Peer(version) as peer:
        peer.subscribe(topic, retainAsPublished=True)
        for retain in True, False:
            peer.publish(topic, b"", retain=retain)
            expect(retain, bool(peer.receive().retain))


@check("shared subscription", V5)
def _(version, topic):
    with Peer(version) as one, Peer(version) as two, Peer(version) as publisher:
        sent = [b"%d" % number for number in range(20)]
        one.subscribe(f"$share/group/{topic}")
        two.subscribe(f"$share/group/{topic}")
        one.messages = two.messages  # count together
        for payload in sent:
            publisher.publish(topic, payload)
        expect(sorted(sent), sorted(two.receive().payload for _ in sent))
        two.receive_nothing()


@check("assigned client id", V5)
def _(version, _topic):
    with Peer(version) as one, Peer(version) as two:
        ids = {one.properties.AssignedClientIdentifier, two.properties.AssignedClientIdentifier}
        expect((2, True), (len(ids), all(ids)))


@check("unsubscribe from nothing", V5)
def _(version, topic):
    with Peer(version) as peer:
        expect([0x11], peer.unsubscribe(topic))
        peer.subscribe(topic)
        expect([0x00], peer.unsubscribe(topic))


@check("receive maximum", V5)
def _(version, topic):
    with Peer(version, manual_ack=True, ReceiveMaximum=2) as subscriber, Peer(version) as publisher:
        subscriber.subscribe(topic)
        for number in range(4):
            publisher.publish(topic, b"%d" % number)
        first, _second = subscriber.receive(b"0"), subscriber.receive(b"1")
        subscriber.receive_nothing()
        subscriber.client.ack(first.mid, first.qos)
        subscriber.receive(b"2")
        subscriber.receive_nothing()


@check("session expiry", V5)
def _(version, topic):
    name = f"{RUN}-short"
    for pause, present in (0, True), (2.1, False):
        with Peer(version, name, session=1) as peer:
            peer.subscribe(topic)
        time.sleep(pause)
        with Peer(version, name, clean=False) as peer:
            expect(present, peer.flags.session_present)


if WEBSOCKET_PORT:
    @check("WebSocket, QoS 1", V4, V5)
    def _(version, topic):
        with Peer(version, websocket=True) as peer:
            peer.subscribe(topic)
            payload = os.urandom(100_000)
            peer.publish(topic, payload)
            peer.receive(payload)


def main():
    failed = 0
    for number, (name, function, version) in enumerate(CHECKS):
        try:
            function(version, f"{RUN}/{number}")
            print(f"ok {name}", flush=True)
        except Exception as error:
            failed += 1
            print(f"FAIL {name}: {error or type(error).__name__}", flush=True)
    print(f"{len(CHECKS) - failed} passed, {failed} failed", flush=True)
    # Clients of failed checks may have threads left.
    os._exit(1 if failed else 0)


main()
