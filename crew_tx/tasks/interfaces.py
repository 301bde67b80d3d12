"""Where the parts of this room, and the worker above it, meet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from zope.interface import Interface


class Job(Protocol):
    """What a thread runs."""

    def run(self) -> object:
        """
        Do the work; called in the thread, and must not raise.

        :returns: the outcome.
        """

    def finished(self, outcome: Any) -> None:
        """
        Take the outcome; called on the reactor, once, however late.

        :param outcome: what :meth:`run` returned; or an exception, where one
            got out of it, or where the job was interrupted before it began.
        """

    def describe(self) -> tuple[str, str]:
        """Its task id and call id, for status."""


class IThreads(Interface):
    """The threads of a pool, which take jobs from one queue. All of this is called on the reactor."""

    def add(name: str) -> None:
        """Start one more thread."""

    def remove() -> None:
        """End one thread, the first that finds no more jobs given before."""

    def give(job: Job) -> None:
        """Let a thread run a job."""

    def recall(job: Job) -> bool:
        """
        Keep a job from beginning: its outcome comes, an exception, when its turn does.

        :returns: False if it has begun.
        """

    def runs_in(job: Job) -> str:
        """The name of the thread that the job runs in; empty if none has begun it, or it was interrupted."""

    def interrupt(job: Job) -> str | None:
        """
        Raise ``TimeLimitExceeded`` inside the job, or keep it from beginning.

        :returns: the name of the thread that it runs in, empty if it didn't
            begin; None if it is through, or was interrupted before.
        """


#: Called on the reactor with a job and its outcome.
Finished = Callable[[Job, object], None]

#: Makes a pool's threads, none to begin with.
CreateThreads = Callable[[Finished], IThreads]


class IPublisher(Interface):
    """What ``context.pubsub`` hands on to."""

    def publish(channel: str, data: Any) -> Any:
        """
        Publish to the subscribers of a channel.

        Called in whatever thread the task runs in.
        """
