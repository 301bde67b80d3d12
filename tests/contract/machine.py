"""
Random steps, taken on the embedded broker and on RabbitMQ alike.

After each step both have to look the same: answers and refusals, confirms and
returns, what every consumer was delivered, and what waits in each queue. What
RabbitMQ promises no order for, several consumers of one queue, is looked at
as a set. The embedded broker is quiet at once; RabbitMQ is given a moment to
come to the same.
"""

from __future__ import annotations

from math import inf
from pprint import pformat
from typing import Any
from uuid import uuid4

from hypothesis import reject
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from crew_tx.broker import Broker, BrokerFactory
from crew_tx.testing.memory import MemoryReactor
from crew_tx.testing.rabbitmq import shared_node
from tests.contract.plain import BrokerCrashedError, MemoryLine, PlainClient, SocketLine
from tests.contract.sides import Seen, Side

#: Seconds in which RabbitMQ has to come to what the embedded broker has come to; and once it did not, in
#: which it has to on the way to the shortest steps that do that.
PATIENCE = 3.0
PATIENCE_AFTERWARDS = 0.3

QUEUES = ("a", "b", "c", "d")
EXCHANGES = {"x": "direct", "y": "fanout", "z": "topic"}
KEYS = ("a", "b", "k.one", "k.*")

_PORT = 1
_HOUR = "3600000"
_QUORUM = {"x-queue-type": "quorum"}
_TO_X = {"x-dead-letter-exchange": "x"}
_TO_B = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "b"}
_FULL = {"x-max-length": 2}
_REFUSING = {"x-max-length": 2, "x-overflow": "reject-publish"}

#: durable, exclusive, auto-delete, arguments.
Kind = tuple[bool, bool, bool, dict[str, Any]]
KINDS: dict[str, Kind] = {
    "classic": (True, False, False, {}),
    "transient": (False, False, False, {}),
    "exclusive": (False, True, False, {}),
    "auto-delete": (True, False, True, {}),
    "lettered": (True, False, False, _TO_X),
    "lettered to b": (True, False, False, _TO_B),
    "priority": (True, False, False, {"x-max-priority": 3}),
    "priority, lettered": (True, False, False, {"x-max-priority": 3, **_TO_X}),
    "bounded": (True, False, False, _FULL),
    "bounded, lettered": (True, False, False, {**_FULL, **_TO_B}),
    "bounded by bytes": (True, False, False, {"x-max-length-bytes": 12, **_TO_B}),
    "bounded, priority": (True, False, False, {**_FULL, "x-max-priority": 3, **_TO_B}),
    "refusing": (True, False, False, _REFUSING),
    "refusing, lettered": (True, False, False, {**_FULL, "x-overflow": "reject-publish-dlx", **_TO_B}),
    "hour": (True, False, False, {"x-message-ttl": int(_HOUR), **_TO_X}),
    "at once": (True, False, False, {"x-message-ttl": 0, **_TO_B}),
    "quorum": (True, False, False, _QUORUM),
    "quorum, lettered": (True, False, False, {**_QUORUM, **_TO_X}),
    "quorum, once": (True, False, False, {**_QUORUM, "x-delivery-limit": 0, **_TO_B}),
    "quorum, limited": (True, False, False, {**_QUORUM, "x-delivery-limit": 1, **_TO_B}),
    # Not lettered: of several that one command drops, RabbitMQ lets the last go first.
    "quorum, bounded": (True, False, False, {**_QUORUM, **_FULL}),
}
#: What takes the place of quorum queues, where they do otherwise than those of RabbitMQ 3.10.
_CLASSIC = {
    "quorum": "classic",
    "quorum, lettered": "lettered",
    "quorum, once": "lettered to b",
    "quorum, limited": "lettered to b",
    "quorum, bounded": "bounded",
}
#: What several consumers may consume: what becomes of a message does not depend on which of them has it.
_SHARED = frozenset({"classic", "transient", "auto-delete", "lettered", "priority", "priority, lettered"})

