"""
What the brokers of a list said no with.

One that refuses for good, as a node that was restored with an old password
does, says nothing of the others: only when each has refused there is none left.
A broker that is down has not refused, it may be the one that takes us.
"""

from __future__ import annotations

from crew_tx.errors import AMQPError, CrewError


class Refusals:
    """
    :param count: how many brokers there are; they go by their numbers, from 0.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._refused: dict[int, CrewError] = {}
        self._told: dict[int, str] = {}

    @property
    def are_all(self) -> bool:
        """Whether each has refused."""
        return len(self._refused) == self._count

    def add(self, broker: int, error: CrewError) -> None:
        """A broker refuses for good."""
        self._refused[broker] = error

    def is_news(self, broker: int, error: CrewError) -> bool:
        """Whether a broker's failure is another than its last one; so that each is told once."""
        before, self._told[broker] = self._told.get(broker), str(error)
        return before != str(error)

    def clear(self) -> None:
        """One serves: what was is over."""
        self._refused.clear()
        self._told.clear()

    @property
    def error(self) -> CrewError:
        """One error for all of them, of the kind of the last."""
        last = list(self._refused.values())[-1]
        texts = list(dict.fromkeys(str(error) for error in self._refused.values()))
        if len(texts) == 1 or not isinstance(last, AMQPError):
            return last
        return type(last)("; ".join(texts), reply_code=last.reply_code, reply_text=last.reply_text)
