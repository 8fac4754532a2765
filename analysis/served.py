"""A page served to this machine alone, at an address that holds a token nobody else knows."""

import secrets
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from analysis.record.store import AnalysisError

Answer = Callable[[str, dict[str, str]], tuple[str, bytes] | None]
HTML, JSON, PNG = "text/html; charset=utf-8", "application/json", "image/png"


class PageServer(ThreadingHTTPServer):
    """Answers who knows the token; 404 for anybody else.

    answer: takes what follows the token in the path, and the query; it returns the kind and the content, None
    for what there is not, and raises ValueError for what cannot be asked. port: 0 is any that is free.

    Raises AnalysisError where the port can't be used.
    """

    def __init__(self, answer: Answer, port: int = 0):
        self.answer, self.token = answer, secrets.token_urlsafe(16)
        try:
            super().__init__(("127.0.0.1", port), Handler)
        except (OSError, OverflowError) as error:  # the latter: no number of a port
            reason = getattr(error, "strerror", error)
            raise AnalysisError(f"--port {port} can't be used: {reason}") from error

    @property
    def address(self) -> str:
        """Of the page, for a browser of this machine."""
        return f"http://127.0.0.1:{self.server_port}/{self.token}/"


class Handler(BaseHTTPRequestHandler):
    """One request of a `PageServer`."""

    server: PageServer

    def do_GET(self) -> None:
        """Send what was asked for."""
        address = urlsplit(self.path)
        _, token, *rest = [*address.path.split("/"), ""]
        if not secrets.compare_digest(token.encode(), self.server.token.encode()):
            return self.send_error(404)
        query = {name: values[0] for name, values in parse_qs(address.query).items()}
        try:
            found = self.server.answer("/".join(rest[:-1]), query)
        except ValueError:
            return self.send_error(400)
        return self.send_error(404) if found is None else self._send(*found)

    def _send(self, kind: str, content: bytes) -> None:
        self.send_response(200)
        headers = {"Content-Type": kind, "Content-Length": str(len(content)), "Cache-Control": "no-store"}
        headers |= {"Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff"}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing: the terminal is a driver's table, or a person's."""
