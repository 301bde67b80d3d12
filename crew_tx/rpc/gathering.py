"""
A client's questions to workers: each goes to many, and gathers what they answer.

There is no telling how many will answer, so a question ends when its time is
up, or when as many have answered as its asker knows of.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from typing import Any
from uuid import uuid4

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorTime

from crew_tx.amqp.delivery import Returned
from crew_tx.amqp.properties import encode_properties
from crew_tx.amqp.publisher import Publication, Publisher
from crew_tx.codec import LARGE, Codec
from crew_tx.errors import (
    AccessRefusedError,
    ConnectionLostError,
    CrewError,
    DecodeError,
    InvalidArgumentError,
    PublishTimeoutError,
)
from crew_tx.message import Answer, Properties, command_properties
from crew_tx.rpc.replies import InThread
from crew_tx.timer import DeadlineTimer
from crew_tx.topology import CONTROL, check_task_id, control_key, may_only_look

#: Signs a command.
SignCommand = Callable[[Properties, str, bytes], tuple[Properties, bytes]]

#: Every worker's own commands that only look: they go by keys that a monitor may write to.
LOOKING = ("ping", "stats", "tasks", "active", "stacks", "errors")
#: Seconds.
TIMEOUT = 1.0
_LONGEST = 3600.0
#: Commands are read on the worker's reactor: so a larger one is neither sent nor looked at.
COMMAND_CODEC = Codec(max_message_size=LARGE, max_inflated_size=LARGE)


class Gathering(Publication):
    """
    One command on its way, and the answers that have come.

    :ivar deferred: fires with the answers, one dict a worker.
    :ivar heard: the workers whose answers have come.
    :ivar reading: how many answers have come that are being read.
    :ivar is_confirmed: whether the broker has it, and so whoever it is for.
    :ivar is_over: whether its time is up: it ends when those are read.
    :ivar signatures: that which it was sent with; none where nothing is signed.
    """

    __slots__ = (
        "_owner",
        "answers",
        "deferred",
        "expect",
        "heard",
        "is_confirmed",
        "is_over",
        "reading",
        "signatures",
    )

    def __init__(
        self,
        owner: Gatherings,
        routing_key: str,
        properties: bytes,
        body: bytes,
        call_id: str,
        expect: int | None,
    ) -> None:
        super().__init__(CONTROL, routing_key, properties, body, call_id)
        self._owner = owner
        self.answers: list[dict[str, Any]] = []
        self.expect = expect
        self.heard: set[str | None] = set()
        self.reading = 0
        self.is_confirmed = False
        self.is_over = False
        self.signatures: tuple[bytes, ...] = ()
        self.deferred: Deferred[list[dict[str, Any]]] | None = Deferred(lambda _: owner.cancelled(self))

    @property
    def has_arrived(self) -> bool:
        """Whether workers have it, where there are any."""
        return self.is_confirmed or bool(self.heard)

    def confirmed(self) -> None:
        self.is_confirmed = True

    def returned(self, returned: Returned) -> None:
        """There is no such worker."""
        self._owner.end(self)

    def failed(self, error: CrewError) -> None:
        self._owner.fail(self, error)

    def refused(self, error: CrewError) -> None:
        """By a channel that nothing else goes by: it is this one that the user may not send."""
        if isinstance(error, AccessRefusedError):
            error = _with_remedy(error, self.routing_key)
        self.failed(error)

    def lost(self) -> None:
        self.failed(ConnectionLostError("the connection to the broker was lost meanwhile", maybe_sent=True))


class Gatherings:
    """
    The caller's side: asks, and gathers what workers answer.

    :param publisher: for nothing but commands, one at a time: one that is refused is told so.
    :param in_thread: calls a function in a thread of the reactor's pool: large answers are read there.
    :param client_id: where they answer to.
    :param check_running: raises a :class:`CrewError` where nothing may be asked any more.
    :param sign: gives a command's properties signed, and its signature, by them, its
        routing key and its body.
    """

    def __init__(
        self,
        clock: IReactorTime,
        publisher: Publisher,
        codec: Codec,
        in_thread: InThread,
        client_id: str,
        check_running: Callable[[], object] = lambda: None,
        sign: SignCommand | None = None,
    ) -> None:
        self._sign = sign
        self._clock = clock
        self._publisher = publisher
        self._codec = codec
        self._in_thread = in_thread
        self.client_id = client_id
        self._check_running = check_running
        self._pending: dict[str, Gathering] = {}
        self._deadlines: DeadlineTimer[str] = DeadlineTimer(clock, self._overdue)

    def ask(
        self,
        name: str,
        target: str | None = None,
        arguments: dict[str, Any] | None = None,
        timeout: float = TIMEOUT,
        expect: int | None = None,
    ) -> Deferred[list[dict[str, Any]]]:
        """As ``Client.control``."""
        try:
            self._check_running()
            gathering = self._gathering(name, target, arguments or {}, timeout, expect)
            # Taken now: one that ends at once lets go of it.
            deferred = gathering.deferred
            assert deferred is not None
            self._publisher.publish(gathering)
        except CrewError:
            return fail()
        if gathering.deferred is not None:
            self._pending[gathering.message_id] = gathering
            self._deadlines.set(gathering.message_id, timeout)
        return deferred

    def _gathering(
        self, name: str, target: str | None, arguments: dict[str, Any], timeout: float, expect: int | None
    ) -> Gathering:
        check_task_id(name)
        if target is not None:
            check_task_id(target)
        if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 < timeout <= _LONGEST:
            raise InvalidArgumentError(f"timeout is a number of seconds up to {_LONGEST}, not {timeout!r}")
        if not isinstance(arguments, dict):
            raise InvalidArgumentError(f"arguments is a dict, not {type(arguments).__name__}")
        if expect is not None and (isinstance(expect, bool) or not isinstance(expect, int) or expect < 1):
            raise InvalidArgumentError(f"expect is a number of workers from 1, not {expect!r}")
        encoded = COMMAND_CODEC.encode({**arguments, "c": name}, "cbor")
        call_id = f"control.{uuid4().hex}"
        properties = command_properties(
            call_id, self.client_id, encoded.content_type, ceil(timeout * 1000), int(self._clock.seconds())
        )
        if encoded.content_encoding is not None:
            properties["content_encoding"] = encoded.content_encoding
        routing_key = control_key(target, name in LOOKING)
        signatures: tuple[bytes, ...] = ()
        if self._sign is not None:
            properties, signature = self._sign(properties, routing_key, encoded.body)
            signatures = (signature,)
        gathering = Gathering(self, routing_key, encode_properties(properties), encoded.body, call_id, expect)
        gathering.signatures = signatures
        return gathering

    def find(self, call_id: str) -> Gathering | None:
        """A command by its id; None if nobody waits for answers to it."""
        return self._pending.get(call_id)

    def answered(self, answer: Answer) -> bool:
        """
        A reply came that no call waits for.

        :returns: whether it was an answer to a command.
        """
        gathering = self._pending.get(answer.call_id)
        if gathering is None or gathering.is_over:
            return False
        if answer.worker is not None and answer.worker in gathering.heard:
            # It came before, and was not acknowledged when the connection was lost.
            return True
        gathering.heard.add(answer.worker)
        gathering.reading += 1
        if not self._codec.is_large(answer.body, answer.content_encoding):
            self._gathered(self._read(answer), gathering)
            return True
        reading: Deferred[dict[str, Any]] = self._in_thread(self._read, answer)
        reading.addErrback(lambda failure: {"wid": answer.worker, "error": str(failure.value)})
        reading.addCallback(self._gathered, gathering)
        return True

    def _gathered(self, answer: dict[str, Any], gathering: Gathering) -> None:
        if gathering.deferred is None:
            # It has ended while this was read.
            return
        gathering.reading -= 1
        gathering.answers.append(answer)
        has_all = gathering.expect is not None and len(gathering.answers) >= gathering.expect
        if has_all or (gathering.is_over and not gathering.reading):
            self.end(gathering)

    def _read(self, answer: Answer) -> dict[str, Any]:
        """A worker's answer; what is wrong with it is told in its place, under ``error``."""
        try:
            value = self._codec.decode(answer.body, answer.content_type, answer.content_encoding)
        except DecodeError as error:
            return {"wid": answer.worker, "error": str(error)}
        if answer.error is not None:
            return {"wid": answer.worker, "error": _message(value)}
        return {"wid": answer.worker, **(value if isinstance(value, dict) else {"result": value})}

    def end(self, gathering: Gathering) -> None:
        """No more answers are waited for."""
        deferred = self._take(gathering)
        if deferred is not None:
            deferred.callback(gathering.answers)

    def fail(self, gathering: Gathering, error: CrewError) -> None:
        """The command did not reach the broker, or perhaps it didn't."""
        deferred = self._take(gathering)
        if deferred is not None:
            deferred.errback(error)

    def cancelled(self, gathering: Gathering) -> None:
        """Its caller wants no answer any more: the Deferred fails by itself."""
        self._take(gathering)
        self._publisher.withdraw(gathering)

    def stop(self, error: CrewError) -> None:
        """End them all."""
        for gathering in list(self._pending.values()):
            self.fail(gathering, error)
        self._deadlines.stop()

    def _take(self, gathering: Gathering) -> Deferred[list[dict[str, Any]]] | None:
        self._pending.pop(gathering.message_id, None)
        self._deadlines.clear(gathering.message_id)
        deferred, gathering.deferred = gathering.deferred, None
        return deferred

    def _overdue(self, call_id: str) -> None:
        gathering = self._pending.get(call_id)
        if gathering is None:
            # Ended by what an earlier one of the same moment set off.
            return
        if gathering.has_arrived:
            gathering.is_over = True
            if not gathering.reading:
                self.end(gathering)
            return
        # An empty list would say that there is no such worker.
        self._publisher.withdraw(gathering)
        self.fail(gathering, _not_arrived(gathering.sent))


def _not_arrived(was_sent: bool) -> PublishTimeoutError:
    what = "the broker did not confirm the command" if was_sent else "the command could not be sent"
    return PublishTimeoutError(f"{what} in time", maybe_sent=was_sent)


def _with_remedy(error: AccessRefusedError, routing_key: str) -> AccessRefusedError:
    text = "commands take the role monitor or manager"
    if not may_only_look(routing_key):
        text = f"all but {', '.join(LOOKING)} take the role manager"
    return AccessRefusedError(
        f"this user may not send the command ({error}): {text}",
        reply_code=error.reply_code,
        reply_text=error.reply_text,
    )


def _message(value: object) -> str:
    message = value.get("message") if isinstance(value, dict) else None
    return message if isinstance(message, str) else "the command failed"
