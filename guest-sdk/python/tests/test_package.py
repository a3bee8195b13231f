"""The helpers, with the native stand-in for the gateway."""

import unittest

from portreeve_guest import (
    Action,
    Admission,
    Direction,
    Drop,
    Error,
    PayloadFormat,
    Permission,
    QoS,
    Refusal,
    RefusalReason,
    Verdict,
    log,
    settings,
    state,
    testing,
)


class Verdicts(unittest.TestCase):
    def test_admit_leaves_everything_to_the_gateway(self) -> None:
        self.assertEqual(Verdict.admit("device-1"), Admission("device-1"))
        self.assertIsNone(Verdict.admit("device-1").permissions)

    def test_an_admission_collects_attributes_and_permissions(self) -> None:
        admission = Admission("device-1", product="p", expires_in=60)
        admission.attribute("a", "1").attribute("a", "2").permit(Action.BOTH, "devices/%d/#")
        self.assertEqual(admission.attributes, [("a", "1"), ("a", "2")])
        self.assertEqual(admission.permissions, [Permission(Action.BOTH, "devices/%d/#")])

    def test_two_admissions_share_nothing(self) -> None:
        Admission("device-1").attribute("a", "1")
        self.assertEqual(Admission("device-2").attributes, [])

    def test_a_refusal_has_the_reason_of_its_name(self) -> None:
        wrong = Refusal.bad_user_name_or_password("no")
        self.assertEqual(wrong, Refusal(RefusalReason.BAD_USER_NAME_OR_PASSWORD, "no"))
        self.assertEqual(Refusal.not_authorized("no").reason, RefusalReason.NOT_AUTHORIZED)


class Messages(unittest.TestCase):
    def test_a_sibling_topic_replaces_the_last_level(self) -> None:
        self.assertEqual(testing.message("a/b/c", b"").sibling_topic("d"), "a/b/d")
        self.assertEqual(testing.message("a", b"").sibling_topic("d"), "d")
        self.assertEqual(testing.message("a/b", b"").topic_levels, ["a", "b"])

    def test_another_payload_clears_what_described_the_old_one(self) -> None:
        message = testing.message(
            "a", b"x", qos=QoS.EXACTLY_ONCE, content_type="text/plain", user_properties=[("a", "b")]
        ).json()
        other = message.with_topic("b", "ü")
        self.assertEqual((other.topic, other.payload), ("b", "ü".encode()))
        self.assertEqual((other.payload_format, other.content_type), (None, None))
        self.assertEqual((other.qos, other.user_properties), (QoS.EXACTLY_ONCE, [("a", "b")]))
        self.assertEqual(other.json().payload_format, PayloadFormat.UTF8)
        self.assertEqual(message.topic, "a")

    def test_replaced_takes_every_form_of_messages(self) -> None:
        message = testing.message("a", b"x")
        self.assertEqual(testing.replaced(message), testing.replaced([message]))
        with self.assertRaises(AssertionError):
            testing.replaced(Drop())


class Gateway(unittest.TestCase):
    def setUp(self) -> None:
        testing.settings({"seconds": "60", "word": "x"})
        testing.clear_state()

    def test_settings_are_found_or_named(self) -> None:
        self.assertEqual(settings.require("word"), "x")
        self.assertEqual(settings.all(), {"seconds": "60", "word": "x"})
        with self.assertRaisesRegex(Error, "has no `absent`"):
            settings.require("absent")

    def test_a_setting_is_read_as_a_value(self) -> None:
        self.assertEqual(settings.parse_or("seconds", int, 1), 60)
        self.assertEqual(settings.parse_or("absent", int, 1), 1)
        with self.assertRaisesRegex(Error, "the setting `word` is 'x'"):
            settings.parse_or("word", int, 1)

    def test_state_keeps_what_it_is_given(self) -> None:
        state.set("k", b"v", ttl=5)
        self.assertEqual(state.get("k"), b"v")
        state.remove("k")
        self.assertIsNone(state.get("k"))

    def test_state_has_bounds(self) -> None:
        with self.assertRaisesRegex(Error, "the key is longer than 256 bytes"):
            state.set("k" * 257, b"")
        with self.assertRaisesRegex(Error, "the value is longer than 65536 bytes"):
            state.set("k", bytes(65537))
        for key in range(15):
            state.set(str(key), bytes(65536))
        with self.assertRaisesRegex(Error, "would exceed 1048576 bytes"):
            state.set("more", bytes(65536))

    def test_a_counter_counts_and_saturates(self) -> None:
        self.assertEqual(state.increment("c"), 1)
        self.assertEqual(state.increment("c", -3), -2)
        self.assertEqual(state.increment("c", 2**63 - 1), 2**63 - 3)
        self.assertEqual(state.increment("c", 100), 2**63 - 1)
        state.set("word", b"v")
        with self.assertRaisesRegex(Error, "no counter"):
            state.increment("word")

    def test_the_log_is_kept(self) -> None:
        testing.log_lines()
        log.info("a line", n=1)
        self.assertEqual(testing.log_lines(), ["a line n=1"])

    def test_a_connect_has_what_the_test_says(self) -> None:
        request = testing.connect("c", user_name="u", keep_alive=5)
        self.assertEqual((request.client_id, request.user_name, request.keep_alive), ("c", "u", 5))
        self.assertEqual(testing.context(Direction.UP).device.name, "device-1")
