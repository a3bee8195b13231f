import unittest

from portreeve_guest import Answer, Direction, Reject, testing

import plugin


def parse(direction: Direction, topic: str, payload: bytes) -> Answer:
    return plugin.parse(testing.context(direction), testing.message(topic, payload))


class SensorFrame(unittest.TestCase):
    def test_a_frame_becomes_json(self) -> None:
        answer = parse(Direction.UP, "devices/d/raw", b"\x08\x66\x11\xc6\x0c\xe4")
        json = b'{"temperature":21.5,"humidity":45.5,"battery":3.3}'
        self.assertEqual(testing.replaced(answer), [("devices/d/telemetry", json)])
        frost = parse(Direction.UP, "raw", b"\xff\x38\x00\x00\x00\x00")
        self.assertEqual(
            testing.replaced(frost), [("telemetry", b'{"temperature":-2,"humidity":0,"battery":0}')]
        )

    def test_a_frame_of_another_length_is_rejected(self) -> None:
        self.assertIsInstance(parse(Direction.UP, "t", b"\x08\x66"), Reject)

    def test_a_command_becomes_two_bytes(self) -> None:
        answer = parse(Direction.DOWN, "devices/d/set", b'{"report_interval":60}')
        self.assertEqual(testing.replaced(answer), [("devices/d/down", b"\0\x3c")])

    def test_another_command_is_rejected(self) -> None:
        for payload in (b'{"report_interval":65536}', b'{"report_interval":true}', b"{}", b"[]", b"\xff"):
            with self.subTest(payload=payload):
                self.assertIsInstance(parse(Direction.DOWN, "t", payload), Reject)
