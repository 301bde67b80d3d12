"""
Heartbeats of one connection: one timer for sending and for listening.

RabbitMQ's rule: a peer is dead after two intervals of silence, and a side that
has written nothing for half an interval sends a heartbeat frame. Any traffic
counts as life in its direction.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime


def negotiated(ours: int, theirs: int) -> int:
    """The interval in seconds: the greater if one side says 0, else the smaller."""
    if not ours or not theirs:
        return max(ours, theirs)
    return min(ours, theirs)


class Heartbeats:
    """
    :param clock: an ``IReactorTime``.
    :param interval: seconds; 0 for none.
    :param misses: silent intervals after which the peer is dead.
    :param send: called when a heartbeat is due.
    :param dead: called once, when the peer is dead.
    """

    def __init__(
        self,
        clock: IReactorTime,
        interval: int,
        misses: int,
        send: Callable[[], object],
        dead: Callable[[], object],
    ) -> None:
        self._clock = clock
        self._misses = misses
        self._send = send
        self._dead = dead
        self._call: IDelayedCall | None = None
        self._sending = False
        self._written = False
        self.set_interval(interval)

    def set_interval(self, interval: int) -> None:
        """Start anew with another interval."""
        self.stop()
        self.interval = interval
        self.heard()
        if interval:
            self._schedule()

    def start_sending(self) -> None:
        """The handshake is over: from now on silence on our side is filled."""
        self._sending = True

    def heard(self) -> None:
        """Something was read."""
        self._last_heard: float = self._clock.seconds()

    def wrote(self) -> None:
        """Something was written."""
        self._written = True

    def stop(self) -> None:
        """Leave no delayed call."""
        if self._call is not None:
            self._call.cancel()
            self._call = None

    @property
    def _dead_at(self) -> float:
        """In one place: a sum that is rounded in two ways never came due."""
        return self._last_heard + self.interval * self._misses

    def _schedule(self) -> None:
        until_dead = self._dead_at - self._clock.seconds()
        self._call = self._clock.callLater(max(0.0, min(self.interval / 2, until_dead)), self._tick)

    def _tick(self) -> None:
        self._call = None
        if self._clock.seconds() >= self._dead_at:
            self._dead()
            return
        if self._sending and not self._written:
            self._send()
        self._written = False
        self._schedule()
