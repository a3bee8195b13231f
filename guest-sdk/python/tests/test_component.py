"""What the plugin in `guest` does as a component, asked through `$PORTREEVE plugin call`.

Each question compiles 18 MB of WebAssembly, so that this takes minutes.
"""

import json
import os
import subprocess
import sys
import unittest
from pathlib import Path
from typing import Any, Dict

GUEST = Path(__file__).parent / "guest"
COMPONENT = GUEST / "build/guest.wasm"
PORTREEVE = os.environ.get("PORTREEVE")


@unittest.skipUnless(PORTREEVE, "PORTREEVE does not name the gateway's program")
class Component(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        subprocess.run([sys.executable, "make.py"], cwd=GUEST, check=True)

    def ask(self, kind: str, question: Dict[str, Any]) -> subprocess.CompletedProcess:
        command = [str(PORTREEVE), "plugin", "call", "--ask", kind, str(COMPONENT)]
        return subprocess.run(
            command, input=json.dumps(question), capture_output=True, text=True
        )

    def parsed(self, topic: str) -> Dict[str, Any]:
        done = self.ask("parse", {"topic": topic, "payload": "p", "qos": 2})
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

    def test_every_field_of_an_admission_arrives(self) -> None:
        done = self.ask("verify", {"client_id": "admission"})
        self.assertEqual(
            json.loads(done.stdout),
            {
                "verdict": "admit",
                "device_name": "device-1",
                "product": "p",
                "attributes": [["a", "b"]],
                "permissions": [{"action": "subscribe", "topic_filter": "devices/%d/#"}],
                "expires_in": 60,
                "cache_for": 5,
                "authentication_data_hex": "01",
            },
        )

    def test_refusals_and_challenges_arrive(self) -> None:
        refusal = json.loads(self.ask("verify", {"client_id": "refusal"}).stdout)
        self.assertEqual(refusal["server_reference"], "other:1883")
        challenge = json.loads(self.ask("verify", {"client_id": "challenge"}).stdout)
        self.assertEqual(challenge["authentication_data_hex"], "0203")

    def test_outcomes_arrive(self) -> None:
        self.assertEqual(self.parsed("pass"), {"outcome": "pass"})
        self.assertEqual(self.parsed("drop"), {"outcome": "drop"})
        messages = self.parsed("replace")["messages"]
        self.assertEqual([(m["topic"], m["payload"]) for m in messages], [("replace", "p"), ("b", "x")])

    def test_a_message_is_of_this_package(self) -> None:
        self.assertIn("qos=<QoS.EXACTLY_ONCE: 2>", self.parsed("message")["reason"])

    def test_state_and_settings_are_the_gateways(self) -> None:
        self.assertTrue(self.parsed("counter")["reason"].startswith("2 3 b'\\x03"))
        self.assertEqual(self.parsed("settings")["reason"], "{'seconds': '60'} 60")

    def test_random_numbers_differ_but_those_of_the_module(self) -> None:
        first, second = (self.parsed("random")["reason"].split() for _ in range(2))
        self.assertNotEqual(first[0], second[0])
        self.assertNotEqual(first[1], second[1])
        self.assertEqual(first[2], second[2])

    def test_a_file_read_by_the_module_is_in_the_component(self) -> None:
        self.assertIn("a text that is read", self.parsed("text")["reason"])

    def test_an_exception_is_the_contracts_error(self) -> None:
        errors = {
            "error": "the guest reports: a plain text\n",
            "value-error": "the guest reports: KeyError: 'missing' (plugin.py, line ",
            "import": "import it at the top of the module",
            "text-payload": "TypeError: Message.payload is of type str, not bytes",
            "surrogate": "UnicodeEncodeError",
            "big-ttl": "ttl is 4294967296, not 0 to 4294967295",
            "long-key": "state: the key is longer than 256 bytes",
            "no-counter": "state: the entry is no counter",
            "require": "has no `absent`",
            "file": "FileNotFoundError",
            "recursion": "RecursionError",
            "socket": "PermissionError",
            "none": "the parser returned NoneType",
        }
        for topic, error in errors.items():
            with self.subTest(topic=topic):
                done = self.ask("parse", {"topic": topic, "payload": "p"})
                self.assertIn(error, done.stderr)
