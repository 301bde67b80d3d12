"""The calls that a worker answered with an error lately, for those who look at it."""

from __future__ import annotations

from collections import deque
from typing import Any

from crew_tx.codec import Codec
from crew_tx.errors import DecodeError
from crew_tx.message import Answer, Call

MOST = 20
#: Characters of a message that are shown.
_LONGEST = 500


class RecentErrors:
    """A bounded memory of answers; they are read only when somebody asks."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._answers: deque[tuple[float, Call, Answer]] = deque(maxlen=MOST)

    def add(self, time: float, call: Call, answer: Answer) -> None:
        """
        Remember an answer that is an error.

        :param time: seconds since 1970.
        """
        # Without the call's body, which may be large.
        self._answers.append((time, call._replace(body=b""), answer))

    def told(self) -> list[dict[str, Any]]:
        """What they say, the latest first: time, task, id, kind, type and message."""
        return [self._told(*each) for each in reversed(self._answers)]

    def _told(self, time: float, call: Call, answer: Answer) -> dict[str, Any]:
        said = self._said(answer)
        return {
            "time": time,
            "task": call.task_id,
            "id": call.call_id,
            "kind": answer.error,
            "type": str(said.get("type", ""))[:_LONGEST],
            "message": str(said.get("message", ""))[:_LONGEST],
        }

    def _said(self, answer: Answer) -> dict[str, Any]:
        try:
            said = self._codec.decode(answer.body, answer.content_type, answer.content_encoding)
        except DecodeError:
            return {}
        return said if isinstance(said, dict) else {}
