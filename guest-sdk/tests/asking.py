#!/usr/bin/env python3
"""Tests requests over HTTP of a component, against a server of its own:

    PORTREEVE=portreeve python3 asking.py ASKS.wasm PLAIN.wasm

ASKS.wasm is a parser. Each line of its payload is a request, `METHOD URL TIMEOUT_MS MARK BYTES`, to be
made with the header `x-mark: MARK` and a body of so many `x`; a time-out of 0 is none. It answers with
one message of as many lines, each the status, the header `x-served` and the body, or the code of the
error. PLAIN.wasm is any component that makes no requests. Every SDK has such components."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

# A shared machine may need long to compile what it calls; the deadline is of the call alone.
MANIFEST = 'http = ["http://127.0.0.1:{port}/granted", "http://127.0.0.1:{closed}/"]\n[limits]\ndeadline = "20s"\nmemory = "32MiB"\n'


class Service(BaseHTTPRequestHandler):
    """Answers with what it was asked: method, path, mark and length of the body."""

    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.path == "/granted/slow":
            time.sleep(3)
        text = f"{self.command} {self.path} {self.headers.get('x-mark')} {len(body)}".encode()
        self.send_response(202)
        self.send_header("X-Served", "yes")
        is_cut = self.path == "/granted/cut"
        self.send_header("content-length", str(len(text) + is_cut))
        self.end_headers()
        self.wfile.write(text)
        self.close_connection = is_cut

    do_GET = do_POST = do_PUT = do_PURGE = answer

    def log_message(self, *_: object) -> None:
        pass


def main() -> None:
    if len(sys.argv) != 3 or "PORTREEVE" not in os.environ:
        sys.exit(__doc__)
    asks, plain = map(Path, sys.argv[1:])
    imports_http(plain, expected=False)
    asks_within_its_grant(asks)
    print(f"{asks.name}: ok")


def imports_http(component: Path, expected: bool) -> None:
    said = portreeve("check", "--json", component).stdout
    if ("wasi:http/outgoing-handler" in said) != expected:
        sys.exit(f"{component}: it imports {'no ' * expected}wasi:http: {said}")


def asks_within_its_grant(component: Path) -> None:
    manifest = component.with_suffix(".toml")
    manifest.unlink(missing_ok=True)
    imports_http(component, expected=True)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Service)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    port = server.server_address[1]
    closed = closed_port()
    manifest.write_text(MANIFEST.format(port=port, closed=closed))
    url = f"http://127.0.0.1:{port}"
    cases = [
        (f"GET {url}/granted/a?b=1#c 0 mark 0", "202 yes GET /granted/a?b=1 mark 0"),
        (f"POST {url}/granted 5000 mark 20000", "202 yes POST /granted mark 20000"),
        (f"PURGE {url}/granted 0 mark 0", "202 yes PURGE /granted mark 0"),
        (f"GET {url}/other 0 mark 0", "denied"),
        ("GET granted 0 mark 0", "invalid"),
        (f"GET {url}/granted 0 \x01 0", "invalid"),
        (f"GET {url}/granted/slow 300 mark 0", "timed-out"),
        (f"GET {url}/granted/cut 0 mark 0", "broken"),
        (f"GET http://127.0.0.1:{closed}/ 0 mark 0", "unreachable"),
    ]
    question = json.dumps({"topic": "ask", "payload": "\n".join(line for line, _ in cases)})
    result = portreeve("call", component, question)
    if result.returncode != 0:
        sys.exit(f"{component}: {result.stderr}")
    answers = json.loads(result.stdout)["messages"][0]["payload"].split("\n")
    for (line, expected), answer in zip(cases, answers, strict=True):
        if answer != expected:
            sys.exit(f"{component}: {line!r} is answered by {answer!r}, not {expected!r}")


def closed_port() -> int:
    """A port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def portreeve(*command: object) -> "subprocess.CompletedProcess[str]":
    arguments = [os.environ["PORTREEVE"], "plugin", *map(str, command)]
    return subprocess.run(arguments, capture_output=True, text=True)


main()
