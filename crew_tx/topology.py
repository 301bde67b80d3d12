"""
Every exchange, queue and binding of crew_tx, as data.

The names and arguments here are what other languages rely on, and a queue's
arguments can't change once it exists: they are final. Length limits come by
policy of the broker alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from crew_tx.errors import InvalidArgumentError

TASKS = "crew.tasks"
WORKERS = "crew.workers"
REPLIES = "crew.replies"
DEAD_LETTERS = "crew.dlx"
DEAD = "crew.dead"
PUBSUB = "crew.pubsub"
CONTROL = "crew.control"
HELLO = "crew.hello"

#: What the routing keys of commands begin with, as arpc has them.
MANAGEMENT = "mgt"
#: What those of commands begin with that only look: so the broker can tell who may do no more.
LOOK = "look"

QueueType = Literal["classic", "quorum"]

#: Priorities of a classic task queue, 0 to 10: RabbitMQ's advice is not to have more.
QUEUE_PRIORITIES = 10
#: Priorities of a call, as crew had them.
HIGHEST_PRIORITY = 255
#: Deliveries without an answer after which a quorum queue calls a message poison.
DELIVERY_LIMIT = 20
#: Deliveries before this one from which on workers run a call alone: it may be what ended the others.
SUSPECT_FROM = 3
REPLY_QUEUE_EXPIRES_MS = 600_000
#: Of a subscriber that pauses, or is away: past either bound its oldest events are dropped.
SUBSCRIPTION_LENGTH = 100_000
SUBSCRIPTION_BYTES = 256 * 1024 * 1024
#: A subscriber's queue that keeps events for it ends when it stays away so long.
DURABLE_SUBSCRIPTION_EXPIRES_MS = 7 * 24 * 3600 * 1000
#: Of workers' announcements that a client is too busy to read: past it the oldest are dropped.
HELLO_QUEUE_LENGTH = 1000
DEAD_QUEUE_LENGTH = 10_000
DEAD_QUEUE_BYTES = 256 * 1024 * 1024
DEAD_QUEUE_TTL_MS = 7 * 24 * 3600 * 1000

LONGEST_TASK_ID = 200
LONGEST_SHORT_STRING = 255


@dataclass(frozen=True, slots=True)
class Exchange:
    """An exchange to be declared."""

    name: str
    type: Literal["direct", "fanout", "topic", "headers"]
    durable: bool = True
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Queue:
    """A queue to be declared."""

    name: str
    durable: bool = True
    exclusive: bool = False
    auto_delete: bool = False
    arguments: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Binding:
    """A binding of a queue to an exchange."""

    queue: str
    exchange: str
    routing_key: str


#: In the order in which they can be declared: an alternate exchange comes first.
EXCHANGES = (
    Exchange(DEAD, "fanout"),
    Exchange(DEAD_LETTERS, "direct", arguments={"alternate-exchange": DEAD}),
    Exchange(TASKS, "direct"),
    Exchange(WORKERS, "direct"),
    Exchange(REPLIES, "direct"),
    Exchange(PUBSUB, "topic"),
    Exchange(CONTROL, "topic"),
    Exchange(HELLO, "fanout"),
)

_SUBSCRIPTION_LIMITS: dict[str, Any] = {
    "x-max-length": SUBSCRIPTION_LENGTH,
    "x-max-length-bytes": SUBSCRIPTION_BYTES,
}

DEAD_QUEUE = Queue(
    DEAD,
    arguments={
        "x-max-length": DEAD_QUEUE_LENGTH,
        "x-max-length-bytes": DEAD_QUEUE_BYTES,
        "x-message-ttl": DEAD_QUEUE_TTL_MS,
    },
)
DEAD_BINDING = Binding(DEAD, DEAD, "")


def task_queue(queue: str, queue_type: QueueType = "classic") -> Queue:
    """
    The queue of one or more tasks.

    :param queue: its name without the ``crew.tasks.`` in front.
    """
    arguments: dict[str, Any] = {"x-dead-letter-exchange": DEAD_LETTERS}
    if queue_type == "quorum":
        arguments |= {
            "x-queue-type": "quorum",
            "x-delivery-limit": DELIVERY_LIMIT,
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",
        }
    else:
        arguments["x-max-priority"] = QUEUE_PRIORITIES
    return Queue(task_queue_name(queue), arguments=arguments)


def task_queue_name(queue: str) -> str:
    """The full name of a task queue."""
    return f"{TASKS}.{queue}"


def task_binding(task_id: str, queue: str) -> Binding:
    """What brings the calls of one task to its queue."""
    return Binding(task_queue_name(queue), TASKS, task_id)


def reply_queue(client_id: str, queue_type: QueueType = "classic") -> Queue:
    """The queue in which one client finds its replies and its dead letters."""
    arguments: dict[str, Any] = {"x-expires": REPLY_QUEUE_EXPIRES_MS}
    if queue_type == "quorum":
        arguments["x-queue-type"] = "quorum"
    return Queue(f"crew.reply.{client_id}", arguments=arguments)


def dead_letter_key(client_id: str) -> str:
    """The routing key, carried as CC, by which a dead letter finds its caller."""
    return f"@{client_id}"


def reply_bindings(client_id: str) -> tuple[Binding, Binding]:
    """What brings replies and dead letters to one client."""
    queue = f"crew.reply.{client_id}"
    return (
        Binding(queue, REPLIES, client_id),
        Binding(queue, DEAD_LETTERS, dead_letter_key(client_id)),
    )


def control_queue(worker_id: str, connection: int) -> Queue:
    """
    A worker's own queue.

    :param connection: counts the worker's connections, so that a new queue
        never races the ghost of the one before.
    """
    return Queue(f"{CONTROL}.{worker_id}.{connection}", durable=False, exclusive=True, auto_delete=True)


def control_bindings(queue: str, worker_id: str, task_ids: list[str], services: list[str]) -> list[Binding]:
    """
    What lets callers probe for a worker of a task, and what brings it commands.

    A name with a wildcard in it can't be a target: it would be a pattern.
    """
    targets = dict.fromkeys([worker_id, *services, *task_ids])
    return [
        *(Binding(queue, WORKERS, task_id) for task_id in task_ids),
        *(
            Binding(queue, CONTROL, control_key(target, looks))
            for looks in (False, True)
            for target in (None, *targets)
            if target is None or not is_pattern(target)
        ),
    ]


def control_key(target: str | None, looks: bool = False) -> str:
    """
    The routing key of a command: arpc's management keys, and others for what only looks.

    :param target: a worker's id, or the name of a service or a task; None for all workers.
    :param looks: whether it is a command that only looks.
    """
    family = LOOK if looks else MANAGEMENT
    return family if target is None else f"{family}.{target}"


def may_only_look(routing_key: str) -> bool:
    """Whether what came by a key of :data:`CONTROL` may do no more than look."""
    return routing_key.partition(".")[0] != MANAGEMENT


def subscription_queue(subscription_id: str, connection: int) -> Queue:
    """
    A subscriber's own queue, which ends with its connection.

    :param connection: counts the connections, as of :func:`control_queue`.
    """
    return Queue(
        f"crew.sub.{subscription_id}.{connection}",
        durable=False,
        exclusive=True,
        auto_delete=True,
        arguments=dict(_SUBSCRIPTION_LIMITS),
    )


def durable_subscription_queue(name: str) -> Queue:
    """The queue of a subscriber that keeps events for it while it is away."""
    expires = {"x-expires": DURABLE_SUBSCRIPTION_EXPIRES_MS}
    return Queue(f"crew.sub.{name}", arguments=_SUBSCRIPTION_LIMITS | expires)


def subscription_binding(queue: str, channel: str) -> Binding:
    """What brings a channel's events, or a pattern's, to a subscriber."""
    return Binding(queue, PUBSUB, channel)


def hello_queue(unique: str, connection: int) -> Queue:
    """
    Where a client hears of workers that begin; it ends with its connection.

    :param connection: counts the connections, as of :func:`control_queue`.
    """
    return Queue(
        f"crew.sub.hello-{unique}.{connection}",
        durable=False,
        exclusive=True,
        auto_delete=True,
        arguments={"x-max-length": HELLO_QUEUE_LENGTH},
    )


def hello_binding(queue: str) -> Binding:
    """What brings workers' announcements to a client."""
    return Binding(queue, HELLO, "")


