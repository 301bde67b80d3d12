"""
Control of running workers: questions and orders that go to all of them, to
those of one service, or to one, and are answered on the worker's reactor.

Out: ``Client.control`` -> the exchange ``crew.control``, by arpc's management
keys, or by those for what only looks -> each worker's control queue ->
:class:`Commands`, which looks the command up and asks whether its key and the
worker allow it. Back: its answers, by the caller's
reply queue, to :class:`~crew_tx.rpc.gathering.Gatherings`.
"""

from __future__ import annotations

import inspect
import reprlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from crew_tx.amqp.delivery import Delivery
from crew_tx.codec import Codec, Encoded
from crew_tx.errors import CrewError, InvalidArgumentError
from crew_tx.message import COMMAND, Answer
from crew_tx.rpc.gates import WorkerGate, refusal_body
from crew_tx.rpc.gathering import COMMAND_CODEC
from crew_tx.rpc.replies import InThread
from crew_tx.signing import RefusedError
from crew_tx.status import ActiveCall
from crew_tx.tasks.failures import describe
from crew_tx.tasks.stacks import stacks
from crew_tx.topology import CONTROL, LOOK, MANAGEMENT, check_task_id, may_only_look

__all__ = ["Command", "Commands", "Right", "BuiltinCommands", "command"]

#: What a command may do: look; steer (drain, pause, resize, cancel); end the process; run code.
Right = Literal["look", "steer", "kill", "eval"]

_MARK = "__crew_command__"
_MOST_THREADS = 10_000
#: The header of a dead letter, which the broker writes, and nobody else can take away.
_DEAD_LETTER = "x-death"


@dataclass(frozen=True, slots=True)
class Command:
    """
    One command that a worker knows.

    :ivar function: called on the reactor with the request, a map; what it
        returns, or what its Deferred fires with, is the answer.
    :ivar right: what a worker must allow for it.
    """

    name: str
    function: Callable[[dict[str, Any]], object]
    right: Right = "look"


def command(name: str, *, right: Right = "look") -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """
    Make a function of a service module a control command.

    It runs on the worker's reactor, so it must not block; it may be ``async``.

    :param right: what the worker must allow: ``look``, ``steer``, ``kill`` or ``eval``.
    """
    check_task_id(name)
    if right not in get_args(Right):
        raise InvalidArgumentError(f"right is one of {', '.join(get_args(Right))}, not {right!r}")

    def mark(function: Callable[..., Any]) -> Callable[..., Any]:
        setattr(function, _MARK, Command(name, function, right))
        return function

    return mark


def collect_commands(namespace: Mapping[str, object]) -> list[Command]:
    """The commands of a module, by its dictionary."""
    marks = (getattr(value, _MARK, None) for value in list(namespace.values()) if callable(value))
    return [mark for mark in marks if isinstance(mark, Command)]