_queues = st.sampled_from(QUEUES)
_exchanges = st.sampled_from(tuple(EXCHANGES))
_keys = st.sampled_from(KEYS)
_any = st.integers(0, 1000)
_topology = st.one_of(
    st.tuples(st.just("declare_queue"), _queues, st.sampled_from(tuple(KINDS))),
    st.tuples(st.just("declare_queue_again"), _queues),
    st.tuples(
        st.just("declare_exchange"), _exchanges, st.sampled_from(["", "y"]), st.sampled_from([None, "direct"])
    ),
    st.tuples(st.just("delete_exchange"), _exchanges, st.booleans()),
    st.tuples(st.just("bind"), _queues, _exchanges, _keys),
    st.tuples(st.just("unbind"), _queues, _exchanges, _keys),
    st.tuples(st.just("purge"), _queues),
    st.tuples(st.just("delete"), _queues, st.booleans(), st.booleans()),
)


class Group:
    """
    The consumers of one queue that came before the last cancel.

    :ivar prefetch: the first one's.
    :ivar cancelled: whether they only hold what they have.
    """

    def __init__(self, number: int, queue: str, no_ack: bool, prefetch: int) -> None:
        self.number = number
        self.queue = queue
        self.no_ack = no_ack
        self.prefetch = prefetch
        self.size = 0
        self.cancelled = False