def is_pattern(channel: str) -> bool:
    """Whether a topic exchange would take it for more than one name."""
    return "*" in channel or "#" in channel


def check_pattern(pattern: object) -> None:
    """:raises InvalidArgumentError: unless it is a channel, or a pattern of channels with ``*`` and ``#``."""
    check_task_id(pattern)


def queue_priority(priority: int) -> int:
    """
    The AMQP priority of a call's priority.

    Always that of a classic queue, since a caller can't know the queue's type.
    """
    return priority * QUEUE_PRIORITIES // HIGHEST_PRIORITY


def check_queue_type(queue_type: str) -> None:
    """:raises InvalidArgumentError: if it is neither ``classic`` nor ``quorum``."""
    if queue_type not in get_args(QueueType):
        raise InvalidArgumentError(f"the queue type is 'classic' or 'quorum', not {queue_type!r}")


def check_task_id(task_id: object) -> None:
    """
    :raises InvalidArgumentError: unless it is 1 to 200 bytes of UTF-8 without
        control characters, not beginning with ``@``.
    """
    if not isinstance(task_id, str):
        raise InvalidArgumentError(f"a task id is a str, not {type(task_id).__name__}")
    if task_id.isascii() and task_id.isprintable() and 0 < len(task_id) <= LONGEST_TASK_ID:
        if task_id[0] != "@":
            return
    _check_unusual_task_id(task_id)


def _check_unusual_task_id(task_id: str) -> None:
    try:
        size = len(task_id.encode())
    except UnicodeEncodeError:
        raise InvalidArgumentError("a task id is valid Unicode: it has a lone surrogate") from None
    if not 0 < size <= LONGEST_TASK_ID:
        raise InvalidArgumentError(f"a task id is 1 to {LONGEST_TASK_ID} bytes of UTF-8; it has {size}")
    if task_id.startswith("@"):
        raise InvalidArgumentError(f"a task id does not begin with '@': {task_id!r}")
    if any(ord(character) < 32 or 127 <= ord(character) < 160 for character in task_id):
        raise InvalidArgumentError(f"a task id has no control characters: {task_id!r}")


def check_name(kind: str, name: object) -> None:
    """
    Check the name of a service or a channel.

    :param kind: what it names, for the error's text.
    :raises InvalidArgumentError: if it isn't a task id, or has ``*`` or ``#``.
    """
    check_task_id(name)
    if "*" in str(name) or "#" in str(name):
        raise InvalidArgumentError(f"the name of a {kind} has no '*' or '#': {name!r}")
