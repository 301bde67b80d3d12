"""The zope interfaces where two rooms of crew_tx meet."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any

from zope.interface import Attribute, Interface


class ISerializer(Interface):
    """Writes values as bytes of one content type, and reads them back."""

    name: str = Attribute("The short name that users write, such as ``cbor``.")

    content_type: str = Attribute("The content type that a message says, parameters and all.")

    def encode(value: Any) -> bytes:
        """
        Write a value.

        :raises crew_tx.codec.UnwritableError: or any other exception, where it can't be written.
        """

    def decode(body: bytes) -> Any:
        """
        Read the value that the whole body is.

        :raises crew_tx.codec.UnreadableError: or any other exception, where it can't be read.
        """


class IHeldCalls(Interface):
    """The calls that a worker took and has not answered, as its consumers see them."""

    held: int = Attribute("How many are not begun.")

    def hand_back(may_go: Callable[[Any], bool] = lambda attempt: True) -> Iterable[Any]:
        """
        Let go of those that are not begun.

        :param may_go: whether to let go of one; those it says no to stay held.
        :returns: those that went, each with its ``delivery``, not settled.
        """

    def give_ahead(count: int) -> None:
        """From now on, let so many wait in line for a thread that can't begin them yet."""


class IKeptCalls(Interface):
    """All the calls that a worker has."""

    def attempts() -> Iterable[Any]:
        """
        All that it has and has not answered, begun or not.

        :returns: each with its ``delivery``, and when it was ``received`` and ``started``; None if it wasn't.
        """


class ICallObserver(Interface):
    """Counts the calls that a worker answers."""

    def answered(task_id: str, outcome: str, waited: float, ran: float) -> None:
        """
        A call was answered; called on the reactor, for each.

        :param outcome: ``ok``, or why the answer is an error, as ``crew_tx.message.ErrorKind`` has it.
        :param waited: seconds that it waited here before it was started.
        :param ran: seconds that it ran; 0 where it was never started.
        """


class ITracing(Interface):
    """Makes spans of calls."""

    def begin(
        task_id: str, headers: dict[str, Any] | None, *, answered: bool
    ) -> tuple[dict[str, Any], Callable[[Any], Any]]:
        """
        A call begins.

        :param headers: its own.
        :param answered: whether its caller waits for an answer.
        :returns: the headers to send instead, and what is called with its
            outcome, a value or a ``Failure``, and gives it back.
        """

    def traced(definition: Any) -> Any:
        """A task's definition with a function that makes a span of each run."""

    def ran(
        definition: Any, headers: dict[str, Any], call_id: str, elapsed: float, error: str | None
    ) -> None:
        """
        A task has run just now in a process of its own, where no function of ours makes spans.

        :param headers: its call's.
        :param elapsed: seconds that it ran.
        :param error: why the answer is an error, as ``crew_tx.message.ErrorKind`` has it.
        """


class IRequestTracing(ITracing):
    """Makes spans of HTTP requests as well."""

    def serve(
        method: str | None, route: str | None, header: Callable[[str], str | None]
    ) -> tuple[AbstractContextManager[Any], Callable[[int | None], None]]:
        """
        A request begins.

        :param method: None for one that is not of the usual ones.
        :param route: the path, without what is different each time; None where there is no such.
        :param header: gives a header of the request.
        :returns: what to answer it in, so that its spans are inside of this one,
            and what is called with the status when it is answered, or with None
            if its client has gone before.
        """
