"""A client's calls, on a reactor in memory: from ``call`` to the wire, and back to the Deferred."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from twisted.internet.defer import CancelledError, Deferred

from crew_tx import Reply
from crew_tx.codec import LARGE
from crew_tx.errors import (
    BrokerBlockedError,
    ConnectionLostError,
    DecodeError,
    DuplicateCallIdError,
    EncodeError,
    ExpirationError,
    InvalidArgumentError,
    MessageTooLargeError,
    NoWorkersError,
    PoisonError,
    PublishNackedError,
    QueueFullError,
    RejectedError,
    RemoteError,
    TaskTimeoutError,
    UnknownTaskError,
    UnroutableError,
)
from crew_tx.rpc import plan
from tests.clients import FAILURE, ClientTestCase
from tests.roles import CODEC


class WireTests(ClientTestCase):
    """A call's bytes: where it goes, and what it says."""

    def test_a_call_with_nothing_but_its_task(self) -> None:
        """Mandatory, by the task's id, with the defaults of the documentation."""
        self.connect()
        _, sent = self.called()
        self.assertEqual(
            sent.fields | {"ticket": 0},
            {
                "ticket": 0,
                "exchange": "crew.tasks",
                "routing_key": "sum",
                "mandatory": True,
                "immediate": False,
            },
        )
        assert sent.properties is not None
        call_id = sent.properties["correlation_id"]
        client_id = self.client.client_id
        self.assertEqual(
            sent.properties,
            {
                "type": "crew.call",
                "correlation_id": call_id,
                "message_id": call_id,
                "reply_to": client_id,
                "expiration": "86400000",
                "delivery_mode": 2,
                "priority": 0,
                "timestamp": 1000,
                "content_type": "application/cbor",
                "app_id": "crew_tx",
                "headers": {
                    "crew-task": "sum",
                    "crew-timeout": 86_400_000,
                    "crew-attempt": 1,
                    "CC": [f"@{client_id}"],
                },
            },
        )
        self.assertIsNone(CODEC.decode(sent.body or b"", "application/cbor"))

    def test_what_a_caller_may_say(self) -> None:
        """All of it is on the wire."""
        self.connect()
        _, sent = self.called(
            data={"x": 1},
            priority=255,
            expiration=1.5,
            timeout=0.25,
            persistent=False,
            headers={"colour": "grün"},
            serializer="json",
            compress="gzip",
            call_id="mine",
        )
        assert sent.properties is not None
        said = {name: sent.properties[name] for name in ("priority", "expiration", "delivery_mode")}
        self.assertEqual(said, {"priority": 10, "expiration": "1500", "delivery_mode": 1})
        self.assertEqual(sent.properties["message_id"], "mine")
        self.assertEqual(sent.properties["headers"]["crew-timeout"], 250)
        self.assertEqual(sent.properties["headers"]["colour"], "grün")
        content = sent.properties["content_type"], sent.properties["content_encoding"]
        self.assertEqual(content, ("application/json", "gzip"))
        self.assertEqual(CODEC.decode(sent.body or b"", *content), {"x": 1})

    def test_the_timeout_falls_back_to_the_expiration(self) -> None:
        """As the seed has it."""
        self.connect()
        _, sent = self.called(expiration=7)
        assert sent.properties is not None
        self.assertEqual(sent.properties["headers"]["crew-timeout"], 7000)

    def test_the_clients_serializer_serves_where_no_other_is_named(self) -> None:
        """And cbor where the client names none."""
        self.connect(serializer="json")
        _, sent = self.called()
        assert sent.properties is not None
        self.assertEqual((sent.body, sent.properties["content_type"]), (b"null", "application/json"))

    def test_each_call_has_an_id_of_its_own(self) -> None:
        """No two, of whatever client."""
        self.connect()
        ids = {self.called()[1].properties["message_id"] for _ in range(5)}  # type: ignore[index]
        self.assertEqual(len(ids), 5)

    def test_calls_that_differ_in_one_thing_differ_on_the_wire(self) -> None:
        """Nothing that is kept from one call serves for another unlike it."""
        self.connect()
        differences: list[dict[str, Any]] = [
            {},
            {"task_id": "other"},
            {"priority": 255},
            {"expiration": 5},
            {"timeout": 5},
            {"persistent": False},
            {"serializer": "json"},
            {"compress": "gzip"},
            {"headers": {"a": 1}},
        ]
        wires = []
        for options in (*differences, *differences):
            _, sent = self.called(**options)
            assert sent.properties is not None
            wires.append({**sent.properties, "message_id": "", "correlation_id": "", "body": sent.body})
        self.assertEqual(wires[:9], wires[9:])
        self.assertEqual(len({repr(wire) for wire in wires}), 9)

    def test_call_request_and_send_say_the_same(self) -> None:
        """But for who is to reply, where nobody is."""
        self.connect()
        for options in ({}, {"data": 5, "priority": 99, "expiration": 7, "timeout": 3, "persistent": False}):
            wires = []
            for style in (self.client.call, self.client.request, self.client.send):
                # Of each the id is another: of a cancelled call none is made anew.
                call_id = f"{style.__name__} {options}"
                style("sum", call_id=call_id, **options).addErrback(lambda _: None).cancel()
                # Behind it the workers may be told that it was cancelled.
                sent = self.published()[0]
                assert sent.properties is not None
                ids = [sent.properties.pop(name) for name in ("message_id", "correlation_id")]
                self.assertEqual([call_id] * 2, ids)
                sent.properties.pop("reply_to", None)
                sent.properties["headers"].pop("CC", None)
                wires.append((sent.fields, sent.properties, sent.body))
            self.assertEqual(wires[1:], wires[:1] * 2)

    def test_what_calls_have_in_common_is_worked_out_once(self) -> None:
        """In whatever style they are made, but for one-way calls, which say less."""
        self.connect()
        made: list[object] = []
        template = plan.CallTemplate
        self.patch(plan, "CallTemplate", lambda properties: made.append(properties) or template(properties))
        for _ in range(2):
            self.call()
            self.call(call_id="mine").cancel()
            self.client.request("sum").addErrback(lambda _: None)
            self.client.call("sum", callback=lambda outcome, headers: None)
        self.assertEqual(len(made), 1)
        for call_id in (None, "mine", None):
            self.client.send("sum", call_id=call_id).addErrback(lambda _: None)
        self.assertEqual(len(made), 2)

    def test_time_goes_by_between_alike_calls(self) -> None:
        """Each has its own timestamp."""
        self.connect()
        stamps = []
        for _ in range(2):
            stamps.append(self.called()[1].properties["timestamp"])  # type: ignore[index]
            self.reactor.advance(7)
        self.assertEqual(stamps, [1000, 1007])

    def test_a_large_body_is_encoded_in_a_thread(self) -> None:
        """And the reactor goes on."""
        self.connect()
        self.call(data=b"x" * (2 * LARGE), compress=False)
        self.assertEqual(self.published(), [])
        self.reactor.threads.step()
        [sent] = self.published()
        self.assertEqual(CODEC.decode(sent.body or b"", "application/cbor"), b"x" * (2 * LARGE))

    def test_a_call_that_ended_while_it_was_encoded_is_not_sent(self) -> None:
        """Nor is another made of it that has its id."""
        self.connect()
        self.call(data=b"x" * (2 * LARGE), call_id="mine").cancel()
        self.call(data=b"y" * (2 * LARGE), call_id="mine")
        self.reactor.threads.step()
        self.assertEqual(self.published(), [])
        self.reactor.threads.step()
        self.assertEqual(len(self.published()), 1)


