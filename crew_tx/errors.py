"""
Every error that crew_tx raises or errbacks with.

One base, :class:`CrewError`. Below it the branches say whose fault it was and
in which phase: the caller's own (nothing was sent), the connection's, the
delivery's (no worker answered for it), the task's (a worker did). What a
program may want to act on is an attribute; the text is for people.
"""

from __future__ import annotations

import builtins


class CrewError(Exception):
    """The base of every error of this package."""


# -- The caller's own: nothing was sent --------------------------------------


class CallerError(CrewError):
    """The request can't be carried out as it was made; nothing was sent."""


class InvalidArgumentError(CallerError, ValueError):
    """An argument is of the wrong type or outside its range."""


class EncodeError(CallerError):
    """A value can't be written in its content type.

    :ivar content_type: the content type that was asked for.
    """

    def __init__(self, message: str, *, content_type: str | None = None) -> None:
        super().__init__(message)
        self.content_type = content_type


class MessageTooLargeError(CallerError):
    """A body is over the limit, before or after compression.

    :ivar size: the body's size in bytes, as far as it was counted.
    :ivar limit: the limit that it passed, in bytes.
    """

    def __init__(self, message: str, *, size: int, limit: int) -> None:
        super().__init__(message)
        self.size = size
        self.limit = limit


class DuplicateCallIdError(CallerError):
    """A pending call has this ``call_id`` already, or one had it that was cancelled or given up.

    :ivar call_id: the id that is taken.
    """

    def __init__(self, call_id: str, was_given_up: bool = False) -> None:
        super().__init__(
            f"a call of the id {call_id!r} was cancelled or given up, and workers that were told so "
            "would drop another; leave call_id out, or give a new one"
            if was_given_up
            else f"a pending call has the id {call_id!r} already; "
            "leave call_id out, or wait for the first one to end"
        )
        self.call_id = call_id


class ClientStoppedError(CallerError):
    """The client was stopped: by ``close()``, or with its parent service."""


class OutboxFullError(CallerError):
    """More is waiting to be published than the client holds.

    :ivar messages: how many messages wait.
    :ivar size: how many bytes they have.
    """

    def __init__(self, messages: int, size: int) -> None:
        super().__init__(
            f"{messages} messages of {size} bytes wait to be published already; "
            "wait for earlier calls before making more"
        )
        self.messages = messages
        self.size = size


class WrongThreadError(CallerError, RuntimeError):
    """A blocking call in the reactor's own thread, which would wait for itself."""


class ForkedError(CallerError, RuntimeError):
    """A blocking client is the parent's: this process was forked after its first use."""


