"""Flask's and Django's applications answer through the queue as they do when they are served directly."""

from __future__ import annotations

import http.client
import re
import socket
import sys
import time
from dataclasses import dataclass
from http.cookies import SimpleCookie
from urllib.parse import quote

from twisted.internet.threads import deferToThread

from tests.integration.support import BrokerTestCase
from tests.web.recorded import DJANGO, FLASK, Recorded

#: The standard library's own server, which knows nothing of us.
DIRECT = """
import importlib, sys
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

app = importlib.import_module(sys.argv[1]).app
server = make_server("127.0.0.1", 0, app, Server, WSGIRequestHandler)
print("listens on", server.server_port, flush=True)
server.serve_forever()
"""
#: What is a matter of the connection, or of the server. A length is told by a header, or by the body's end.
_OTHERS = {"connection", "content-length", "date", "server", "transfer-encoding"}
_IDS = re.compile(rb"[A-Za-z0-9]{64}")


@dataclass
class Side:
    """
    A client of one of the two.

    :ivar cookies: what it was given.
    """

    port: int
    cookies: SimpleCookie

    def ask(self, recorded: Recorded) -> tuple[int, str, list[tuple[str, str]], bytes]:
        """Status, reason, headers and body; with what differs from time to time made equal."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        headers = {"Host": "site.example", **recorded.headers}
        if self.cookies:
            headers["Cookie"] = "; ".join(f"{name}={each.coded_value}" for name, each in self.cookies.items())
        body = recorded.body
        if body is not None and "csrftoken" in self.cookies:
            body = body.replace(quote("{csrftoken}").encode(), self.cookies["csrftoken"].value.encode())
        connection.request(recorded.method, recorded.target, body, headers)
        response = connection.getresponse()
        found = response.read()
        for name, value in response.getheaders():
            if name.lower() == "set-cookie":
                self.cookies.load(value)
        connection.close()
        return response.status, response.reason, _comparable(response.getheaders()), _IDS.sub(b"ID", found)


def _comparable(headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    kept = [(name.lower(), value) for name, value in headers if name.lower() not in _OTHERS]
    return sorted((name, _cookie(value) if name == "set-cookie" else value) for name, value in kept)


def _cookie(value: str) -> str:
    """Without its value and its date, which differ from one time to the next."""
    return re.sub(r"(?i)expires=[^;]*", "expires=", re.sub(r"^([^=]*)=[^;]*", r"\1=", value))


class ApplicationTests(BrokerTestCase):
    """Two clients do the same, one directly, one through the queue."""

    timeout = 180

    async def sides(self, module: str) -> tuple[Side, Side]:
        """A client of the application itself, and one of the gateway."""
        site = self.name("site").replace(".", "-")
        self.delete_later(f"crew.tasks.wsgi.{site}")
        port = _free_port()
        # Flask gives sets in their order, which is another in each process.
        environment = {"CREW_BROKER": self.url, "PYTHONHASHSEED": "0"}
        twistd = ("-c", "from twisted.scripts.twistd import run; run()", "-n", "--pidfile=")
        worker = self.process(
            *twistd, "crew-worker", f"--wsgi={module}:app", f"--as={site}", environment=environment
        )
        listen = f"--listen=tcp:{port}:interface=127.0.0.1"
        gateway = self.process(*twistd, "crew-gateway", f"--wsgi={site}", listen, environment=environment)
        direct = self.process("-c", DIRECT, module, environment=environment)
        await worker.says("answers")
        await gateway.says("listens")
        await direct.says("listens on")
        found = re.search(r"listens on (\d+)", direct.output)
        assert found is not None
        return Side(int(found[1]), SimpleCookie()), Side(port, SimpleCookie())

    async def compare(self, module: str, requests: list[Recorded]) -> None:
        direct, queued = await self.sides(module)
        begun = time.monotonic()
        for number, recorded in enumerate(requests):
            expected = await deferToThread(direct.ask, recorded)
            found = await deferToThread(queued.ask, recorded)
            where = f"{number}: {recorded.method} {recorded.target[:80]}"
            self.assertEqual(expected[:3], found[:3], where)
            self.assertTrue(expected[3] == found[3], f"{where}: {expected[3][:200]!r}, {found[3][:200]!r}")
        sys.stdout.write(f"{len(requests)} requests in {time.monotonic() - begun:.1f} s ")

    async def test_flask(self) -> None:
        """Forms, uploads of 10 MiB, sessions, errors, streams."""
        await self.compare("tests.web.apps.flask_site", FLASK)

    async def test_django(self) -> None:
        """The same, and its own tokens against forgery."""
        await self.compare("tests.web.apps.django_site", DJANGO)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port