class RefusedTests(ClientTestCase):
    """What fails at once: nothing is sent, and nothing is left."""

    def assertRefused(
        self, kind: type[Exception], task_id: Any = "sum", data: Any = None, **options: Any
    ) -> Any:
        """A call fails with a Deferred, whatever is wrong with it."""
        error = self.failureResultOf(self.call(task_id, data, **options), kind).value
        self.assertEqual(self.published(), [])
        return error

    def setUp(self) -> None:
        super().setUp()
        self.connect(max_message_size=1000)

    def tearDown(self) -> None:
        self.assertEqual(self.client.status().pending, 0)

    def test_arguments(self) -> None:
        """Each of the wrong type or out of its range."""
        for options in (
            {"task_id": ""},
            {"task_id": "@a"},
            {"task_id": None},
            {"priority": 256},
            {"expiration": 0},
            {"timeout": -1},
            {"headers": {"CC": 1}},
            {"headers": ["a"]},
            {"serializer": "yaml"},
            {"serializer": ["cbor"]},
            {"compress": "rar"},
            {"call_id": ""},
            {"call_id": "\ud800"},
            {"priority": []},
        ):
            self.assertRefused(InvalidArgumentError, **options)

    def test_arguments_that_are_equal_to_good_ones(self) -> None:
        """True is no number, though it is 1; what was right before makes nothing else right."""
        for name, good, wrong in (
            ("priority", 1, True),
            ("priority", 1, 1.0),
            ("expiration", 1, True),
            ("expiration", 5.0, Decimal(5)),
            ("timeout", 1.0, True),
        ):
            self.called(**{name: good})[0].cancel()
            self.published()
            self.assertRefused(InvalidArgumentError, **{name: wrong})
            self.client.send("sum", **{name: good}).addErrback(lambda _: None)
            self.published()
            self.failureResultOf(self.client.send("sum", **{name: wrong}), InvalidArgumentError)

    def test_data_that_cannot_be_written(self) -> None:
        """With the content type that was asked for."""
        self.assertEqual(self.assertRefused(EncodeError, data=object()).content_type, "application/cbor")
        self.assertEqual(
            self.assertRefused(EncodeError, data=b"x", serializer="json").content_type, "application/json"
        )

    def test_headers_that_cannot_be_written(self) -> None:
        """Named, or too large together."""
        self.assertIn("odd", str(self.assertRefused(EncodeError, headers={"odd": object()})))
        self.assertRefused(EncodeError, headers={"large": "x" * 70_000})

    def test_data_that_is_too_large(self) -> None:
        """With its size and the limit."""
        error = self.assertRefused(MessageTooLargeError, data=b"x" * 2000)
        self.assertEqual((error.size > 2000, error.limit), (True, 1000))

    def test_large_data_that_cannot_be_written(self) -> None:
        """In a thread: the error comes from there."""
        call = self.call(data=[b"x" * (2 * LARGE), object()])
        self.assertNoResult(call)
        self.reactor.threads.step()
        self.failureResultOf(call, EncodeError)

    def test_an_id_that_is_taken(self) -> None:
        """The first call goes on."""
        first, sent = self.called(call_id="mine")
        self.assertRefused(DuplicateCallIdError, call_id="mine")
        self.reply(sent, 12)
        self.assertEqual(self.successResultOf(first), 12)