class BrokerMachine(RuleBasedStateMachine):
    """
    :cvar steps: how many steps all machines have taken.
    :cvar patience: seconds, as above.
    :cvar classic_alone: whether quorum queues are left out.
    """

    steps = 0
    patience = PATIENCE
    classic_alone = False

    def __init__(self) -> None:
        super().__init__()
        self.broker = Broker()
        self.reactor = MemoryReactor()
        self.factory = BrokerFactory(self.reactor, self.broker)
        self.reactor.listenTCP(_PORT, self.factory)
        prefix = f"machine.{uuid4().hex[:8]}."
        url = shared_node().url
        self.embedded = Side(lambda: PlainClient(MemoryLine(self.reactor, _PORT)), prefix)
        self.rabbitmq = Side(lambda: PlainClient(SocketLine(url)), prefix)
        self.sides = (self.embedded, self.rabbitmq)
        self.kinds: dict[str, str] = {}
        self.groups: dict[int, Group] = {}
        self.shares = self.has_failed = False
        self.bodies = 0
        self.last_group = 0

    # -- topology ------------------------------------------------------------------------------

    @initialize(
        kinds=st.lists(st.sampled_from(tuple(KINDS)), min_size=2, max_size=4),
        bound=st.booleans(),
        shares=st.booleans(),
    )
    def begin(self, kinds: list[str], bound: bool, shares: bool) -> None:
        """
        Some queues; and perhaps an exchange by which dead letters come to the last of them.

        :param shares: whether several consumers have one queue; else messages may expire at once. With
            both, it depends on who hands back what first which of the expired ones come to the head.
        """
        self.shares = shares
        for queue, kind in zip(QUEUES, kinds, strict=False):
            self.declare_queue(queue, kind)
        if bound:
            self.declare_exchange("x", "", None)
            self.bind(QUEUES[len(kinds) - 1], "x", "a")

    @rule(step=_topology)
    def change_topology(self, step: tuple[Any, ...]) -> None:
        """One rule for all of it: most steps are to be about messages."""
        name, *arguments = step
        getattr(self, name)(*arguments)

    def declare_queue(self, queue: str, kind: str) -> None:
        if self.classic_alone:
            kind = _CLASSIC.get(kind, kind)
        was_there = queue in self.queues
        self.both("declare_queue", queue, *KINDS[kind])
        if queue in self.queues and not was_there:
            self.kinds[queue] = kind

    def declare_queue_again(self, queue: str) -> None:
        if queue in self.queues:
            self.both("declare_queue", queue, *KINDS[self.kinds[queue]])

    def declare_exchange(self, exchange: str, alternate: str, kind: str | None) -> None:
        self.both("declare_exchange", exchange, kind or EXCHANGES[exchange], alternate)

    def delete_exchange(self, exchange: str, if_unused: bool) -> None:
        self.both("delete_exchange", exchange, if_unused)

    def bind(self, queue: str, exchange: str, key: str) -> None:
        self.both("bind", queue, exchange, key)

    def unbind(self, queue: str, exchange: str, key: str) -> None:
        self.both("unbind", queue, exchange, key)

    def purge(self, queue: str) -> None:
        self.both("purge", queue)

    def delete(self, queue: str, if_unused: bool, if_empty: bool) -> None:
        # A quorum queue takes neither condition: the connection would end.
        may_ask = not self.is_quorum(queue)
        self.both("delete", queue, if_unused and may_ask, if_empty and may_ask)

    # -- messages --------------------------------------------------------------------------------

    @precondition(lambda self: self.queues)
    @rule(
        which=_any,
        count=st.integers(1, 4),
        priority=st.none() | st.integers(0, 5),
        expiration=st.sampled_from([None, None, _HOUR, "0"]),
    )
    def publish(self, which: int, count: int, priority: int | None, expiration: str | None) -> None:
        """To one queue, by the default exchange."""
        self.publish_by("", self.one(self.queues, which), count, priority, expiration, True)

    @rule(
        exchange=_exchanges,
        key=_keys,
        count=st.integers(1, 3),
        priority=st.none() | st.integers(0, 5),
        expiration=st.sampled_from([None, None, _HOUR, "0", "soon"]),
        mandatory=st.booleans(),
    )
    def publish_by(
        self,
        exchange: str,
        key: str,
        count: int,
        priority: int | None,
        expiration: str | None,
        mandatory: bool,
    ) -> None:
        if expiration == "0" and not self.may_expire:
            expiration = _HOUR
        bodies = [f"m{self.bodies + number}" for number in range(count)]
        self.bodies += count
        given = {"priority": priority, "expiration": expiration, "delivery_mode": 2}
        properties = {name: value for name, value in given.items() if value is not None}
        self.both("publish", exchange, key, bodies, mandatory, **properties)

    @precondition(lambda self: self.queues)
    @rule(which=_any, then=st.sampled_from(["no_ack", "ack", "reject", "requeue"]))
    def get(self, which: int, then: str) -> None:
        queue = self.one(self.queues, which)
        self.both("get", queue, then, not self.is_quorum(queue))

    # -- consumers ---------------------------------------------------------------------------------

    @precondition(lambda self: self.queues)
    @rule(which=_any, prefetch=st.integers(0, 3), no_ack=st.sampled_from([False, False, False, True]))
    def consume(self, which: int, prefetch: int, no_ack: bool) -> None:
        """As another of those that are there, as the first, or in vain: exclusively."""
        queue = self.one(self.queues, which)
        active = [group for group in self.groups.values() if group.queue == queue and not group.cancelled]
        if not active:
            self.last_group += 1
            # Whether such a queue is full depends on how fast it hears that a message was taken.
            no_ack = no_ack and self.kinds[queue] != "quorum, bounded"
            self._join(Group(self.last_group, queue, no_ack, prefetch), prefetch)
        elif self.shares and self.kinds[queue] in _SHARED and not active[0].no_ack:
            self._join(active[0], prefetch)
        elif not self.is_quorum(queue):
            self.both("consume", 0, queue, prefetch, no_ack, True)

    def _join(self, group: Group, prefetch: int) -> None:
        # The consumer's connection hears of what is delivered only once it is one of a group that is known.
        self.groups[group.number] = group
        answer = self.both("consume", group.number, group.queue, prefetch, group.no_ack, False)
        if answer == "consuming":
            group.size += 1
        elif not group.size:
            del self.groups[group.number]

    @precondition(lambda self: self.holding)
    @rule(
        which=_any,
        message=_any,
        how=st.sampled_from(["ack", "ack", "reject", "requeue", "requeue"]),
        multiple=st.booleans(),
    )
    def settle(self, which: int, message: int, how: str, multiple: bool) -> None:
        group = self.one(self.holding, which)
        all_held = self.embedded.held(group.number)
        held: Seen = self.one(all_held, message)
        limit = KINDS[self.kinds[group.queue]][3].get("x-delivery-limit", inf)
        if how == "requeue" and group.prefetch and any((each.returns or 0) >= limit for each in all_held):
            # What goes over its limit so counts twice for the prefetch of RabbitMQ 3.10.
            how = "ack"
        self.both("settle", group.number, held, how, multiple and group.size == 1)

    @precondition(lambda self: self.groups)
    @rule(which=_any, how=st.sampled_from(["cancel", "close", "drop", "break"]))
    def part(self, which: int, how: str) -> None:
        """Consumers end, or their connections do; or their channel, for a mistake."""
        group = self.one(list(self.groups.values()), which)
        if how == "cancel":
            self._cancel(group)
        elif how == "break" and group.size == 1:
            self._break(group)
        else:
            del self.groups[group.number]
            self.both("leave", group.number, how == "drop")

    def _cancel(self, group: Group) -> None:
        if not group.cancelled:
            group.cancelled = True
            self.both("cancel", group.number)

    def _break(self, group: Group) -> None:
        self.both("settle_unknown", group.number)
        if group.number in self.groups:
            self._forget(group)

    # -- what there is -----------------------------------------------------------------------------

    @property
    def queues(self) -> list[str]:
        """The queues that are there."""
        return sorted(map(self.embedded.unnamed, self.broker.vhosts["/"].queues))

    @property
    def may_expire(self) -> bool:
        """Whether it is certain what becomes of a message that expires at once."""
        # From a quorum queue, one may be delivered, dropped or expire, by the millisecond.
        return not self.shares and not any(map(self.is_quorum, self.queues))

    def is_quorum(self, queue: str) -> bool:
        """Whether a queue is there, and of that kind: it may count what has just expired."""
        found = self.broker.vhosts["/"].queues.get(self.embedded.named(queue))
        return found is not None and found.kind == "quorum"

    @property
    def holding(self) -> list[Group]:
        """The groups that have something to settle."""
        return [group for group in self.groups.values() if self.embedded.held(group.number)]

    @staticmethod
    def one(those: list[Any], which: int) -> Any:
        """One of some."""
        return those[which % len(those)]

    # -- the comparison ----------------------------------------------------------------------------

    def both(self, step: str, *arguments: Any, **options: Any) -> Any:
        """Take a step on both sides, and compare."""
        type(self).steps += 1
        self.has_failed = True
        before = self.queues
        expected = getattr(self.embedded, step)(*arguments, **options)
        found = self._of_rabbitmq(step, *arguments, **options)
        self._are_same(step, expected, found)
        self._settle_down(step, before)
        self.has_failed = False
        return expected

    def _of_rabbitmq(self, step: str, *arguments: Any, **options: Any) -> Any:
        try:
            return getattr(self.rabbitmq, step)(*arguments, **options)
        except BrokerCrashedError:
            # RabbitMQ 3.10 does, now and then, for a basic.get of a quorum queue whose messages expire.
            reject()

    def _settle_down(self, step: str, before: list[str]) -> None:
        queues = self.queues
        for queue in set(before) - set(queues):
            self._are_same(step, True, self._is_gone(queue))
        counted = {queue: self._counts_consumers(queue) for queue in queues}
        expected = self.embedded.observed(counted)
        self._are_same(step, expected, self.rabbitmq.becomes(expected, counted, self.patience))
        orphan = next((group for group in self.groups.values() if group.queue not in queues), None)
        if orphan is not None:
            self._forget(orphan)

    def _counts_consumers(self, queue: str) -> bool:
        """RabbitMQ's quorum queues count those that were cancelled, and hold something, in some releases."""
        left = (group for group in self.groups.values() if group.queue == queue and group.cancelled)
        return not self.is_quorum(queue) or not any(left)

    def _is_gone(self, queue: str) -> bool:
        return self.rabbitmq.is_gone(queue, self.patience)

    def _forget(self, group: Group) -> None:
        """Its queue or its channel is gone: so are its connections."""
        del self.groups[group.number]
        self.both("leave", group.number, True)

    def _are_same(self, step: str, expected: Any, found: Any) -> None:
        if expected != found:
            type(self).patience = PATIENCE_AFTERWARDS
            if isinstance(expected, dict):
                same = [what for what in expected if expected[what] == found[what]]
                expected, found = [
                    {what: value for what, value in seen.items() if what not in same}
                    for seen in (expected, found)
                ]
            raise AssertionError(
                f"{step}: the embedded broker has\n{pformat(expected)}\nand RabbitMQ\n{pformat(found)}"
            )

    # -- the end -------------------------------------------------------------------------------------

    def teardown(self) -> None:
        """Nobody consumes any more: what is left in the queues has to be the same, too."""
        try:
            if not self.has_failed:
                self._compare_what_is_left()
        finally:
            self.rabbitmq.clean_up(list(QUEUES), list(EXCHANGES))

    def _compare_what_is_left(self) -> None:
        for group in list(self.groups.values()):
            self._forget(group)
        for queue in self.queues:
            self.both("drained", queue, not self.is_quorum(queue))
