"""Where threads are just now, for people."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable
from itertools import dropwhile
from traceback import extract_stack
from types import FrameType

_DEEPEST = 50
_LONGEST_LINE = 500
#: Between a thread's start and a task's first line.
_OURS = ("threading.", "crew_tx.tasks.")


def stacks(names: Iterable[str]) -> dict[str, list[str]]:
    """
    The Python stacks of threads, by their names.

    :returns: a line for each frame of a task, the innermost last; threads that
        are not there are left out.
    """
    frames = sys._current_frames()
    wanted = set(names)
    found = {thread.name: frames.get(thread.ident or 0) for thread in threading.enumerate()}
    return {name: _lines(frame) for name, frame in found.items() if name in wanted and frame is not None}


def _lines(frame: FrameType) -> list[str]:
    # It goes on while we look, so the two may differ in the end.
    pairs = zip(_frames(frame), extract_stack(frame), strict=False)
    lines = [line for _, line in dropwhile(lambda pair: _is_ours(pair[0]), pairs)]
    return [
        f"{line.filename}:{line.lineno} in {line.name}: {line.line or ''}"[:_LONGEST_LINE]
        for line in lines[-_DEEPEST:]
    ]


def _frames(frame: FrameType) -> list[FrameType]:
    """The outermost first, as ``extract_stack`` has them."""
    frames = []
    current: FrameType | None = frame
    while current is not None:
        frames.append(current)
        current = current.f_back
    return frames[::-1]


def _is_ours(frame: FrameType) -> bool:
    return f"{frame.f_globals.get('__name__', '')}.".startswith(_OURS)
