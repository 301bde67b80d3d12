"""A connection without a client: for handshakes and frames that no client would send."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet import task
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure

from crew_tx.amqp import frames, methods
from crew_tx.amqp.spec import method_names

_PATIENCE = 15.0
_LOOK_AGAIN = 0.02

CLIENT_PROPERTIES = {"capabilities": {"authentication_failure_close": True, "connection.blocked": True}}


class RawClient(Protocol):
    """
    :ivar received: the bytes that came.
    :ivar heard: the methods among them, by name and with their arguments.
    :ivar ended: whether the broker has ended the connection.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self.received = b""
        self.heard: list[tuple[str, tuple[Any, ...]]] = []
        self.ended = False
        self._clock = clock
        self._parser = frames.FrameParser()

    def write(self, data: bytes) -> None:
        """Bytes as they are."""
        assert self.transport is not None
        self.transport.write(data)

    def method(self, channel: int, method_id: int, *arguments: Any) -> None:
        """A method's frame."""
        self.write(frames.pack_method(channel, method_id, arguments))

    async def log_in(
        self,
        *,
        user: str = "guest",
        password: str = "guest",
        mechanism: str = "PLAIN",
        properties: dict[str, Any] = CLIENT_PROPERTIES,
    ) -> None:
        """Up to connection.start-ok."""
        self.write(frames.PROTOCOL_HEADER)
        await self.hears("connection.start")
        response = f"\0{user}\0{password}"
        self.method(0, methods.CONNECTION_START_OK, properties, mechanism, response, "en_US")

    async def open(self, vhost: str = "/", channels: int = 1) -> None:
        """The whole handshake, and channels from 1 on."""
        await self.log_in()
        await self.hears("connection.tune")
        self.method(0, methods.CONNECTION_TUNE_OK, 2047, 131072, 0)
        self.method(0, methods.CONNECTION_OPEN, vhost, "", False)
        await self.hears("connection.open-ok")
        for number in range(1, channels + 1):
            self.method(number, methods.CHANNEL_OPEN, "")
            await self.hears("channel.open-ok")

    async def hears(self, name: str) -> tuple[Any, ...]:
        """
        The arguments of the next method of that name; what came before it is forgotten.

        :raises AssertionError: if it doesn't come.
        """
        await self._until(lambda: any(heard == name for heard, _ in self.heard), name)
        place = next(place for place, (heard, _) in enumerate(self.heard) if heard == name)
        arguments = self.heard[place][1]
        del self.heard[: place + 1]
        return arguments

    async def is_refused(self) -> tuple[int, str]:
        """The code and the text of the connection.close that comes."""
        code, text, _, _ = await self.hears("connection.close")
        return code, text

    async def until_ended(self) -> None:
        """Wait until the broker has ended the connection."""
        await self._until(lambda: self.ended, "the end")

    async def _until(self, is_so: Callable[[], bool], what: str) -> None:
        limit = self._clock.seconds() + _PATIENCE
        while not is_so():
            if self._clock.seconds() > limit:
                raise AssertionError(f"no {what} came, but {self.heard} and {self.received[-200:]!r}")
            await self.passes(_LOOK_AGAIN)

    def passes(self, seconds: float) -> Deferred[Any]:
        """A Deferred that fires when so much time has gone by."""
        return task.deferLater(self._clock, seconds)

    def drop(self) -> None:
        """End it, without a word."""
        if not self.ended:
            assert self.transport is not None
            self.transport.abortConnection()

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        if self.received.startswith(b"AMQP"):
            return
        for kind, _, payload in self._parser.feed(data):
            if kind == frames.METHOD:
                method_id, arguments = payload
                self.heard.append((method_names()[method_id], arguments))

    def connectionLost(self, reason: Failure | None = None) -> None:
        self.ended = True
