"""Declaring exchanges, queues and bindings."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from twisted.internet.defer import Deferred

from crew_tx.amqp.declare import Declarer
from crew_tx.errors import (
    AccessRefusedError,
    AMQPError,
    ConnectionLostError,
    NotFoundError,
    PreconditionFailedError,
    ResourceLockedError,
)
from crew_tx.topology import DEAD, EXCHANGES, Binding, Exchange, task_queue
from tests.amqp.peer import Peer, PeerTestCase, Sent

QUEUE = task_queue("test")
ALL = {*(("exchange", exchange.name) for exchange in EXCHANGES), ("queue", DEAD)}
EXCHANGE = Exchange("crew.tasks", "direct", arguments={"alternate-exchange": "other"})


class DeclarerTests(PeerTestCase):
    """A broker that knows some names and makes the others."""

    def setUp(self) -> None:
        super().setUp()
        self.peer: Peer = self.log_in()
        self.declarer = Declarer(self.peer.client)
        self.known: set[tuple[str, str]] = set()
        for kind in ("exchange", "queue"):
            self.peer.answers[f"{kind}.declare"] = self._declare

    def _declare(self, sent: Sent) -> None:
        kind = sent.name.split(".")[0]
        name = sent.fields[kind]
        if sent.fields["passive"] and (kind, name) not in self.known:
            self.peer.send(
                sent.channel, "channel.close", reply_code=404, reply_text=f"NOT_FOUND - no {kind} '{name}'"
            )
            return
        self.known.add((kind, name))
        more = {"queue": name} if kind == "queue" else {}
        self.peer.send(sent.channel, f"{kind}.declare-ok", **more)

    def done(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.answered(self.peer, Deferred.fromCoroutine(work))

    def fails(self, work: Coroutine[Any, Any, Any], kind: type[Exception]) -> Any:
        return self.refused(self.peer, Deferred.fromCoroutine(work), kind)

    def declared(self) -> list[tuple[str, bool]]:
        """What was declared, and whether passively."""
        sent = [each for each in self.peer.read() if each.name.endswith(".declare")]
        return [(each.fields[each.name.split(".")[0]], each.fields["passive"]) for each in sent]

    # -- exchanges -----------------------------------------------------------------

    def test_an_exchange_that_is_there_is_left_alone(self) -> None:
        """Asking for it needs no right to make it."""
        self.known.add(("exchange", "crew.tasks"))
        self.done(self.declarer.exchanges([EXCHANGE]))
        self.assertEqual(self.declared(), [("crew.tasks", True)])

    def test_an_exchange_that_is_missing_is_made(self) -> None:
        """With all that belongs to it."""
        self.done(self.declarer.exchanges([EXCHANGE]))
        _, made = [each for each in self.peer.read() if each.name == "exchange.declare"]
        fields = {name: made.fields[name] for name in ("type", "durable", "passive", "arguments")}
        expected = {"type": "direct", "durable": True, "passive": False}
        self.assertEqual(fields, {**expected, "arguments": {"alternate-exchange": "other"}})

    def test_a_user_that_may_not_look_is_told(self) -> None:
        """What was being looked for."""
        self.peer.refuse("exchange.declare", 403, "ACCESS_REFUSED")
        error = self.fails(self.declarer.exchanges([EXCHANGE]), AccessRefusedError)
        self.assertIn("looking for the exchange crew.tasks", str(error))

    def test_a_user_that_may_not_make_it_is_told(self) -> None:
        """It is missing, too."""
        look = self.peer.answers["exchange.declare"]

        def refuse(sent: Sent) -> None:
            if sent.fields["passive"]:
                look(sent)
            else:
                self.peer.send(sent.channel, "channel.close", reply_code=403, reply_text="ACCESS_REFUSED")

        self.peer.answers["exchange.declare"] = refuse
        error = self.fails(self.declarer.exchanges([EXCHANGE]), AccessRefusedError)
        self.assertIn("declaring the exchange crew.tasks", str(error))
        self.assertIn("has to run 'crew init'", str(error))
        self.assertEqual((403, "ACCESS_REFUSED"), (error.reply_code, error.reply_text))

    # -- queues ----------------------------------------------------------------------

    def test_a_queue_is_declared_with_its_arguments(self) -> None:
        """Whether or not it is there: so other arguments show."""
        self.done(self.declarer.queue(QUEUE))
        sent = self.peer.one("queue.declare")
        self.assertEqual(sent.fields["arguments"], QUEUE.arguments)
        self.assertEqual((sent.fields["durable"], sent.fields["exclusive"]), (True, False))
        self.assertIs(sent.fields["passive"], False)

    def test_a_queue_with_other_arguments_has_a_remedy(self) -> None:
        """The text says what to do."""
        self.peer.refuse("queue.declare", 406, "PRECONDITION_FAILED - inequivalent arg")
        error = self.fails(self.declarer.queue(QUEUE), PreconditionFailedError)
        self.assertIn("rabbitmqctl delete_queue crew.tasks.test", str(error))
        self.assertEqual((error.reply_code, error.reply_text[:12]), (406, "PRECONDITION"))

    def test_a_queue_whose_node_is_down_is_no_final_error(self) -> None:
        """RabbitMQ's code is that of a missing queue; it comes back with its node."""
        self.peer.refuse("queue.declare", 404, "NOT_FOUND - home node is down")
        error = self.fails(self.declarer.queue(QUEUE), AMQPError)
        self.assertNotIsInstance(error, NotFoundError)
        self.assertIn("home node", str(error))

    def test_a_queue_that_is_there_may_have_any_arguments(self) -> None:
        """It is said whether it was made."""
        self.assertIs(self.done(self.declarer.existing_queue(QUEUE)), True)
        self.assertIs(self.done(self.declarer.existing_queue(QUEUE)), False)
        name = QUEUE.name
        self.assertEqual(self.declared(), [(name, True), (name, False), (name, True)])

    # -- bindings --------------------------------------------------------------------

    def test_bindings_are_made(self) -> None:
        """Each with its key."""
        self.done(self.declarer.bind([Binding("q", "x", "a"), Binding("q", "x", "b")]))
        sent = [each.fields for each in self.peer.read() if each.name == "queue.bind"]
        found = [(fields["queue"], fields["exchange"], fields["routing_key"]) for fields in sent]
        self.assertEqual(found, [("q", "x", "a"), ("q", "x", "b")])

    def test_a_binding_that_is_refused_is_told(self) -> None:
        """Of what to what."""
        self.peer.refuse("queue.bind", 403, "ACCESS_REFUSED")
        error = self.fails(self.declarer.bind([Binding("q", "x", "a")]), AccessRefusedError)
        self.assertIn("binding q to x", str(error))

    # -- all of it -------------------------------------------------------------------

    def test_a_new_broker_gets_all_that_roles_share(self) -> None:
        """The queue of dead letters is bound."""
        self.done(self.declarer.topology())
        self.assertEqual(self.known, ALL)
        sent = self.peer.one("queue.bind").fields
        self.assertEqual((sent["queue"], sent["exchange"]), (DEAD, DEAD))

    def test_a_broker_that_has_all_is_only_asked(self) -> None:
        """On one channel; a binding can't be asked for."""
        self.known = set(ALL)
        self.done(self.declarer.topology())
        sent = self.peer.read()
        self.assertEqual([each.name for each in sent].count("channel.open"), 1)
        self.assertTrue(all(each.fields["passive"] for each in sent if each.name.endswith(".declare")))

    def test_a_queue_of_dead_letters_that_was_left_unbound_is_bound(self) -> None:
        """Who made it was cut off before."""
        self.peer.lose_at("queue.bind")
        self.fails(self.declarer.topology(), ConnectionLostError)
        self.peer = self.log_in()
        self.peer.answers |= {f"{kind}.declare": self._declare for kind in ("exchange", "queue")}
        self.done(Declarer(self.peer.client).topology())
        sent = self.peer.one("queue.bind").fields
        self.assertEqual((sent["queue"], sent["exchange"]), (DEAD, DEAD))

    def test_a_broker_that_has_all_asks_for_no_rights(self) -> None:
        """A binding that is refused is somebody else's matter; what follows has a channel."""
        self.known = set(ALL)
        for code, text in ((403, "ACCESS_REFUSED"), (404, "NOT_FOUND - no queue 'crew.dead'")):
            self.peer.refuse("queue.bind", code, text)
            self.done(self.declarer.topology())
            self.done(self.declarer.queue(QUEUE))

    def test_a_new_queue_that_may_not_be_bound_is_told(self) -> None:
        """Whoever made it has to bind it; and so is any other error."""
        self.peer.refuse("queue.bind", 403, "ACCESS_REFUSED")
        error = self.fails(self.declarer.topology(), AccessRefusedError)
        self.assertIn("binding crew.dead to crew.dead", str(error))
        self.known = set(ALL)
        self.peer.refuse("queue.bind", 405, "RESOURCE_LOCKED")
        self.fails(self.declarer.topology(), ResourceLockedError)

    # -- what is there -----------------------------------------------------------------

    def test_it_knows_what_queues_there_are(self) -> None:
        """It asks, and makes none; what follows has a channel."""
        self.known.add(("queue", "mine"))
        has = [self.done(self.declarer.has_queue(name)) for name in ("mine", "other", "mine")]
        self.assertEqual(has, [True, False, True])
        self.assertEqual(self.declared(), [("mine", True), ("other", True), ("mine", True)])

    def test_a_broker_that_does_not_say_is_no_answer(self) -> None:
        """It is asked again later, by another connection."""
        for code, text, kind in (
            (403, "ACCESS_REFUSED", AccessRefusedError),
            (405, "RESOURCE_LOCKED", ResourceLockedError),
            (504, "CHANNEL_ERROR", AMQPError),
        ):
            self.peer.refuse("queue.declare", code, text)
            error = self.fails(self.declarer.has_queue("mine"), kind)
            self.assertIn("looking for the queue mine", str(error))

    # -- its channel -----------------------------------------------------------------

    def test_its_channel_is_ended(self) -> None:
        """One at a time is open; a second end is nothing."""
        self.done(self.declarer.queue(QUEUE))
        self.done(self.declarer.close())
        self.assertEqual(self.peer.names().count("channel.close"), 1)
        self.done(self.declarer.close())
        self.assertEqual(self.peer.names(), [])
        self.assertEqual(list(self.peer.client.channels), [0])

    def test_nothing_was_done_so_nothing_is_ended(self) -> None:
        """There is no channel."""
        self.done(self.declarer.close())
        self.assertEqual(self.peer.names(), [])

    def test_a_channel_that_the_broker_closed_is_not_ended_again(self) -> None:
        """An error did that."""
        self.peer.refuse("queue.declare", 406, "PRECONDITION_FAILED")
        self.fails(self.declarer.queue(QUEUE), PreconditionFailedError)
        self.peer.read()
        self.done(self.declarer.close())
        self.assertEqual(self.peer.names(), [])

    def test_the_connection_may_end_at_any_step(self) -> None:
        """It is a lost connection, whatever was being done."""
        bindings = [Binding("q", "x", "a")]
        steps: list[tuple[str, Any, str]] = [
            ("channel.open", lambda declarer: declarer.topology(), "opening a channel"),
            ("channel.open", lambda declarer: declarer.bind(bindings), "opening a channel"),
            ("exchange.declare", lambda declarer: declarer.topology(), "looking for the exchange crew.dead"),
            ("queue.declare", lambda declarer: declarer.queue(QUEUE), "declaring the queue"),
            ("queue.declare", lambda declarer: declarer.existing_queue(QUEUE), "looking for the queue"),
            ("queue.declare", lambda declarer: declarer.has_queue("q"), "looking for the queue q"),
            ("queue.bind", lambda declarer: declarer.bind(bindings), "binding q to x"),
            ("channel.close", _declare_and_close, "closing a channel"),
        ]
        for step, work, words in steps:
            self.peer = self.log_in()
            self.peer.lose_at(step)
            error = self.fails(work(Declarer(self.peer.client)), ConnectionLostError)
            self.assertIn(words, str(error))
            self.assertIn("lost", str(error))


async def _declare_and_close(declarer: Declarer) -> None:
    await declarer.queue(QUEUE)
    await declarer.close()