class AnsweredTests(ClientTestCase):
    """The good end."""

    def setUp(self) -> None:
        super().setUp()
        self.connect()

    def test_the_value_comes_back(self) -> None:
        """Before or after the confirm of the call."""
        for confirmed_first in (True, False):
            deferred, sent = self.called()
            if confirmed_first:
                self.confirm(self.channel, self.tag + 1)
            self.assertNoResult(deferred)
            self.reply(sent, {"sum": 12})
            self.assertEqual(self.successResultOf(deferred), {"sum": 12})

    def test_a_request_gives_a_reply(self) -> None:
        """Value, headers, worker, elapsed."""
        deferred = self.client.request("sum", {"x": 1}, priority=5)
        [sent] = self.published()
        self.reply(sent, 12, headers={"colour": "red"}, worker="w", elapsed=0.5)
        self.assertEqual(self.successResultOf(deferred), Reply(12, {"colour": "red"}, "w", 0.5))

    def test_replies_are_acknowledged(self) -> None:
        """Many at a time, by the channel that they came by."""
        for _ in range(3):
            self.reply(self.called()[1])
        self.assertEqual(self.peer.read(), [])
        self.reactor.advance(0.02)
        ack = self.peer.one("basic.ack")
        self.assertEqual((ack.channel, ack.fields), (self.channel, {"delivery_tag": 3, "multiple": True}))

    def test_a_message_that_makes_no_sense_is_acknowledged_too(self) -> None:
        """It would come again for ever; it is counted."""
        self.into_reply_queue({}, b"?")
        self.reactor.advance(0.02)
        self.assertEqual(self.peer.one("basic.ack").fields["delivery_tag"], 1)
        self.assertEqual(self.client.status().undecodable, 1)

    def test_a_large_reply_is_read_in_a_thread(self) -> None:
        """The reactor goes on meanwhile."""
        deferred, sent = self.called()
        self.reply(sent, "x" * (2 * LARGE))
        self.assertNoResult(deferred)
        self.reactor.threads.step()
        self.assertEqual(len(self.successResultOf(deferred)), 2 * LARGE)

    def test_a_second_reply_is_counted(self) -> None:
        """And so is one to nobody."""
        _, sent = self.called()
        self.reply(sent, 1)
        self.reply(sent, 2)
        self.reply(sent, 3, call_id="unknown")
        status = self.client.status()
        self.assertEqual((status.answers, status.duplicate_replies, status.late_replies), (1, 1, 1))


