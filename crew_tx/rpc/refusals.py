"""Counts the messages that are refused for their signatures, and tells of them in the log, but not of all."""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger

from crew_tx.signing import RefusedError

#: Seconds between two lines about the same reason.
_QUIET = 1.0
_SHOWN = 80


class Refusals:
    """
    :param seconds: reads the clock.
    :ivar counts: how many, by the reason.
    """

    log = Logger()

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self.counts: dict[str, int] = {}
        self._logged: dict[str, float] = {}
        self._untold: dict[str, int] = {}

    def add(self, kind: str, message_id: object, refusal: RefusedError) -> None:
        """
        One more.

        :param kind: what it is: a call, a reply.
        :param message_id: its id, as it came.
        """
        reason = refusal.reason
        self.counts[reason] = self.counts.get(reason, 0) + 1
        now = self._seconds()
        last = self._logged.get(reason)
        if last is not None and now - last < _QUIET:
            self._untold[reason] = self._untold.get(reason, 0) + 1
            return
        self._logged[reason] = now
        self.log.warn(
            "{kind} {message_id} is refused ({reason}): {text}{untold}",
            kind=kind,
            message_id=ascii(str(message_id)[:_SHOWN]),
            reason=reason,
            text=refusal.text,
            untold=_in_words(self._untold.pop(reason, 0)),
        )


def _in_words(untold: int) -> str:
    return f"; and {untold} more since the last such line" if untold else ""
