"""TLS on a real RabbitMQ that knows its users by their certificates, and takes nobody without one."""

from __future__ import annotations

import json
import socket
from datetime import datetime
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import trustme
from twisted.internet import reactor
from twisted.trial.unittest import SkipTest

from crew_tx import Client
from crew_tx.errors import AuthenticationError, ConfigurationError, ConnectionLostError
from crew_tx.testing.rabbitmq import RabbitMQError, RabbitMQNode
from tests.cli.programs import TWISTD
from tests.integration.support import BrokerTestCase, Program, errored
from tests.warned import pass_over

CONFIG = """
listeners.ssl.default = 127.0.0.1:{port}
ssl_options.cacertfile = {ca}
ssl_options.certfile = {certificate}
ssl_options.keyfile = {key}
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = true
auth_mechanisms.1 = EXTERNAL
ssl_cert_login_from = common_name
"""

SERVICE = """
from crew_tx.worker import Task, run

@Task({task!r})
def add(req):
    return req["x"] + req["y"]

if __name__ == "__main__":
    run()
"""


class Place(NamedTuple):
    """
    A node with TLS, and files of certificates for it.

    :ivar clear_port: where it does not speak TLS.
    :ivar files: by their names, with their keys in them where they are clients'.
    :ivar folder: where they are, until the process ends.
    """

    node: RabbitMQNode
    port: int
    clear_port: int
    files: dict[str, str]
    folder: TemporaryDirectory[str]


@cache
def place() -> Place:
    """Made once for all tests here; it ends with the process."""
    temporary = TemporaryDirectory(prefix="crew-tls-")
    folder = Path(temporary.name)
    authority, stranger = trustme.CA(), trustme.CA()
    past = {"not_before": datetime(2020, 1, 1), "not_after": datetime(2021, 1, 1)}
    broker = authority.issue_cert("localhost", "127.0.0.1")
    contents = {
        "ca": authority.cert_pem.bytes(),
        "other-ca": stranger.cert_pem.bytes(),
        "broker": broker.cert_chain_pems[0].bytes(),
        "broker-key": broker.private_key_pem.bytes(),
    }
    for name, issuer, user, more in (
        ("shop", authority, "shop", {}),
        ("between", authority.create_child_ca(), "shop", {}),
        ("nobody", authority, "nobody", {}),
        ("stranger", stranger, "shop", {}),
        ("expired", authority, "shop", past),
    ):
        issued = issuer.issue_cert("client.example", common_name=user, **more)  # type: ignore[arg-type]
        contents[name] = issued.private_key_and_cert_chain_pem.bytes()
        contents[f"{name}-key"] = issued.private_key_pem.bytes()
    files = {name: str(folder / f"{name}.pem") for name in contents}
    for name, content in contents.items():
        Path(files[name]).write_bytes(content)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = CONFIG.format(port=port, ca=files["ca"], certificate=files["broker"], key=files["broker-key"])
    node = RabbitMQNode(config=config, plugins=("rabbitmq_auth_mechanism_ssl",))
    try:
        node.start()
    except RabbitMQError as error:
        raise SkipTest(str(error)) from None
    node.ctl("add_user", "shop", "not-for-use")
    node.ctl("set_permissions", "shop", ".*", ".*", ".*")
    return Place(node, port, node.port, files, temporary)


class TLSTestCase(BrokerTestCase):
    """Tests on that node; cleaning up is done by the user of a certificate, too."""

    def setUp(self) -> None:
        self.place = place()
        super().setUp()
        # What Twisted passes to pyOpenSSL, and asks of it.
        self.addCleanup(pass_over, self, "Passing pyOpenSSL", "X509.get_subject")
        self.node = self.place.node
        self.url = self.url_of("shop")

    def url_of(
        self,
        certificate: str | None,
        *,
        ca: str = "ca",
        host: str = "127.0.0.1",
        port: int = 0,
        more: str = "",
    ) -> str:
        """A URL that shows one of the certificates."""
        shown = f"&certfile={self.place.files[certificate]}" if certificate else ""
        address = f"{host}:{port or self.place.port}"
        return f"amqps://{address}/?auth_mechanism=external&cacertfile={self.place.files[ca]}{shown}{more}"

    def started(self, url: str) -> Client:
        client = Client(reactor, url)
        self.addCleanup(client.close)
        return client

    async def refused(self, url: str, kind: type[Exception], *words: str, timeout: float = 2.0) -> None:
        """It isn't connected; the error names the thing and the remedy."""
        error: Any = await errored(self.started(url).connect(timeout), kind)
        for word in words:
            self.assertIn(word, str(error))


