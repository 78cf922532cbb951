"""A local HTTP server that answers as it is told and keeps what it was asked."""

import json
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

OK_BODY = b'{"errcode": 0, "errmsg": "ok"}'


@dataclass(frozen=True)
class Answer:
    """How one request is answered."""

    status: int = 200
    body: bytes = OK_BODY
    headers: Mapping[str, str] = field(default_factory=dict)
    fault: str = ""
    """`hang`: no answer; `trickle`: one byte now and then; `drop`: the connection ends."""


@dataclass(frozen=True)
class Got:
    """One request."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    at_s: float

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Receiver:
    """Answers in the order given, then with `last`; with `is_serving` unset, requests wait."""

    def __init__(
        self, *answers: Answer, last: Answer | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        self.got: list[Got] = []
        self.ended = threading.Event()
        self.is_serving = threading.Event()
        self.is_serving.set()
        answers_left, lock = list(answers), threading.Lock()
        receiver, last_answer = self, last or Answer()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with lock:
                    got = Got(self.path, dict(self.headers.items()), body, time.monotonic())
                    receiver.got.append(got)
                    answer = answers_left.pop(0) if answers_left else last_answer
                receiver.is_serving.wait(60)
                self._answer(answer)

            def _answer(self, answer: Answer) -> None:
                if answer.fault == "hang":
                    receiver.ended.wait(60)
                if answer.fault in ("hang", "drop"):
                    self.close_connection = True
                    return
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                if answer.fault == "trickle":
                    for i in range(len(answer.body)):
                        if receiver.ended.wait(0.1):
                            return
                        self.wfile.write(answer.body[i : i + 1])
                else:
                    self.wfile.write(answer.body)

            def log_message(self, *_: object) -> None:
                """Nothing: pytest's output is for failures."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                """Clients that go away are what some tests are about."""

        self._server = Server(("127.0.0.1", 0), Handler)
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="receiver", daemon=True
        ).start()
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "Receiver":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.ended.set()
        self.is_serving.set()
        self._server.shutdown()
        self._server.server_close()