class CallbackTests(ClientTestCase):
    """The callback style, as crew had it."""

    def setUp(self) -> None:
        super().setUp()
        self.connect()
        self.got: list[tuple[Any, Any]] = []

    def callback(self, outcome: Any, headers: Any) -> None:
        """Keeps what it is given."""
        self.got.append((outcome, headers))

    def test_it_gets_the_value_and_the_headers(self) -> None:
        """And the caller has the call's id."""
        call_id = self.client.call("sum", callback=self.callback)
        [sent] = self.published()
        self.assertEqual(sent.properties["message_id"], call_id)  # type: ignore[index]
        self.reply(sent, 12, headers={"colour": "red"})
        self.assertEqual(self.got, [(12, {"colour": "red"})])

    def test_it_gets_the_error(self) -> None:
        """In the value's place."""
        call_id = self.client.call("sum", call_id="mine", callback=self.callback)
        self.assertEqual(call_id, "mine")
        [sent] = self.published()
        self.reply(sent, FAILURE, error="raised")
        [(error, headers)] = self.got
        self.assertIsInstance(error, RemoteError)
        self.assertEqual(headers, {})

    def test_it_gets_the_callers_own_error_as_well(self) -> None:
        """Whatever style: nothing is raised."""
        self.client.call("", callback=self.callback)
        self.assertIsInstance(self.got[0][0], InvalidArgumentError)

    def test_one_that_fails_is_logged(self) -> None:
        """It is nobody else's trouble."""

        def fail(outcome: Any, headers: Any) -> None:
            raise KeyError(outcome)

        self.client.call("sum", callback=fail)
        [sent] = self.published()
        self.reply(sent, 12)
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)


class WorkerErrorTests(ClientTestCase):
    """A worker answered, with an error."""

    def setUp(self) -> None:
        super().setUp()
        self.connect()

    def failed(self, kind: type[Exception], error: str) -> Any:
        """What a call fails with."""
        deferred, sent = self.called()
        self.reply(sent, FAILURE, error=error, worker="w")
        return self.failureResultOf(deferred, kind).value

    def test_the_task_raised(self) -> None:
        """With type, message, traceback and worker."""
        error = self.failed(RemoteError, "raised")
        self.assertEqual(
            (error.type, error.message, error.traceback, error.worker),
            ("ValueError", "no", "Traceback ...", "w"),
        )

    def test_the_others(self) -> None:
        """Over its time, unknown to the worker, held too long."""
        self.assertEqual(self.failed(TaskTimeoutError, "timeout").worker, "w")
        self.assertEqual(self.failed(UnknownTaskError, "unknown-task").worker, "w")
        self.assertEqual(self.failed(ExpirationError, "expired").reason, "held")
        self.assertEqual(self.client.status().errors, 3)

    def test_a_reply_that_cannot_be_read(self) -> None:
        """Content type and size, and no byte of it."""
        deferred, sent = self.called()
        self.reply(sent, body=b"\xffsecret", content_type="application/cbor")
        error = self.failureResultOf(deferred, DecodeError).value
        self.assertEqual((error.content_type, error.size), ("application/cbor", 7))
        self.assertNotIn("secret", str(error))