class Commands:
    """
    The worker's side: takes commands, and answers them.

    :param in_thread: calls a function in a thread of the reactor's pool: large answers are written there.
    :param allowed: the rights that this worker gives.
    :param send: called with each answer and the client id that it goes to; and, under
        signing, with the reference to the command.
    :param gate: where signatures are verified; None takes what comes.
    """

    log = Logger()

    def __init__(
        self,
        worker_id: str,
        codec: Codec,
        in_thread: InThread,
        commands: Iterable[Command],
        allowed: frozenset[Right],
        send: Callable[..., object],
        gate: WorkerGate | None = None,
    ) -> None:
        self._gate = gate
        self._worker_id = worker_id
        self._codec = codec
        self._in_thread = in_thread
        self._commands = {each.name: each for each in commands}
        self._allowed = allowed
        self._send = send
        self.refused = 0

    def received(self, delivery: Delivery) -> None:
        """
        A message came to the control queue.

        A probe is answered by having come at all. A command counts only if it
        came by the exchange for commands: callers may write to the other one. Nor
        does one that died in a queue before: its way was not checked by the broker.
        """
        properties = delivery.properties
        if properties.get("type") != COMMAND:
            return
        if delivery.exchange != CONTROL:
            self.refused += 1
            self.log.warn("a command came by {exchange}, and is refused", exchange=delivery.exchange)
            return
        if _DEAD_LETTER in (properties.get("headers") or {}):
            self.refused += 1
            self.log.warn("a command came as a dead letter, and is refused")
            return
        call_id, reply_to = properties.get("correlation_id"), properties.get("reply_to")
        if not isinstance(call_id, str) or not isinstance(reply_to, str):
            self.log.warn("a command without an id or without a reply address is dropped")
            return
        signed: tuple[bytes, ...] = ()
        if self._gate is not None:
            try:
                signed = (self._gate.command(delivery),)
            except RefusedError as refusal:
                self._refuse(refusal, call_id, reply_to)
                return
        obeyed = Deferred.fromCoroutine(self._obey(delivery, call_id, reply_to, *signed))
        obeyed.addErrback(self._unsent)

    def _refuse(self, refusal: RefusedError, call_id: str, reply_to: str) -> None:
        """Its signature is wrong. Of a replay nobody is told: its sender has the answer."""
        self.refused += 1
        if refusal.reason != "replayed":
            encoded = self._codec.encode(refusal_body(refusal), "cbor")
            answer = Answer(call_id, *encoded, "refused", self._worker_id, 0.0, False)
            self._send(answer, reply_to, refusal.reference)

    async def _obey(self, delivery: Delivery, call_id: str, reply_to: str, *signed: bytes) -> None:
        try:
            value = self._run(delivery)
            if inspect.isawaitable(value):
                value = await value
            encoded = await self._encoded(value)
        except (Exception, SystemExit) as error:
            # The program ends by its own commands alone.
            self._send(self._failure(error, call_id), reply_to, *signed)
        else:
            self._send(Answer(call_id, *encoded, None, self._worker_id, 0.0, False), reply_to, *signed)

    async def _encoded(self, value: object) -> Encoded:
        if not self._codec.is_large(value):
            return self._codec.encode(value, "cbor")
        large: Encoded = await self._in_thread(self._codec.encode, value, "cbor")
        return large

    def _run(self, delivery: Delivery) -> object:
        properties = delivery.properties
        request = COMMAND_CODEC.decode(
            delivery.body, properties.get("content_type"), properties.get("content_encoding")
        )
        name = request.get("c") if isinstance(request, dict) else None
        found = self._commands.get(name) if isinstance(name, str) else None
        if found is None:
            raise InvalidArgumentError(f"this worker has no such command; it has {', '.join(self._commands)}")
        if found.right not in self._allowed:
            self.refused += 1
            self.log.warn("the command {name} is refused: not allowed here", name=found.name)
            raise InvalidArgumentError(
                f"this worker does not allow {found.name!r}: start it {_how_to_allow(found.right)}"
            )
        if found.right != "look" and may_only_look(delivery.routing_key):
            self.refused += 1
            self.log.warn("the command {name} is refused: it came by a key for looking", name=found.name)
            raise InvalidArgumentError(
                f"{found.name!r} does more than look, so it does not go by a key that begins with {LOOK!r}: "
                f"send it by {MANAGEMENT!r}"
            )
        self.log.info("command {name}", name=found.name)
        return found.function(request)

    def _failure(self, error: BaseException, call_id: str) -> Answer:
        if not isinstance(error, CrewError):
            self.log.failure("a command failed")
        said = describe(error)
        fields = {"type": said.type, "message": said.message, "traceback": said.traceback}
        encoded = self._codec.encode(fields, "cbor")
        return Answer(call_id, *encoded, "raised", self._worker_id, 0.0, False)

    def _unsent(self, failure: Failure) -> None:
        self.log.failure("the answer to a command could not be sent", failure)


def _no_stack(call: ActiveCall) -> list[str]:
    """Of a thread that is gone, or of a process."""
    return [f"in the {call.thread}, whose stack is not read"] if call.thread.startswith("process ") else []


def _how_to_allow(right: Right) -> str:
    """Workers may be steered unless they are told otherwise."""
    return "without --deny-steer" if right == "steer" else f"with --allow-{right}"


