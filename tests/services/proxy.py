# SPDX-License-Identifier: Apache-2.0
"""A proxy in front of a real server, where a test may step in at each request."""

import http.client
import http.server
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import urlsplit

# Of the connection, not of the message.
_HOP_BY_HOP = frozenset({'connection', 'keep-alive', 'transfer-encoding', 'content-length'})
_TIMEOUT = 60.0


@dataclass(frozen=True)
class ProxiedRequest:
    number: int
    """1 for the first since :meth:`Proxy.forget`."""
    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes = b''
    headers: Mapping[str, str] = field(default_factory=dict)
    missing: int = 0
    """So many bytes more are announced than sent; then the connection is closed."""


class HangUp(Exception):  # noqa: N818 - a wish, not an error
    """Raised by a test's function: the client gets no answer, the connection is closed.

    :param reset: by a TCP reset instead of an orderly end
    """

    def __init__(self, *, reset: bool = False) -> None:
        super().__init__()
        self.reset = reset


def _leave(*_request_and_answer: object) -> None:
    """Change nothing."""


class Proxy:
    """Forwards everything, a context manager.

    :param url: the server's, only its address matters
    :param before: called before a request is forwarded; what it returns is the answer then, and
        the server never sees the request
    :param after: called with the server's answer; what it returns is sent instead
    :param tls: serve HTTPS with this context

    Either function may wait, or raise :exc:`HangUp`. Any other error of theirs is raised again
    when the ``with`` block ends.
    """

    def __init__(
        self,
        url: str,
        before: Callable[[ProxiedRequest], Answer | None] = _leave,
        after: Callable[[ProxiedRequest, Answer], Answer | None] = _leave,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.before = before
        self.after = after
        self.requests: list[ProxiedRequest] = []
        self.answers: list[Answer] = []
        """What the server answered, in order."""
        self.errors: list[Exception] = []
        self._server_address = urlsplit(url).netloc
        self._lock = threading.Lock()
        self._httpd = _HTTPServer(('127.0.0.1', 0), _handler_for(self))
        self._scheme = 'http'
        if tls is not None:
            self._scheme = 'https'
            self._httpd.socket = tls.wrap_socket(
                self._httpd.socket, server_side=True, do_handshake_on_connect=False
            )
        self._thread = threading.Thread(
            target=self._httpd.serve_forever, kwargs={'poll_interval': 0.02}, daemon=True
        )

    @property
    def url(self) -> str:
        return f'{self._scheme}://127.0.0.1:{self._httpd.server_address[1]}'

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        self._httpd.shutdown()
        self._httpd.server_close()
        if self.errors and error is None:
            raise self.errors[0]

    def forget(self) -> None:
        """Count from 1 again, and step in no more."""
        with self._lock:
            self.requests, self.answers = [], []
            self.before, self.after = _leave, _leave

    def exchange(self, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Answer:
        with self._lock:
            number = len(self.requests) + 1
            request = ProxiedRequest(number, method, path, headers, body)
            self.requests.append(request)
            before, after = self.before, self.after
        try:
            own = before(request)
            if own is not None:
                return own
            answer = self._forward(request)
            with self._lock:
                self.answers.append(answer)
            return after(request, answer) or answer
        except HangUp:
            raise
        except Exception as error:
            self.errors.append(error)
            raise HangUp from error

    def _forward(self, request: ProxiedRequest) -> Answer:
        connection = http.client.HTTPConnection(self._server_address, timeout=_TIMEOUT)
        try:
            connection.request(
                request.method, request.path, request.body or None, dict(request.headers)
            )
            response = connection.getresponse()
            headers = {
                name: value
                for name, value in response.getheaders()
                if name.lower() not in _HOP_BY_HOP
            }
            return Answer(response.status, response.read(), headers)
        finally:
            connection.close()


class _HTTPServer(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Log nothing: a client that went away is what tests are about."""


def _handler_for(proxy: Proxy) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = 'HTTP/1.1'
        # Head and body in one packet: else a delayed acknowledgement costs 40 ms.
        wbufsize = -1
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            length = int(self.headers.get('Content-Length', 0))
            try:
                answer = proxy.exchange(
                    self.command, self.path, dict(self.headers.items()), self.rfile.read(length)
                )
            except HangUp as wish:
                self._hang_up(reset=wish.reset)
                return
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            if answer.status != http.HTTPStatus.NO_CONTENT:
                self.send_header('Content-Length', str(len(answer.body) + answer.missing))
            self.end_headers()
            self.wfile.write(answer.body)
            if answer.missing:
                self.wfile.flush()
                self._hang_up(reset=False)

        do_PUT = do_POST = do_DELETE = do_PATCH = do_HEAD = do_GET  # noqa: N815 - http.server's

        def _hang_up(self, *, reset: bool) -> None:
            self.close_connection = True
            if reset:
                linger = struct.pack('ii', 1, 0)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                # Closed for good only when both files on it are.
                self.rfile.close()
                self.wfile.close()
                self.connection.close()
            else:
                self.connection.shutdown(socket.SHUT_RDWR)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            """Log nothing."""

    return Handler