class DeliveryErrorTests(ClientTestCase):
    """No worker answered."""

    def setUp(self) -> None:
        super().setUp()
        self.connect()

    def test_no_queue_for_the_task(self) -> None:
        """The broker returns it, and confirms it, too."""
        deferred, sent = self.called()
        self.give_back(self.channel, sent)
        self.assertEqual(self.failureResultOf(deferred, UnroutableError).value.task_id, "sum")
        self.confirm(self.channel, 1)
        self.assertEqual(self.client.status().unconfirmed, 0)

    def test_the_right_one_of_many_is_returned(self) -> None:
        """By its message id, whatever else is on its way."""
        calls = [self.called(task_id=f"task {number}") for number in range(3)]
        self.give_back(self.channel, calls[1][1])
        self.assertEqual(self.failureResultOf(calls[1][0], UnroutableError).value.task_id, "task 1")
        self.assertNoResult(calls[0][0])
        self.assertNoResult(calls[2][0])

    def test_the_broker_refuses_it(self) -> None:
        """A queue that is full and says so."""
        deferred, _ = self.called()
        self.nack(self.channel, 1)
        self.failureResultOf(deferred, PublishNackedError)

    def test_dead_letters(self) -> None:
        """Each of the broker's reasons has an error."""
        for reason, kind in (
            ("maxlen", QueueFullError),
            ("rejected", RejectedError),
            ("delivery_limit", PoisonError),
        ):
            deferred, sent = self.called()
            self.dead_letter(sent, reason=reason, queue="crew.tasks.sum")
            self.assertEqual(self.failureResultOf(deferred, kind).value.queue, "crew.tasks.sum")

    def test_it_expired_in_its_queue(self) -> None:
        """With what the broker wrote of it."""
        deferred, sent = self.called(expiration=1.5)
        when = datetime(2024, 5, 1, tzinfo=UTC)
        self.dead_letter(
            sent, reason="expired", queue="crew.tasks.sum", time=when, **{"original-expiration": "1500"}
        )
        error = self.failureResultOf(deferred, ExpirationError).value
        self.assertEqual(
            (error.reason, error.expiration, error.queue, error.time),
            ("expired", 1.5, "crew.tasks.sum", when.timestamp()),
        )

    def test_nothing_was_heard_of_it(self) -> None:
        """After expiration, timeout and two seconds; the reply that comes then is late."""
        deferred, sent = self.called(expiration=3, timeout=4)
        self.confirm(self.channel, 1)
        self.advance(8.5)
        self.assertNoResult(deferred)
        self.advance(0.5)
        self.assertEqual(self.failureResultOf(deferred, ExpirationError).value.reason, "unanswered")
        self.reply(sent, 12)
        self.assertEqual(self.client.status().late_replies, 1)

    def test_it_is_cancelled(self) -> None:
        """At once; a reply that comes is late."""
        deferred, sent = self.called()
        deferred.cancel()
        self.failureResultOf(deferred, CancelledError)
        self.reply(sent, 12)
        self.assertEqual((self.client.status().pending, self.client.status().late_replies), (0, 1))

    def test_cancelled_before_it_was_written(self) -> None:
        """It never is."""
        self.block()
        self.call().cancel()
        self.assertEqual(self.client.status().waiting, 0)
        self.unblock()
        self.assertEqual(self.published(), [])


