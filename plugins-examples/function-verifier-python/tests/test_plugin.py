import unittest
from typing import Any, Callable, Dict
from unittest import mock

from portreeve_guest import Action, Admission, Refusal, RefusalReason, testing

import handler
import plugin


def ask(function: Callable[..., Any], password: bytes = b"p", **settings: str):
    testing.settings(settings)
    with mock.patch.object(handler, "handler", function):
        return plugin.verify(testing.connect("client-1", user_name="device-1", password=password))


class Example(unittest.TestCase):
    def test_who_is_known_is_admitted(self) -> None:
        verdict = ask(handler.handler, b"demo", SALT="development")
        assert isinstance(verdict, Admission)
        self.assertEqual((verdict.device_name, verdict.expires_in), ("device-1", 3600))
        self.assertEqual(verdict.permissions[0].topic_filter, "devices/%d/#")

    def test_nobody_else_is(self) -> None:
        for password in (b"demO", b"", b"\xff"):
            verdict = ask(handler.handler, password, SALT="development")
            self.assertEqual(verdict.reason, RefusalReason.BAD_USER_NAME_OR_PASSWORD)
        self.assertIsInstance(ask(handler.handler, b"demo", SALT="other"), Refusal)


class Contract(unittest.TestCase):
    def test_functions_answer_in_every_way(self) -> None:
        async def later(event: Any, context: Any) -> Dict[str, str]:
            return {"result": "accept"}

        for function in (
            lambda event, context: {"result": "accept"},
            lambda event, context: '{"result": "accept"}',
            lambda event, context: b'{"result": "accept"}',
            later,
        ):
            self.assertEqual(ask(function).device_name, "device-1")

    def test_nothing_but_a_clear_acceptance_admits(self) -> None:
        def fails(event: Any, context: Any) -> None:
            raise ValueError("no")

        answers = [None, True, "accept", [], {}, {"result": True}, {"result": "ACCEPT"}, {"Result": "accept"}]
        answers += [{"result": "accept", **more} for more in (
            {"deviceName": 7}, {"permissions": "all"}, {"expiresIn": -1}, {"attributes": {"a": {}}},
            {"permissions": [{"action": "all", "topicFilter": "#"}]}, {"expiresIn": True},
        )]
        for function in [fails, *(lambda event, context, answer=answer: answer for answer in answers)]:
            verdict = ask(function)
            self.assertEqual(verdict.reason, RefusalReason.NOT_AUTHORIZED, verdict)
            with self.assertRaises(Exception):
                ask(function, on_error="unavailable")

    def test_function_compute_has_bytes(self) -> None:
        function = lambda event, context: {"result": "accept", "attributes": {"type": type(event).__name__}}
        self.assertEqual(ask(function, preset="function-compute").attributes, [("type", "bytes")])

    def test_enhanced_authentication_is_refused(self) -> None:
        request = testing.connect("c", authentication_method="SCRAM-SHA-256")
        self.assertIsInstance(plugin.verify(request), Refusal)


CONNECT = {"Effect": "Allow", "Action": "iot:Connect", "Resource": "*"}


def with_statements(*statements: Any):
    answer = {"isAuthenticated": True, "principalId": "p1", "policyDocuments": [{"Statement": [CONNECT, *statements]}]}
    return ask(lambda event, context: answer, preset="lambda")


def allow(action: str, resource: str, effect: str = "Allow") -> Dict[str, str]:
    return {"Effect": effect, "Action": action, "Resource": f"arn:aws:iot:r:1:{resource}"}


class Authorizer(unittest.TestCase):
    def test_policies_become_permissions(self) -> None:
        for resource, filters in {
            "topic/a/b": ["a/b"], "topic/a/*": ["a/+/#"], "topic/*": ["#"], "topic/a/*/c": ["a/+/c"],
            "topic/d/${iot:ClientId}": ["d/client-1"], "topic/a/#": [], "topicfilter/a": [],
        }.items():
            permissions = with_statements(allow("iot:Publish", resource)).permissions
            self.assertEqual([one.topic_filter for one in permissions], filters, resource)
        for topic_filter, topic, filters in [
            ("a/b", "a/b", ["a/b"]), ("a/*", "a/*", ["a/#"]), ("*", "a/b", ["a/b"]), ("a/b", "c", []),
        ]:
            verdict = with_statements(allow("iot:Subscribe", f"topicfilter/{topic_filter}"), allow("iot:Receive", f"topic/{topic}"))
            self.assertEqual([(one.action, one.topic_filter) for one in verdict.permissions], [(Action.SUBSCRIBE, one) for one in filters])

    def test_what_is_denied_is_never_permitted(self) -> None:
        for statements in [
            [allow("iot:Publish", "topic/a/*"), allow("iot:Publish", "topic/a/secret", "Deny")],
            [allow("iot:Subscribe", "topicfilter/a/#"), allow("iot:Receive", "topic/a/x", "Deny")],
            [allow("iot:Connect", "client/cl*", "Deny")],
            [allow("iot:Publish", "topic/dev*/x")],
            [allow("iot:Publish", "topic/a"), {**allow("iot:Publish", "topic/a"), "Condition": {}}],
            [None],
        ]:
            self.assertEqual(with_statements(*statements).reason, RefusalReason.NOT_AUTHORIZED, statements)

    def test_answers_beyond_the_documented_limits_admit_nobody(self) -> None:
        good = {"isAuthenticated": True, "principalId": "p", "policyDocuments": [{"Statement": CONNECT}]}
        self.assertIsInstance(ask(lambda event, context: good, preset="lambda"), Admission)
        for wrong in ({"isAuthenticated": 1}, {"principalId": "a-b"}, {"policyDocuments": [good] * 11},
                      {"refreshAfterInSeconds": 10}, {"policyDocuments": [{}]}, {"policyDocuments": ["x" * 3000]}):
            verdict = ask(lambda event, context: {**good, **wrong}, preset="lambda")
            self.assertIsInstance(verdict, Refusal, wrong)
