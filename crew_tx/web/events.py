"""
``POST /publish/CHANNEL``, and ``GET /subscribe/CHANNEL`` as long poll and as server-sent events.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from crew_tx.client import Client
from crew_tx.web.access import Exposed
from crew_tx.web.answers import NUMBER
from crew_tx.web.bodies import CBOR, JSON, Bodies, choose
from crew_tx.web.calls import body_type, read_body
from crew_tx.web.channels import Channel, Channels
from crew_tx.web.event_buffer import Item
from crew_tx.web.event_stream import CONTENT_TYPE, EventStream
from crew_tx.web.limits import Limits
from crew_tx.web.problems import ProblemError, no_such
from crew_tx.web.responses import Endpoint, Response, header, name_in, query

#: Seconds that a long poll waits, where it doesn't say.
WAIT = 30.0
_MOST_EVENTS = 100
_MOST_BYTES = 1024 * 1024
_LONGEST_ID = 100


class PublishEndpoint(Endpoint):
    """Serves ``/publish/CHANNEL``."""

    def __init__(self, client: Client, exposed: Exposed, bodies: Bodies) -> None:
        super().__init__({b"POST": self._post})
        self._client = client
        self._exposed = exposed
        self._bodies = bodies

    async def _post(self, request: Any) -> Response:
        channel = exposed_channel(request, self._exposed)
        query(request)
        kind = body_type(request)
        await self._client.publish(channel, await read_body(request, self._bodies, kind))
        return Response(204)


class SubscribeEndpoint(Endpoint):
    """Serves ``/subscribe/CHANNEL``."""

    def __init__(self, channels: Channels, exposed: Exposed, bodies: Bodies, limits: Limits) -> None:
        super().__init__({b"GET": self._get})
        self._channels = channels
        self._exposed = exposed
        self._bodies = bodies
        self._limits = limits

    async def _get(self, request: Any) -> Response | None:
        name = exposed_channel(request, self._exposed)
        given = query(request, "timeout", "after")
        content_types = choose(header(request, "Accept"), JSON, (JSON, CBOR, CONTENT_TYPE))
        last_id = given.get("after") or header(request, "Last-Event-ID")
        if last_id is not None and len(last_id) > _LONGEST_ID:
            raise ProblemError(400, "that is no id of an event")
        if content_types[0] == CONTENT_TYPE:
            await self._stream(request, name, last_id)
            return None
        wanted = tuple(each for each in content_types if each != CONTENT_TYPE)
        return await self._poll(name, last_id, self._timeout(given), wanted)

    async def _poll(
        self, name: str, last_id: str | None, timeout: float, content_types: tuple[str, ...]
    ) -> Response:
        waiting: list[Deferred[None]] = []

        def more() -> None:
            if waiting:
                waiting.pop().callback(None)

        channel = self._channels.listen(name, more)
        try:
            await channel.ready(self._channels.clock)
            cursor, gap = channel.buffer.cursor(last_id)
            if cursor == channel.buffer.last and not gap:
                waiting.append(Deferred(lambda _: waiting.clear()))
                await waiting[0].addTimeout(timeout, self._channels.clock, lambda result, _: None)
            return await self._events(channel, cursor, gap, content_types)
        finally:
            self._channels.leave(channel, more)

    async def _events(
        self, channel: Channel, cursor: int, gap: bool, content_types: tuple[str, ...]
    ) -> Response:
        missed: int | None = None if gap else channel.buffer.missed(cursor)
        cursor += channel.buffer.missed(cursor)
        events: list[dict[str, Any]] = []
        size = 0
        for item in channel.buffer.behind(cursor):
            if len(events) >= _MOST_EVENTS or size > _MOST_BYTES:
                break
            cursor = item.number
            size += len(item.text or b"")
            if item.is_gap:
                count = item.value["missed"]
                missed = None if missed is None or count is None else missed + count
            else:
                events.append(item.value if item.text or CBOR in content_types else _unreadable(item))
        if not events and missed == 0:
            return Response(204)
        body = {"events": events, "last": channel.buffer.id_of(cursor), "missed": missed}
        encoded = await self._bodies.encode(body, content_types)
        return Response(200, encoded.body, (("Content-Type", encoded.content_type),))

    async def _stream(self, request: Any, name: str, last_id: str | None) -> None:
        streams: list[EventStream] = []

        def more() -> None:
            for stream in streams:
                stream.more()

        channel = self._channels.listen(name, more)
        try:
            await channel.ready(self._channels.clock)
            cursor, gap = channel.buffer.cursor(last_id)
            stream = EventStream(self._channels.clock, request, channel, cursor, self._limits.slow_reader)
            streams.append(stream)
            ended: Deferred[Any] = request.notifyFinish()
            stream.begin(gap=gap)
            await ended
        finally:
            for stream in streams:
                stream.gone()
            self._channels.leave(channel, more)

    def _timeout(self, given: dict[str, str]) -> float:
        text = given.get("timeout")
        if text is None:
            return min(WAIT, self._limits.max_wait)
        if not NUMBER.fullmatch(text):
            raise ProblemError(400, "timeout is a number of seconds")
        return min(float(text), self._limits.max_wait)


def _unreadable(item: Item) -> dict[str, Any]:
    """For a client that takes JSON alone, which has no form for it: else the client would not get past it."""
    return {**{name: value for name, value in item.value.items() if name != "data"}, "unreadable": True}


def exposed_channel(request: Any, exposed: Exposed) -> str:
    """
    The channel that a request names.

    :raises ProblemError: 404, if it is not there for clients.
    """
    channel = name_in(request, "channel")
    if not exposed.has_channel(channel):
        raise no_such("channel")
    return channel
