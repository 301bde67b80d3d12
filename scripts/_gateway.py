"""The web gateway of a tour: a page of live workers, on a free port of this machine."""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from typing import Any

from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.interfaces import IReadDescriptor
from twisted.web.client import Agent, readBody
from zope.interface import implementer

from crew_tx.amqp.uri import parse_all
from crew_tx.web.access import Exposed
from crew_tx.web.service import Gateway

LOOPBACK = "127.0.0.1"


class TourGateway:
    """
    Serves the status page, and nothing else: no task is exposed.

    :ivar overview: what the page shows now; empty until the first look.
    """

    def __init__(self, reactor: Any, url: str) -> None:
        self._reactor = reactor
        self._gateway = Gateway(reactor, parse_all(url), Exposed(), drain=0.0)
        self.overview: dict[str, Any] = {}

    async def start(self) -> str:
        """
        Serve it, and look as a page in a browser would.

        :returns: where it is.
        """
        self._gateway.startService()
        port: Any = await self._gateway.listen(TCP4ServerEndpoint(self._reactor, 0, interface=LOOPBACK))
        address = f"http://{LOOPBACK}:{port.getHost().port}/status"
        response = await Agent(self._reactor).request(b"GET", address.encode())
        assert response.code == 200, response.code
        await readBody(response)
        self._gateway.overview.listen(self)
        return address

    def told(self, encoded: bytes) -> None:
        """There was a look."""
        self.overview = json.loads(encoded)

    def ended(self) -> None:
        """There are no more looks."""

    async def until_enter(self, seconds: float) -> None:
        """Wait for the key, but not for ever."""
        keyboard = _Keyboard()
        self._reactor.addReader(keyboard)
        try:
            with suppress(defer.TimeoutError):
                await keyboard.pressed.addTimeout(seconds, self._reactor)
        finally:
            self._reactor.removeReader(keyboard)

    async def stop(self) -> None:
        """Serve no more."""
        if self._gateway.running:
            self._gateway.overview.leave(self)
            await self._gateway.stopService()


@implementer(IReadDescriptor)
class _Keyboard:
    """
    The terminal's input, which comes by whole lines.

    :ivar pressed: fires when one came, or there will be none.
    """

    def __init__(self) -> None:
        self.pressed: Deferred[None] = Deferred()

    def fileno(self) -> int:
        return sys.stdin.fileno()

    def logPrefix(self) -> str:
        return "keyboard"

    def doRead(self) -> None:
        os.read(self.fileno(), 1024)
        if not self.pressed.called:
            self.pressed.callback(None)

    def connectionLost(self, reason: object) -> None:
        """The reactor has ended."""
