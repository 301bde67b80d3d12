"""The account of a load: what each call came to, how often its task ran, and which faults explain that."""

from __future__ import annotations

import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from crew_tx.errors import CrewError

#: Seconds after which a broker that crashes has an ack on its disk, surely.
_ON_DISK = 2.0
#: Seconds for which it is known when a call was answered.
_RECENT = 30.0


class Account:
    """
    Calls, by their ids.

    A call that a fault finds begun and not settled may run again: it is held.
    What is held at each fault is noted, so that runs beyond one can be
    compared with it.

    :param marks: the file to which each run adds a line: the call's id, and the process's.
    """

    def __init__(self, marks: Path) -> None:
        self._marks = marks
        self._offset = 0
        self._ended_calls: set[str] = set()
        self._recent: deque[tuple[float, str]] = deque()
        self._idle: list[Deferred[None]] = []
        self._begun: dict[str, float] = {}
        self.pending: set[str] = set()
        self.submitted = 0
        self.answered = 0
        self.reasons: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.runs: dict[str, list[int]] = defaultdict(list)
        self.holds: Counter[str] = Counter()
        self.lost_acks: Counter[str] = Counter()
        self.failed: list[str] = []
        self.lost_with_both: set[str] = set()
        self._held_lately: list[tuple[float, set[str]]] = []
        self.longest = 0.0

    # -- calls ---------------------------------------------------------------------------

    def add(self, call_id: str, called: Deferred[Any], expected: Any) -> None:
        """Follow a call to its end."""
        self.submitted += 1
        self._begun[call_id] = time.monotonic()
        self.pending.add(call_id)
        called.addBoth(self._ended, call_id, expected)

    @property
    def ended(self) -> int:
        """How many calls have an outcome."""
        return len(self._ended_calls)

    def when_idle(self) -> Deferred[None]:
        """A Deferred that fires when no call is pending."""
        idle: Deferred[None] = Deferred(lambda deferred: self._idle.remove(deferred))
        self._idle.append(idle)
        self._tell_idle()
        return idle

    def _ended(self, result: Any, call_id: str, expected: Any) -> None:
        # A Deferred that is fired again raises, which trial counts as an error.
        self._ended_calls.add(call_id)
        self.pending.discard(call_id)
        self.longest = max(self.longest, time.monotonic() - self._begun.pop(call_id, time.monotonic()))
        if not isinstance(result, Failure):
            self.answered += 1
            self._remember(call_id)
            if result != expected:
                self.wrong.append(f"{call_id} is answered with {result!r} in place of {expected!r}")
        elif isinstance(result.value, CrewError) and str(result.value):
            self.failed.append(call_id)
            self.reasons[f"{type(result.value).__name__}: {str(result.value)[:60]}"] += 1
        else:
            self.wrong.append(f"{call_id} has no stated reason: {result.value!r}")
        self._tell_idle()

    def _remember(self, call_id: str) -> None:
        now = time.monotonic()
        self._recent.append((now, call_id))
        while self._recent[0][0] < now - _RECENT:
            self._recent.popleft()

    def _tell_idle(self) -> None:
        if not self.pending:
            idle, self._idle = self._idle, []
            for deferred in idle:
                deferred.callback(None)

    # -- faults ----------------------------------------------------------------------------

    def begun(self) -> set[str]:
        """The calls that have begun, and have no answer here."""
        self.read_marks()
        return {call_id for call_id in self.pending if call_id in self.runs}

    def answered_since(self, when: float) -> set[str]:
        """Those that were answered so lately that a broker killed then may have forgotten the acks."""
        return {call_id for answered, call_id in self._recent if answered > when - _ON_DISK}

    def worker_killed(self, process: int, broker_died: float | None = None) -> None:
        """
        It held what it had begun, and whose answer is not here.

        :param broker_died: when, if that was just before. What it had not on its
            disk, the worker alone had: such a call can be lost.
        """
        held = {call_id for call_id in self.begun() if process in self.runs[call_id]}
        self.hold(held)
        self._held_lately.append((time.monotonic(), held))
        if broker_died is not None:
            self.lost_with_both |= held
            # Its acks may have been on the way between the nodes of a cluster.
            self.lose_acks_of(process, broker_died)

    def broker_killed(self, when: float) -> None:
        """What a worker that was killed just before had answered, it may not have had on its disk."""
        for killed, held in self._held_lately:
            if killed > when - _ON_DISK:
                self.lost_with_both |= held

    def hold(self, call_ids: Iterable[str]) -> None:
        """A fault has found these held: each may run once more."""
        self.holds.update(set(call_ids))

    def lose_acks_of(self, process: int, when: float) -> None:
        """A worker may not have acknowledged what it answered just before."""
        answered = self.answered_since(when)
        self.lose_acks(call_id for call_id in answered if process in self.runs[call_id])

    def lose_acks(self, call_ids: Iterable[str]) -> None:
        """These were answered, and the broker may have forgotten that: each may run once more."""
        self.lost_acks.update(set(call_ids))

    # -- the balance -----------------------------------------------------------------------

    def read_marks(self) -> None:
        """Read what was added to the file; whole lines alone."""
        if not self._marks.exists():
            return
        with self._marks.open("rb") as file:
            file.seek(self._offset)
            lines, _, _ = file.read().rpartition(b"\n")
        if lines:
            self._offset += len(lines) + 1
            for line in lines.decode().splitlines():
                call_id, process = line.split()
                self.runs[call_id].append(int(process))

    @property
    def beyond(self) -> dict[str, int]:
        """The calls that ran more than once, and how many times more."""
        return {call_id: len(runs) - 1 for call_id, runs in self.runs.items() if len(runs) > 1}

    @property
    def twice_in_one_process(self) -> list[str]:
        """The calls that one worker ran twice, though it remembers what it answered."""
        return [call_id for call_id, runs in self.runs.items() if len(runs) != len(set(runs))]

    @property
    def unexplained(self) -> list[str]:
        """The calls that ran again though no fault has found them held."""
        return [call_id for call_id, more in self.beyond.items() if more > self._allowed(call_id)]

    def _allowed(self, call_id: str) -> int:
        return self.holds[call_id] + self.lost_acks[call_id]

    def table(self) -> str:
        """The account, for people."""
        rows: list[tuple[str, object]] = [
            ("calls submitted", self.submitted),
            ("ended", self.ended),
            ("answered", f"{self.answered} ({self.answered / max(1, self.submitted):.2%})"),
            *((f"  {reason}", count) for reason, count in self.reasons.most_common()),
            ("runs of their task", sum(map(len, self.runs.values()))),
            ("runs beyond one a call", sum(self.beyond.values())),
            ("calls held at the faults", self.holds.total()),
            ("answered then, and perhaps not settled", self.lost_acks.total()),
            ("not explained by these", len(self.unexplained)),
            ("held by a worker that died with its broker", len(self.lost_with_both)),
            ("longest wait for an answer", f"{self.longest:.1f} s"),
        ]
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"  {name:{width}}  {value}" for name, value in rows)

    def check(self, fail: Callable[[str], object], least: float = 0.995) -> None:
        """
        Fail a test unless the account balances.

        :param fail: raises, with a text.
        :param least: the share of calls that have to be answered.
        """
        self.read_marks()
        wrong = list(self.wrong[:10])
        if self.pending or self.ended != self.submitted:
            wrong.append(f"{self.submitted} calls, and {self.ended} have ended")
        if failed := [call_id for call_id in self.failed if call_id not in self.lost_with_both]:
            wrong.append(f"these failed, though no worker that had them died with its broker: {failed[:10]}")
        if self.answered < least * self.submitted:
            wrong.append(f"only {self.answered} of {self.submitted} calls were answered")
        if len(self.runs) < self.answered:
            wrong.append(f"{self.answered} calls were answered, and {len(self.runs)} have run")
        if sum(self.beyond.values()) > self.holds.total() + self.lost_acks.total():
            wrong.append("more runs beyond one a call than calls held at the faults")
        if self.unexplained:
            wrong.append(f"no fault explains why these ran again: {self.unexplained[:10]}")
        if self.twice_in_one_process:
            wrong.append(f"one worker ran a call twice: {self.twice_in_one_process[:10]}")
        if wrong:
            fail("\n".join([*wrong, self.table()]))
