"""
Snapshots as server-sent events.

Each of them says everything, so a client that reads slowly is sent the latest
when it has read the one before, and misses only what is over.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from zope.interface import implementer

from crew_tx.web.overview import Overview

CONTENT_TYPE = b"text/event-stream"


@implementer(IPushProducer)
class SnapshotStream:
    """
    One client that looks at an overview; a listener of that.

    :param slow: seconds for which it may read nothing; then it is let go.
    """

    def __init__(self, clock: IReactorTime, request: Any, overview: Overview, slow: float) -> None:
        self._clock = clock
        self._request = request
        self._overview = overview
        self._slow = slow
        self._is_over = False
        self._is_paused = False
        self._latest: bytes | None = None
        self._timer: IDelayedCall | None = None

    def begin(self) -> None:
        """
        Write the head, and the snapshot that there is.

        :raises ProblemError: 503, if too many look already; nothing is written then.
        """
        self._request.setResponseCode(200)
        self._request.setHeader(b"Content-Type", CONTENT_TYPE)
        self._overview.listen(self)
        self._request.registerProducer(self, True)

    def gone(self) -> None:
        """The client is not there any more."""
        self._is_over = True
        self._stop_waiting()
        self._overview.leave(self)

    def told(self, encoded: bytes) -> None:
        """As :class:`~crew_tx.web.overview.Listener`."""
        if self._is_paused:
            self._latest = encoded
        else:
            self._write(encoded)

    def ended(self) -> None:
        """As :class:`~crew_tx.web.overview.Listener`: the response is over."""
        if not self._is_over:
            self._is_over = True
            self._stop_waiting()
            self._request.unregisterProducer()
            self._request.finish()

    def pauseProducing(self) -> None:
        """The client reads more slowly than snapshots come."""
        if not self._is_over:
            self._is_paused = True
            self._stop_waiting()
            self._timer = self._clock.callLater(self._slow, self._too_slow)

    def resumeProducing(self) -> None:
        """It has read."""
        self._is_paused = False
        self._stop_waiting()
        latest, self._latest = self._latest, None
        if latest is not None and not self._is_over:
            self._write(latest)

    def stopProducing(self) -> None:
        """The connection has ended; the request tells so by itself."""

    def _write(self, encoded: bytes) -> None:
        self._request.write(b"data: " + encoded + b"\n\n")

    def _too_slow(self) -> None:
        self._timer = None
        self._request.channel.drop()

    def _stop_waiting(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
