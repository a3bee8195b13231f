"""Requests over HTTP: natively, which sources ask for it, and as a component."""

import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from portreeve_guest import http, testing
from portreeve_guest.build import _asks

TESTS = Path(__file__).parent
PORTREEVE = os.environ.get("PORTREEVE")


class Requests(unittest.TestCase):
    def tearDown(self) -> None:
        testing.service(None)

    def test_a_request_reaches_the_service(self) -> None:
        asked = []

        def service(request: http.Request) -> http.Response:
            asked.append(request)
            return http.Response(201, b'{"known":true}', [("Content-Type", "application/json")])

        testing.service(service)
        response = http.post("https://a.example/verify", "x", {"x-a": "1"}, timeout=0.5)
        self.assertEqual(
            asked, [http.Request("POST", "https://a.example/verify", [("x-a", "1")], b"x", 0.5)]
        )
        self.assertTrue(response.ok)
        self.assertEqual(response.header("content-type"), "application/json")
        self.assertIsNone(response.header("absent"))
        self.assertEqual(response.json(), {"known": True})

    def test_without_a_service_a_request_is_denied(self) -> None:
        with self.assertRaises(http.HttpError) as raised:
            http.get("https://a.example/")
        self.assertEqual(raised.exception.code, http.Code.DENIED)
        self.assertEqual(str(raised.exception), "the manifest does not grant this request")

    def test_a_timeout_of_nothing_is_refused(self) -> None:
        with self.assertRaises(ValueError):
            http.get("https://a.example/", timeout=0)


class Sources(unittest.TestCase):
    def test_the_import_tells_whether_a_component_asks(self) -> None:
        for source, expected in {
            "from portreeve_guest import Pass, http": True,
            "from portreeve_guest.http import get": True,
            "import portreeve_guest.http": True,
            "import http.client": False,
            "from portreeve_guest import log  # not http": False,
        }.items():
            with self.subTest(source=source), tempfile.TemporaryDirectory() as folder:
                inner = Path(folder) / "package"
                inner.mkdir()
                (inner / "module.py").write_text(source)
                self.assertEqual(_asks(Path(folder)), expected)


@unittest.skipUnless(PORTREEVE, "PORTREEVE does not name the gateway's program")
class Component(unittest.TestCase):
    def test_a_component_asks_a_service_within_its_grant(self) -> None:
        subprocess.run([sys.executable, "make.py"], cwd=TESTS / "guest", check=True)
        # The compiler is installed once for both.
        venv = TESTS / "asks/.venv"
        if not venv.is_symlink():
            venv.symlink_to("../guest/.venv")
        subprocess.run([sys.executable, "make.py"], cwd=TESTS / "asks", check=True)
        asking = TESTS.parents[1] / "tests/asking.py"
        components = [TESTS / "asks/build/asks.wasm", TESTS / "guest/build/guest.wasm"]
        subprocess.run([sys.executable, asking, *components], check=True)
