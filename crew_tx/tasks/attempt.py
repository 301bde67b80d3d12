"""
One attempt at a call, from the delivery to its settlement.

The legal moves are the table below; any other raises. Pure: what acts on a
state is the worker. A few words on the less obvious moves:

- An attempt that was never started can still fail (unknown task, unreadable
  call), run out of time, or be cancelled.
- A one-way call has nothing to reply with: it goes from its outcome to
  settled. So does a call that was cancelled, since its caller has let go of it.
- What was given to a thread that has not begun it can be taken back.
- A call is handed back only unstarted; and a connection that is lost settles
  nothing, since the outcome is still owed.
"""

from __future__ import annotations

from typing import Final, Literal

from crew_tx.message import Call

State = Literal[
    "taken",
    "running",
    "done",
    "failed",
    "timed out",
    "cancelled",
    "expired",
    "returned",
    "replied",
    "settled",
]

TAKEN: Final = "taken"
RUNNING: Final = "running"
DONE: Final = "done"
FAILED: Final = "failed"
TIMED_OUT: Final = "timed out"
CANCELLED: Final = "cancelled"
EXPIRED: Final = "expired"
REPLIED: Final = "replied"
RETURNED: Final = "returned"
SETTLED: Final = "settled"

MOVES: Final[dict[State, frozenset[State]]] = {
    TAKEN: frozenset({RUNNING, FAILED, TIMED_OUT, CANCELLED, EXPIRED, RETURNED}),
    RUNNING: frozenset({DONE, FAILED, TIMED_OUT, CANCELLED, TAKEN}),
    DONE: frozenset({REPLIED, SETTLED}),
    FAILED: frozenset({REPLIED, SETTLED}),
    TIMED_OUT: frozenset({REPLIED, SETTLED}),
    CANCELLED: frozenset({REPLIED, SETTLED}),
    EXPIRED: frozenset({REPLIED, SETTLED}),
    REPLIED: frozenset({SETTLED}),
    RETURNED: frozenset(),
    SETTLED: frozenset(),
}


class Attempt:
    """
    One attempt at a call.

    :ivar call: the call.
    :ivar delivery: what its channel needs for the settlement; opaque here.
    :ivar received: when it came, by the worker's clock.
    :ivar started: when it was started; None until then.
    :ivar state: one of the states above.
    """

    __slots__ = ("call", "delivery", "received", "started", "state")

    def __init__(self, call: Call, delivery: object, received: float) -> None:
        self.call = call
        self.delivery = delivery
        self.received = received
        self.started: float | None = None
        self.state: State = TAKEN

    def start(self, now: float) -> None:
        """Note that it runs from now on."""
        self.move(RUNNING)
        self.started = now

    def take_back(self) -> None:
        """Note that no thread has begun it."""
        self.move(TAKEN)
        self.started = None

    def settle(self) -> None:
        """Note that nothing is owed for it any more."""
        self.move(SETTLED)

    def move(self, state: State) -> None:
        """
        Go to another state.

        :raises RuntimeError: if the table has no such move.
        """
        if state not in MOVES[self.state]:
            raise RuntimeError(f"the call {self.call.call_id!r} is {self.state}: it can't be {state} now")
        self.state = state