class SendTests(ClientTestCase):
    """One way."""

    def send(self, *arguments: Any, **options: Any) -> Deferred[None]:
        """A message's Deferred."""
        deferred = self.client.send(*arguments, **options)
        self.addCleanup(deferred.addErrback, lambda _: None)
        return deferred

    def test_it_fires_with_the_confirm(self) -> None:
        """And not before."""
        self.connect()
        deferred = self.send("sum", {"x": 1}, priority=255, headers={"a": 1})
        [sent] = self.published()
        self.assertNoResult(deferred)
        self.confirm(self.channel, 1)
        self.assertIsNone(self.successResultOf(deferred))
        self.assertEqual(CODEC.decode(sent.body or b"", "application/cbor"), {"x": 1})

    def test_nobody_is_to_reply(self) -> None:
        """It has no reply-to, and no CC: its dead letters go to crew.dead."""
        self.connect()
        self.send("sum", call_id="mine")
        [sent] = self.published()
        assert sent.properties is not None
        self.assertNotIn("reply_to", sent.properties)
        self.assertNotIn("CC", sent.properties["headers"])
        self.assertEqual((sent.properties["type"], sent.properties["message_id"]), ("crew.call", "mine"))
        self.assertEqual(self.client.status().pending, 0)

    def test_what_goes_wrong(self) -> None:
        """As far as it is known by then."""
        self.connect()
        self.failureResultOf(self.send(""), InvalidArgumentError)
        self.failureResultOf(self.send("sum", object()), EncodeError)
        self.failureResultOf(self.send("sum", headers={"odd": object()}), EncodeError)
        returned = self.send("sum")
        [sent] = self.published()
        self.give_back(self.channel, sent)
        self.failureResultOf(returned, UnroutableError)
        refused = self.send("sum")
        self.nack(self.channel, 2)
        self.failureResultOf(refused, PublishNackedError)
        lost = self.send("sum")
        self.peer.lose()
        self.failureResultOf(lost, ConnectionLostError)

    def test_one_that_is_cancelled_while_it_is_encoded_is_not_sent(self) -> None:
        """As with calls."""
        self.connect()
        self.send("sum", b"x" * (2 * LARGE)).cancel()
        self.reactor.threads.step()
        self.assertEqual(self.published(), [])

    def test_its_id_is_checked(self) -> None:
        """As a call's is."""
        self.connect()
        self.failureResultOf(self.send("sum", call_id="x" * 256), InvalidArgumentError)
        self.assertEqual(self.published(), [])

    def test_large_data_goes_by_a_thread(self) -> None:
        """Good or bad."""
        self.connect()
        self.send("sum", b"x" * (2 * LARGE))
        bad = self.send("sum", [b"x" * (2 * LARGE), object()])
        self.assertEqual(self.published(), [])
        self.reactor.threads.step()
        self.reactor.threads.step()
        self.assertEqual(len(self.published()), 1)
        self.failureResultOf(bad, EncodeError)


class RequireWorkerTests(ClientTestCase):
    """Only if a worker is there now."""

    def setUp(self) -> None:
        super().setUp()
        self.connect()

    def test_a_probe_goes_first(self) -> None:
        """The call follows when a worker has it."""
        deferred, probe = self.called(require_worker=True)
        self.assertEqual((probe.fields["exchange"], probe.fields["routing_key"]), ("crew.workers", "sum"))
        self.assertTrue(probe.fields["mandatory"])
        self.confirm(self.channel, 1)
        [sent] = self.published()
        self.assertEqual(sent.fields["exchange"], "crew.tasks")
        self.reply(sent, 12)
        self.assertEqual(self.successResultOf(deferred), 12)

    def test_no_workers(self) -> None:
        """The probe is returned, and the call is not made."""
        deferred, probe = self.called(require_worker=True)
        self.give_back(self.channel, probe)
        self.confirm(self.channel, 1)
        self.assertEqual(self.failureResultOf(deferred, NoWorkersError).value.task_id, "sum")
        self.assertEqual(self.published(), [])

    def test_a_broker_that_is_blocked(self) -> None:
        """Neither goes out."""
        self.block()
        deferred = self.call(require_worker=True)
        self.advance(31)
        self.failureResultOf(deferred, BrokerBlockedError)
        self.unblock()
        self.assertEqual(self.published(), [])


class ParallelTests(ClientTestCase):
    """Several at a time."""

    def test_values_and_errors_in_the_order_of_the_calls(self) -> None:
        """However the answers come."""
        self.connect()
        with self.client.parallel() as calls:
            calls.call("a")
            calls.call("b", 5, priority=7)
            calls.call("")
            result = calls.result()
        first, second = self.published()
        self.reply(second, FAILURE, error="raised")
        self.assertNoResult(result)
        self.reply(first, 1)
        one, two, three = self.successResultOf(result)
        self.assertEqual(one, 1)
        self.assertIsInstance(two, RemoteError)
        self.assertIsInstance(three, InvalidArgumentError)

    def test_none_at_all(self) -> None:
        """An empty list, at once."""
        self.assertEqual(self.successResultOf(self.client.parallel().result()), [])