class LoginTests(TLSTestCase):
    """Who is let in, by the library."""

    async def test_a_certificate_is_the_login(self) -> None:
        """By address and by name, without a user and a password."""
        for host in ("127.0.0.1", "localhost"):
            client = self.started(self.url_of("shop", host=host))
            await client.connect()
            users = self.node.ctl("list_connections", "user", "auth_mechanism", "ssl")
            self.assertIn("shop\tEXTERNAL\ttrue", users)
            self.assertEqual(client.status().broker, f"amqps://{host}:{self.place.port}/%2F")

    async def test_a_certificate_of_an_authority_between_is_taken(self) -> None:
        """The broker has the one at the top alone; the file has those below."""
        await self.started(self.url_of("between")).connect()

    async def test_one_that_names_no_user_is_refused_for_good(self) -> None:
        """It is valid, and nobody's."""
        words = (self.place.files["nobody"], "(EXTERNAL)", "make a user of that name (rabbitmqctl add_user)")
        await self.refused(self.url_of("nobody"), AuthenticationError, *words)

    async def test_one_of_another_authority_is_refused_for_good(self) -> None:
        """As the broker says."""
        words = (self.place.files["stranger"], "unknown ca", "an authority that the broker trusts")
        await self.refused(self.url_of("stranger"), AuthenticationError, *words)

    async def test_one_whose_time_is_over_is_refused_for_good(self) -> None:
        """As the broker says."""
        words = (self.place.files["expired"], "certificate expired", "renew it")
        await self.refused(self.url_of("expired"), AuthenticationError, *words)

    async def test_none_at_all_is_refused_for_good(self) -> None:
        """By us where it would be the login, else by the broker."""
        error = self.assertRaises(ConfigurationError, Client, reactor, self.url_of(None))
        self.assertIn("auth_mechanism=external of amqps://", str(error))
        self.assertIn("give it as certfile= in the URL, or as --tls-cert", str(error))
        url = self.url_of(None).replace("auth_mechanism=external&", "")
        await self.refused(url, AuthenticationError, "wants a client certificate", "certfile=", "--tls-cert")

    async def test_a_broker_of_another_authority_is_not_trusted(self) -> None:
        """It may come to its senses: that is no refusal."""
        words = ("is not to be trusted", self.place.files["other-ca"], "cacertfile= or --tls-ca")
        await self.refused(self.url_of("shop", ca="other-ca"), ConnectionLostError, *words)

    async def test_a_broker_of_another_name_is_not_trusted(self) -> None:
        """Likewise; the name that was looked for is told."""
        url = self.url_of("shop", more="&server_name_indication=rabbit.example")
        words = ("is not for rabbit.example", "server_name_indication=")
        await self.refused(url, ConnectionLostError, *words)

    async def test_a_port_without_tls_gets_nothing(self) -> None:
        """It is told what that port is not."""
        url = self.url_of("shop", port=self.place.clear_port)
        await self.refused(url, ConnectionLostError, "does not speak TLS at this port", "5671")


class ProgramTests(TLSTestCase):
    """The same for programs, by their options."""

    timeout = 120

    def options(self, name: str = "shop", ca: str = "ca") -> list[str]:
        files = self.place.files
        return [
            f"--broker=amqps://127.0.0.1:{self.place.port}/?auth_mechanism=external",
            f"--tls-ca={files[ca]}",
            f"--tls-cert={files[name]}",
            f"--tls-key={files[f'{name}-key']}",
        ]

    def twistd(self, *options: str, task: str = "") -> Program:
        file = self.script()
        file.write_text(SERVICE.format(task=task or self.name("add")))
        return self.process(*TWISTD, *options, file)

    def crew(self, *arguments: str) -> Program:
        return self.process("-m", "crew_tx.cli.crew", *arguments)

    async def test_a_worker_and_a_call(self) -> None:
        """Each with its certificate, that of the worker from an authority between."""
        task = self.name("add")
        worker = self.twistd(*self.options("between"), task=task)
        await worker.says("answers")
        call = self.crew(*self.options(), "--json", "call", task, '{"x": 2, "y": 3}')
        self.assertEqual((await call.ends(), json.loads(call.output)["value"]), (0, 5))
        worker.signal("TERM")
        self.assertEqual(await worker.ends(), 0)

    async def test_what_is_refused_for_good_ends_a_worker_with_78(self) -> None:
        """With one line, that is no traceback; so does it crew, with 3."""
        for name, words in (
            ("stranger", "unknown ca"),
            ("expired", "renew it"),
            ("nobody", "make a user of that name"),
        ):
            worker = self.twistd(*self.options(name))
            self.assertEqual(await worker.ends(), 78, worker.output)
            self.assertNotIn("Traceback", worker.output)
            [told] = [line for line in worker.output.splitlines() if line.startswith("twistd crew-worker: ")]
            self.assertIn(words, told)
            self.assertIn(self.place.files[name], told)
            call = self.crew(*self.options(name), "ping")
            self.assertEqual(await call.ends(), 3, call.output)
            self.assertIn(words, call.output)

    async def test_a_broker_that_is_not_trusted_is_told_once_and_waited_for(self) -> None:
        """However often it is tried."""
        worker = self.twistd(*self.options(ca="other-ca"))
        await worker.says("is not to be trusted")
        call = self.crew(*self.options(ca="other-ca"), "--connect-timeout=3", "ping")
        self.assertEqual(await call.ends(), 3, call.output)
        self.assertIn("is not to be trusted", call.output)
        self.assertEqual(worker.output.count("is not to be trusted"), 1, worker.output)
        self.assertIsNone(worker.code)