class BuiltinCommands:
    """
    The commands that every worker knows: arpc's ``ping``, ``stats``, ``eval`` and ``kill``, and more.

    :param worker: the :class:`~crew_tx.worker.Worker`.
    """

    def __init__(self, worker: Any) -> None:
        self._worker = worker

    def all(self) -> list[Command]:
        """What a worker's :class:`Commands` are made with."""
        return [
            Command("ping", self.ping),
            Command("stats", self.stats),
            Command("tasks", self.tasks),
            Command("active", self.active),
            Command("stacks", self.stacks),
            Command("errors", self.errors),
            Command("threads", self.threads, "steer"),
            Command("drain", self.drain, "steer"),
            Command("pause", self.pause, "steer"),
            Command("resume", self.resume, "steer"),
            Command("cancel", self.cancel, "steer"),
            Command("kill", self.kill, "kill"),
            Command("eval", self.eval, "eval"),
        ]

    def ping(self, request: dict[str, Any]) -> dict[str, Any]:
        """Who is there."""
        status = self._worker.status()
        return {"host": status.host, "wid": status.worker_id, "pid": status.pid}

    def stats(self, request: dict[str, Any]) -> dict[str, Any]:
        """What it has done, and does; ``waittimes`` are seconds as text, as arpc has them."""
        status = self._worker.status()
        pool = status.pool
        return {
            **self.ping(request),
            "waittimes": [f"{seconds:.4f}" for seconds in status.waittimes],
            "processed": status.processed,
            "exceptions": status.exceptions,
            "timeouts": status.timeouts,
            "abandoned": status.abandoned,
            "in_progress": status.in_progress,
            "held": status.held,
            "threads": pool.size,
            "busy": pool.busy,
            "stuck": len(pool.stuck),
            "replaced": pool.replaced,
            "unconfirmed_replies": status.unconfirmed_replies,
            "refused": status.refused,
            "paused": status.paused,
            "draining": status.draining,
            "started": status.started,
            **({} if status.processes is None else {"processes": asdict(status.processes)}),
        }

    def tasks(self, request: dict[str, Any]) -> dict[str, Any]:
        """Its tasks, with their limits in seconds."""
        return {
            "tasks": [
                {
                    "id": each.task_id,
                    "timeout": each.timeout,
                    "queue": each.queue,
                    "async": each.is_async,
                    "isolation": each.isolation,
                }
                for each in self._worker.definitions
            ]
        }

    def active(self, request: dict[str, Any]) -> dict[str, Any]:
        """What runs, for how long, for whom, and in which thread; stuck ones as well."""
        return {"active": [asdict(call) for call in self._worker.active()]}

    def stacks(self, request: dict[str, Any]) -> dict[str, Any]:
        """The same, each with the lines where its thread is now, the innermost last."""
        calls = self._worker.active()
        lines = stacks(call.thread for call in calls)
        return {
            "stacks": [{**asdict(call), "stack": lines.get(call.thread) or _no_stack(call)} for call in calls]
        }

    def errors(self, request: dict[str, Any]) -> dict[str, Any]:
        """The calls that it answered with an error lately, the latest first."""
        return {"errors": self._worker.errors()}

    def threads(self, request: dict[str, Any]) -> dict[str, Any]:
        """Run ``n`` tasks at once from now on."""
        number = request.get("n")
        if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= _MOST_THREADS:
            raise InvalidArgumentError(f"threads takes n, a whole number from 1 to {_MOST_THREADS}")
        self._worker.resize(number)
        return {"threads": number}

    def drain(self, request: dict[str, Any]) -> dict[str, Any]:
        """End, once what runs has ended."""
        self._worker.ask_to_end("drain")
        return {"draining": True}

    def pause(self, request: dict[str, Any]) -> dict[str, Any]:
        """Take no more calls, and hand back those that are not begun."""
        self._worker.pause()
        return {"paused": True}

    def resume(self, request: dict[str, Any]) -> dict[str, Any]:
        """Take calls again."""
        self._worker.resume()
        return {"paused": False}

    def cancel(self, request: dict[str, Any]) -> dict[str, Any]:
        """End the call ``id``, if it is here; ``cancelled`` says whether it was."""
        call_id = request.get("id")
        if not isinstance(call_id, str):
            raise InvalidArgumentError("cancel takes id, the id of a call")
        return {"cancelled": self._worker.cancel_call(call_id)}

    def kill(self, request: dict[str, Any]) -> dict[str, Any]:
        """End now: what runs goes to other workers."""
        self._worker.ask_to_end("kill")
        return {"killed": True}

    def eval(self, request: dict[str, Any]) -> dict[str, Any]:
        """The value of the Python expression ``expr``, as its repr; ``worker`` is the worker."""
        expression = request.get("expr")
        if not isinstance(expression, str):
            raise InvalidArgumentError("eval takes expr, a Python expression")
        value = eval(expression, {"worker": self._worker})
        return {"result": reprlib.repr(value)}
