"""
Server-sent events: one client's stream.

The client's transport says when it has enough to send, and then nothing more
is written: what comes meanwhile stays in the channel's buffer, and what falls
out of that is told as a gap.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.logger import Logger
from zope.interface import implementer

from crew_tx.web.channels import Channel
from crew_tx.web.event_buffer import Item

CONTENT_TYPE = "text/event-stream"
#: Seconds between signs of life, so that nothing between here and there thinks it is over.
HEARTBEAT = 15.0
_RETRY = b"retry: 2000\n\n"


@implementer(IPushProducer)
class EventStream:
    """
    Writes a channel's events to one client.

    :param cursor: the number behind which it begins.
    :param slow: seconds for which the client may read nothing.
    """

    log = Logger()

    def __init__(self, clock: IReactorTime, request: Any, channel: Channel, cursor: int, slow: float) -> None:
        self._clock = clock
        self._request = request
        self._channel = channel
        self._cursor = cursor
        self._slow = slow
        self._paused = False
        self._timer: IDelayedCall | None = None
        self._is_over = False

    def begin(self, *, gap: bool) -> None:
        """
        Write the head, and what there is.

        :param gap: whether the client may have missed events before.
        """
        request = self._request
        request.setResponseCode(200)
        request.setHeader(b"Content-Type", CONTENT_TYPE.encode())
        # First: what is written may be enough already, and then the time is that of a slow reader.
        self._wait(HEARTBEAT, self._sign_of_life)
        request.registerProducer(self, True)
        request.write(_RETRY)
        if gap:
            self._write_gap(None, self._cursor)
        self.more()

    def more(self) -> None:
        """There is more in the buffer, or it is over."""
        while not self._paused and not self._is_over and self._write_some():
            pass
        if self._channel.is_over and not self._is_over:
            self.end()

    def end(self) -> None:
        """Write no more."""
        if self._is_over:
            return
        self.gone()
        self._request.unregisterProducer()
        self._request.finish()

    def gone(self) -> None:
        """The client is not there any more."""
        self._is_over = True
        self._wait(None)

    def pauseProducing(self) -> None:
        """The client reads more slowly than events come."""
        self._paused = True
        self._wait(self._slow, self._too_slow)

    def resumeProducing(self) -> None:
        """It has read."""
        if self._is_over:
            return
        self._paused = False
        self._wait(HEARTBEAT, self._sign_of_life)
        self.more()

    def stopProducing(self) -> None:
        """The connection has ended."""
        self.gone()

    def _write_some(self) -> bool:
        """Write the next item. :returns: whether there was one."""
        buffer = self._channel.buffer
        missed = buffer.missed(self._cursor)
        if missed:
            self._cursor += missed
            self._write_gap(missed, self._cursor)
            return True
        item = next(buffer.behind(self._cursor), None)
        if item is None:
            return False
        self._cursor = item.number
        self._write_item(item)
        return True

    def _write_item(self, item: Item) -> None:
        number = item.value["id"].encode()
        if item.is_gap:
            self._write_gap(item.value["missed"], item.number)
        elif item.text is None:
            self._request.write(b"id: %s\nevent: unreadable\ndata: {}\n\n" % number)
        else:
            # JSON without spaces has no line break in it.
            self._request.write(b"id: %s\ndata: %s\n\n" % (number, item.text))

    def _write_gap(self, count: int | None, number: int) -> None:
        missed = b"null" if count is None else b"%d" % count
        number_id = self._channel.buffer.id_of(number).encode()
        self._request.write(b'id: %s\nevent: gap\ndata: {"missed":%s}\n\n' % (number_id, missed))

    def _sign_of_life(self) -> None:
        self._timer = None
        self._request.write(b":\n\n")
        # What that was written to may just have said that it is enough.
        if not self._paused:
            self._wait(HEARTBEAT, self._sign_of_life)

    def _too_slow(self) -> None:
        self._timer = None
        self.log.info("a reader of {channel} read nothing for too long: dropped", channel=self._channel.name)
        self._is_over = True
        self._request.write(b'event: dropped\ndata: {"reason":"read nothing for %d s"}\n\n' % self._slow)
        self._request.channel.give_up()

    def _wait(self, seconds: float | None, then: Any = None) -> None:
        timer, self._timer = self._timer, None
        if timer is not None and timer.active():
            timer.cancel()
        if seconds is not None:
            self._timer = self._clock.callLater(seconds, then)
