"""What one program has of a reactor, so that it can be killed and the others go on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import (
    IDelayedCall,
    IHostnameResolver,
    IReactorFromThreads,
    IReactorPluggableNameResolver,
    IReactorTCP,
    IReactorTime,
)
from zope.interface import implementer

from crew_tx.testing._wire import Wire
from crew_tx.testing.memory import InlineThreads, MemoryConnector, MemoryPort, MemoryReactor


@implementer(IReactorTCP, IReactorTime, IReactorFromThreads, IReactorPluggableNameResolver)
class Process:
    """
    A reactor for one program.

    :param reactor: the one that all programs share.
    :ivar alive: whether it was not killed.
    """

    def __init__(self, reactor: MemoryReactor) -> None:
        self.alive = True
        self._reactor = reactor
        self._threads = InlineThreads(self)
        self._connectors: list[MemoryConnector] = []

    # -- what the program uses -----------------------------------------------------------------

    def seconds(self) -> float:
        """What time it is."""
        return self._reactor.seconds()

    def callLater(
        self, delay: float, callable: Callable[..., object], *args: object, **kwargs: object
    ) -> IDelayedCall:
        """Call a function so many seconds from now, unless the program is killed before."""
        return self._reactor.callLater(delay, self._call, callable, *args, **kwargs)

    def getDelayedCalls(self) -> list[IDelayedCall]:
        """Those of this program."""
        return [call for call in self._reactor.getDelayedCalls() if self._is_own(call)]

    def connectTCP(
        self, host: str, port: int, factory: Any, timeout: float = 30, bindAddress: Any = None
    ) -> MemoryConnector:
        """Connect."""
        connector = self._reactor.connectTCP(host, port, factory, timeout, bindAddress)
        self._connectors = [each for each in self._connectors if not _is_over(each)] + [connector]
        return connector

    def listenTCP(self, port: int, factory: Any, backlog: int = 50, interface: str = "") -> MemoryPort:
        """Listen."""
        return self._reactor.listenTCP(port, factory, backlog, interface)

    def callFromThread(self, callable: Callable[..., object], *args: Any, **kwargs: Any) -> None:
        """Call a function soon."""
        self._reactor.callFromThread(self._call, callable, *args, **kwargs)

    def getThreadPool(self) -> InlineThreads:
        """What runs blocking functions."""
        return self._threads

    @property
    def nameResolver(self) -> IHostnameResolver:
        """What finds the addresses of hosts."""
        return self._reactor.nameResolver

    def installNameResolver(self, resolver: IHostnameResolver) -> IHostnameResolver:
        """Use another. :returns: the one before."""
        return self._reactor.installNameResolver(resolver)

    # -- for the harness -------------------------------------------------------------------------

    @property
    def wires(self) -> list[Wire]:
        """The connections that it has made and that are there, the oldest first."""
        return [each.wire for each in self._connectors if each.wire is not None and each.wire.connected]

    def kill(self) -> None:
        """
        End the program as SIGKILL does: nothing of it runs any more.

        Its connections end; it has a reactor of its own from now on, which nobody moves.
        """
        self.alive = False
        for call in self.getDelayedCalls():
            call.cancel()
        # Also where the other end knows of its end already, and this one was never told.
        for connector in self._connectors:
            if connector.wire is not None:
                connector.wire.client.vanish()
        self._reactor = MemoryReactor()

    def _call(self, function: Callable[..., object], *args: object, **kwargs: object) -> None:
        if self.alive:
            function(*args, **kwargs)

    def _is_own(self, call: Any) -> bool:
        return bool(call.func == self._call)


def _is_over(connector: MemoryConnector) -> bool:
    return connector.wire is not None and not connector.wire.client.connected
