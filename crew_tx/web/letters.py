"""Dead letters, for those who look after them over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import asdict
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from crew_tx.amqp.inspection import Inspector
from crew_tx.amqp.protocol import AMQClient
from crew_tx.amqp.service import BrokerConnection
from crew_tx.rpc.dead_letters import Letter, Requeuer, Wanted, look_through
from crew_tx.signing import SigningKeys
from crew_tx.web.problems import ProblemError
from crew_tx.web.worker_facts import text

MOST_SHOWN = 100
MOST_REQUEUED = 1000


class DeadLetters:
    """
    Shows them, and sends them again; one of these at a time.

    A client that goes away ends neither half-way: else a letter could be sent and stay as well.

    :param connection: to the broker.
    :param keys: what letters have to be signed by, where calls are signed.
    """

    def __init__(
        self, clock: IReactorTime, connection: BrokerConnection, keys: SigningKeys | None = None
    ) -> None:
        self._clock = clock
        self._connection = connection
        self._keys = keys
        self._is_busy = False

    async def show(self) -> dict[str, Any]:
        """
        The first of them, which stay where they are.

        :returns: ``letters``, and how many more there are as ``left``.
        :raises ProblemError: 409, while they are looked at already; 503, if there is no broker.
        """
        return await self._alone(self._show)

    async def requeue(self, call_id: str | None) -> dict[str, Any]:
        """
        Send dead calls again, each of them one way.

        :param call_id: the only one; None for all.
        :returns: how many were ``requeued``, how many ``failed`` to be, and how
            many are ``left`` that were not looked at.
        :raises ProblemError: as :meth:`show`.
        """
        wanted: Wanted = lambda letter: call_id in (None, letter.id)  # noqa: E731
        return await self._alone(lambda client: self._requeue(client, wanted))

    def _alone(
        self, work: Callable[[AMQClient], Coroutine[Any, Any, dict[str, Any]]]
    ) -> Deferred[dict[str, Any]]:
        if self._is_busy:
            raise ProblemError(409, "dead letters are looked at already; try again in a moment")
        if self._connection.client is None or not self._connection.is_ready:
            raise ProblemError(503, "there is no connection to the broker", retry_after=1)
        self._is_busy = True
        waiting: Deferred[dict[str, Any]] = Deferred()
        working: Deferred[dict[str, Any]] = Deferred.fromCoroutine(work(self._connection.client))
        working.addBoth(self._done, waiting)
        return waiting

    def _done(self, result: dict[str, Any] | Failure, waiting: Deferred[dict[str, Any]]) -> None:
        self._is_busy = False
        # One that nobody waits for any more takes it in silence.
        waiting.callback(result)

    async def _show(self, client: AMQClient) -> dict[str, Any]:
        inspector = Inspector(client)
        try:
            letters, left = await look_through(inspector, MOST_SHOWN, self._clock.seconds())
        finally:
            await inspector.close()
        return {"letters": [_told(letter) for letter in letters], "left": left}

    async def _requeue(self, client: AMQClient, wanted: Wanted) -> dict[str, Any]:
        requeuer = await Requeuer.on(self._clock, client, keys=self._keys)
        left = await requeuer.run(wanted, MOST_REQUEUED)
        return {"requeued": requeuer.requeued, "failed": requeuer.failed, "left": left}


def _told(letter: Letter) -> dict[str, Any]:
    return {name: text(value) if isinstance(value, str) else value for name, value in asdict(letter).items()}
