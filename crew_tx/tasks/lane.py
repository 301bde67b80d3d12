"""Threads' calls and processes' calls keep apart: neither waits for room that only the other has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zope.interface import implementer

from crew_tx.interfaces import IHeldCalls
from crew_tx.tasks.attempt import Attempt
from crew_tx.tasks.backlog import Backlog
from crew_tx.tasks.suspects import Suspects

MayGo = Callable[[Attempt], bool]


@implementer(IHeldCalls)
class Lane:
    """
    The calls of one kind of task.

    :param pool: what runs them: a :class:`ThreadPool` or a :class:`ProcessPool`.
    :param suspects: those of all lanes: while there is one, nothing else begins.
    :param let_go: hands back what is not begun.
    :ivar backlog: the calls that wait for room in the pool.
    """

    def __init__(
        self,
        pool: Any,
        suspects: Suspects[Attempt],
        let_go: Callable[[list[Lane], MayGo], list[Attempt]],
    ) -> None:
        self.pool = pool
        self.backlog: Backlog[Attempt] = Backlog()
        self._suspects = suspects
        self._let_go = let_go

    @property
    def waiting(self) -> int:
        """Calls of its own that were not begun."""
        return len(self.backlog) + int(self.pool.waiting)

    @property
    def held(self) -> int:
        """The same, with the suspects that hold them up."""
        return self.waiting + len(self._suspects)

    @property
    def has_room(self) -> bool:
        """Whether one more could begin now."""
        return self.pool.idle > 0 and not self._suspects.present

    def hand_back(self, may_go: MayGo = lambda attempt: True) -> list[Attempt]:
        """As :meth:`TaskRunner.hand_back`, of this lane and of the suspects."""
        return self._let_go([self], may_go)

    def give_ahead(self, count: int) -> None:
        """Give the pool so many calls that it can't begin at once."""
        self.pool.ahead = count