class WaitTimeoutError(CrewError, builtins.TimeoutError):
    """A thread waited for as long as it said, and there is no outcome yet.

    :ivar seconds: how long it waited.
    """

    def __init__(self, message: str, *, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


# -- Between this process and the broker --------------------------------------


class ConnectionLostError(CrewError, builtins.ConnectionError):
    """The connection to the broker was lost, or couldn't be made in time.

    :ivar maybe_sent: whether the message may have reached the broker.
    """

    def __init__(self, message: str, *, maybe_sent: bool = False) -> None:
        super().__init__(message)
        self.maybe_sent = maybe_sent


class BrokerBlockedError(CrewError):
    """A resource alarm of the broker kept it from taking the message in time.

    :ivar reason: the broker's words.
    :ivar maybe_sent: whether bytes of the message were written.
    """

    def __init__(self, reason: str, *, maybe_sent: bool) -> None:
        super().__init__(
            f"the broker is blocked by an alarm ({reason}) and did not take the message in time; "
            "free its memory or disk"
        )
        self.reason = reason
        self.maybe_sent = maybe_sent


class PublishTimeoutError(CrewError, builtins.TimeoutError):
    """The broker did not confirm a message inside ``publish_timeout``.

    :ivar maybe_sent: whether bytes of the message were written.
    """

    def __init__(self, message: str, *, maybe_sent: bool) -> None:
        super().__init__(message)
        self.maybe_sent = maybe_sent


class AMQPError(CrewError):
    """The broker closed a channel or the connection with a reply code.

    :ivar reply_code: AMQP 0-9-1's reply code, or None where there was none.
    :ivar reply_text: the broker's words.
    """

    def __init__(self, message: str, *, reply_code: int | None = None, reply_text: str = "") -> None:
        super().__init__(message)
        self.reply_code = reply_code
        self.reply_text = reply_text


class AuthenticationError(AMQPError):
    """The broker refused the user name, the password or the certificate."""


class AccessRefusedError(AMQPError):
    """The user may not do this (403)."""


class NotFoundError(AMQPError):
    """There is no such exchange, queue or virtual host (404, 530)."""


class ResourceLockedError(AMQPError):
    """Another connection has this queue for itself (405)."""


class PreconditionFailedError(AMQPError):
    """It exists with other arguments, or the broker's rules forbid it (406)."""


class ProtocolError(AMQPError):
    """One side broke the rules of AMQP (501 to 505, 540, 541), or sent what isn't AMQP."""


# -- The message did not come to a worker's answer -----------------------------


class DeliveryError(CrewError):
    """No worker answered for the message."""


class UnroutableError(DeliveryError):
    """No queue is bound for the task: no worker ever declared it.

    :ivar task_id: the task that was called.
    """

    def __init__(self, task_id: str) -> None:
        super().__init__(
            f"no worker has ever declared the task {task_id!r}; start one that has it, or mend the name"
        )
        self.task_id = task_id


class NoWorkersError(DeliveryError):
    """The task is known, but no worker of it is there now (``require_worker=True``).

    :ivar task_id: the task that was called.
    """

    def __init__(self, task_id: str) -> None:
        super().__init__(f"no worker of the task {task_id!r} is connected now; start one")
        self.task_id = task_id


class ExpirationError(DeliveryError):
    """The call was not taken, or not heard of, in time.

    :ivar reason: ``expired`` (dead-lettered), ``held`` (a worker held it
        unstarted that long) or ``unanswered`` (nothing was heard at all).
    :ivar expiration: the seconds that it was allowed to wait.
    :ivar queue: the queue that it waited in, where known.
    :ivar time: when it expired, in seconds since 1970, where known.
    """

    def __init__(
        self,
        message: str,
        *,
        reason: str,
        expiration: float | None = None,
        queue: str | None = None,
        time: float | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        self.expiration = expiration
        self.queue = queue
        self.time = time


class DeadLetterError(DeliveryError):
    """The broker took the call out of its queue.

    :ivar reason: the broker's word for why.
    :ivar queue: the queue that it was in, where known.
    """

    def __init__(self, message: str, *, reason: str, queue: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.queue = queue


class QueueFullError(DeadLetterError):
    """The call was pushed out of a queue at its length limit (``maxlen``)."""


class RejectedError(DeadLetterError):
    """A consumer rejected the call (``rejected``)."""


class PoisonError(DeadLetterError):
    """The call was delivered too often without an answer (``delivery_limit``)."""


class PublishNackedError(DeliveryError):
    """The broker refused the message (basic.nack): a full queue that refuses, or an internal error."""


class ReplyLostError(DeliveryError):
    """The queue that the reply would have come to is gone; the task may have run."""


class DecodeError(CrewError):
    """A body can't be read.

    :ivar content_type: its content type, as the message has it.
    :ivar size: its size in bytes.
    """

    def __init__(self, message: str, *, content_type: str | None = None, size: int | None = None) -> None:
        super().__init__(message)
        self.content_type = content_type
        self.size = size


# -- A worker answered, with an error -----------------------------------------


class TaskError(CrewError):
    """A worker answered with an error.

    :ivar worker: the id of the worker that answered, where known.
    """

    def __init__(self, message: str, *, worker: str | None = None) -> None:
        super().__init__(message)
        self.worker = worker


class RemoteError(TaskError):
    """The task raised.

    :ivar type: the exception's type name, dotted.
    :ivar message: its text.
    :ivar traceback: the remote traceback, as text.
    """

    def __init__(self, type: str, message: str, traceback: str = "", *, worker: str | None = None) -> None:
        super().__init__(f"{type}: {message}", worker=worker)
        self.type = type
        self.message = message
        self.traceback = traceback

    def __str__(self) -> str:
        text = super().__str__()
        if not self.traceback:
            return text
        where = f"Remote traceback (worker {self.worker}):" if self.worker else "Remote traceback:"
        return f"{text}\n\n{where}\n{self.traceback.rstrip()}"


class TaskTimeoutError(TaskError, builtins.TimeoutError):
    """The task ran over its time limit."""


class TaskCancelledError(TaskError):
    """The call was cancelled on its worker, by somebody who may steer workers."""


class UnknownTaskError(TaskError):
    """The worker that took the call does not know the task."""


class TaskProcessDiedError(CrewError):
    """
    The process of a task with ``isolation="process"`` ended before the task did.

    Its caller sees a :class:`RemoteError` whose ``type`` names this class.
    """


class MessageRefusedError(TaskError):
    """The worker takes only what is signed, and refused the call.

    :ivar reason: ``unsigned``, ``unknown-key``, ``tampered`` or ``expired``.
    """

    def __init__(self, message: str, *, reason: str = "", worker: str | None = None) -> None:
        super().__init__(message, worker=worker)
        self.reason = reason


class ThreadsStuckError(CrewError):
    """
    Too many threads of a worker are stuck in tasks that do not end; it gives up.

    :ivar stuck: how many.
    """

    def __init__(self, stuck: int) -> None:
        super().__init__(
            f"{stuck} threads are stuck in tasks that do not end; the worker gives up, for its supervisor "
            "to start it anew: mend the tasks that the log names, or raise --max-stuck"
        )
        self.stuck = stuck


# -- Programs put together wrongly ---------------------------------------------


class ConfigurationError(CrewError):
    """An option, a file or a module of tasks is wrong; the text names it and the remedy."""


class DuplicateTaskIdError(ConfigurationError):
    """One worker has two tasks with one id.

    :ivar task_id: the id.
    """

    def __init__(self, task_id: str, first: str, second: str) -> None:
        super().__init__(f"the task id {task_id!r} is taken: {first} has it already; give {second} another")
        self.task_id = task_id


class TimeLimitExceeded(SystemExit):
    """Raised inside a task's thread at its time limit.

    It is a :class:`SystemExit`, as crew had it, so that a task's own
    ``except Exception`` does not swallow it.
    """
