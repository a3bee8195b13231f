import unittest
from typing import Optional

from portreeve_guest import Admission, testing

import plugin


def admitted_as(user_name: str, password: str) -> Optional[str]:
    testing.settings({"user.device-1": "demo", "user.app": "x", "device.app": "platform", "user.none": ""})
    request = testing.connect("c", user_name=user_name, password=password.encode())
    verdict = plugin.verify(request)
    return verdict.device_name if isinstance(verdict, Admission) else None


class AllowList(unittest.TestCase):
    def test_a_listed_user_with_its_password_is_admitted(self) -> None:
        self.assertEqual(admitted_as("device-1", "demo"), "device-1")
        self.assertEqual(admitted_as("app", "x"), "platform")

    def test_nobody_else_is_admitted(self) -> None:
        others = [("device-1", "demO"), ("device-1", ""), ("device-2", "demo"), ("none", ""), ("", "")]
        for user_name, password in others:
            with self.subTest(user_name=user_name, password=password):
                self.assertIsNone(admitted_as(user_name, password))
