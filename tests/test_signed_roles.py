"""Clients and workers that sign, and somebody between them who alters, copies and forges."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from random import Random
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from crew_tx.amqp.delivery import Delivery
from crew_tx.broker._messages import Message
from crew_tx.broker._model import Published
from crew_tx.client import Client
from crew_tx.errors import ExpirationError, MessageRefusedError, RemoteError
from crew_tx.message import call_from
from crew_tx.rpc.digests import CALL_FIELDS, call_head, call_rest
from crew_tx.signing import WINDOW, SigningKeys
from crew_tx.testing import CrewHarness
from crew_tx.worker import Task, context

KEYS = SigningKeys({"k": b"k" * 32})
NEW_KEYS = SigningKeys({"new": b"n" * 32, "k": b"k" * 32})
OTHER_KEYS = SigningKeys({"other": b"o" * 32})
SAME_ID = SigningKeys({"k": b"s" * 32})
SIGNATURE = "crew-signature"
#: So many octets on the wire as well: it can't be compressed.
LARGE = Random(7).randbytes(300_000)

Alter = Callable[[Message], Message]


def altered(
    message: Message,
    *,
    exchange: str | None = None,
    routing_key: str | None = None,
    body: bytes | None = None,
    headers: dict[str, Any] | None = None,
    **properties: Any,
) -> Message:
    """Another message like it; a header or a property that is None is left out."""
    merged = {**message.headers, **(headers or {})}
    all_properties = {**message.properties, **properties}
    all_properties["headers"] = {name: value for name, value in merged.items() if value is not None}
    return Message(
        message.exchange if exchange is None else exchange,
        message.routing_key if routing_key is None else routing_key,
        {name: value for name, value in all_properties.items() if value is not None},
        message.body if body is None else body,
    )


class Middle:
    """
    Sits in the broker.

    :ivar seen: what came by.
    :ivar alter: makes another message of each that comes by.
    :ivar extra: makes one more message of the next reply, which comes right behind it.
    """

    def __init__(self, harness: CrewHarness) -> None:
        self._harness = harness
        self._host: Any = harness.broker._model.host
        self._publish = self._host.publish
        self._host.publish = self._came
        self.seen: list[Message] = []
        self.alter: Alter = lambda message: message
        self.extra: Alter | None = None

    def _came(self, message: Message, now: float) -> Published:
        self.seen.append(message)
        published: Published = self._publish(self.alter(message), now)
        if self.extra is not None and message.exchange == "crew.replies":
            extra, self.extra = self.extra, None
            self._publish(extra(message), now)
        return published

    def last(self, exchange: str) -> Message:
        """What was sent to an exchange last."""
        return next(message for message in reversed(self.seen) if message.exchange == exchange)

    def send(self, message: Message) -> None:
        """Publish a message, and let it arrive."""
        self._publish(message, self._harness.clock.seconds())
        self._harness.broker._factory.changed()
        self._harness.flush()


class SignedTestCase(SynchronousTestCase):
    """A client and a worker with one key."""

    worker_keys: SigningKeys | None = KEYS
    client_keys: SigningKeys | None = KEYS

    def setUp(self) -> None:
        self.runs: list[object] = []

        @Task("work")
        def work(req: object) -> object:
            self.runs.append(req)
            context.headers["seen"] = dict(context.request.headers)
            return req

        @Task("fail")
        def fail(req: object) -> None:
            raise ValueError("no")

        self.harness = CrewHarness(
            work, fail, client={"signing_keys": self.client_keys}, worker={"signing_keys": self.worker_keys}
        ).install(self)
        self.middle = Middle(self.harness)
        self.client = self.harness.client
        self.worker = self.harness.worker

    def call(self, req: object = 1, client: Client | None = None, **options: Any) -> Any:
        """What a call comes to."""
        return self.harness.result((client or self.client).call("work", req, **options))

    def begun(self, req: object = 1, **options: Any) -> Deferred[Any]:
        """A call on its way."""
        called: Deferred[Any] = self.client.call("work", req, **options)
        self.harness.flush()
        return called

    def late_error(self, call: Deferred[Any], seconds: float) -> str:
        """The text of what a call ends with at its deadline."""
        self.harness.advance(seconds)
        return str(self.failureResultOf(call, ExpirationError).value)


class WellTests(SignedTestCase):
    """What is signed and not altered is as it is without."""

    def test_calls_and_their_headers(self) -> None:
        """Of every type that a header can have."""
        headers = {
            "z": "text", "a": 1, "long": 2**40, "float": 1.5, "yes": True, "none": None, "bytes": b"\xff",
            "list": [1, "b", {"y": 1, "x": [b"1"]}], "table": {"b": 1, "a": {"d": "\u00e9", "c": None}},
        }  # fmt: skip
        reply = self.harness.result(self.client.request("work", 7, headers=headers, priority=200))
        self.assertEqual((7, headers), (reply.value, reply.headers["seen"]))
        self.assertEqual(7, self.call(7, persistent=False, expiration=5, timeout=3, serializer="json"))
        self.assertEqual(b"x" * 300_000, self.call(b"x" * 300_000))
        self.assertEqual("\u00e9", self.call("\u00e9", call_id="\u00e9" * 100))
        self.assertRaises(RemoteError, self.harness.result, self.client.call("fail"))
        self.harness.result(self.client.send("work", 8))
        self.assertEqual(8, self.runs[-1])
        self.assertEqual(({}, {}), (self.worker.status().refused, self.client.status().refused))

    def test_every_call_and_reply_has_a_signature(self) -> None:
        """By templates, and by hand."""
        for options in ({}, {"headers": {"a": 1}}):
            self.call(1, **options)
            for exchange, pattern in (
                ("crew.tasks", "^k [0-9]{13} [0-9a-f]{64}$"),
                ("crew.replies", "^k [0-9a-f]{64}$"),
            ):
                self.assertRegex(self.middle.last(exchange).headers[SIGNATURE], pattern)

    def test_commands(self) -> None:
        """And their answers."""
        [answer] = self.harness.result(self.client.control("stats", expect=1))
        self.assertEqual({}, answer["refused"])
        [answer] = self.harness.result(self.client.control("pause", expect=1))
        self.assertIs(True, answer["paused"])

    def test_the_key_of_a_command_is_signed(self) -> None:
        """One that only looks is signed by its key, and no signature makes more of it."""
        for name, key in (("stats", "look"), ("threads", "mgt")):
            self.harness.result(self.client.control(name, self.worker.worker_id, {"n": 2}, expect=1))
            true = self.middle.last("crew.control")
            self.assertEqual(f"{key}.{self.worker.worker_id}", true.routing_key)
            self.middle.send(altered(true, routing_key="look" if key == "mgt" else "mgt"))
        self.assertEqual({"tampered": 2}, self.worker.status().refused)

    def test_cancels(self) -> None:
        """A queued call is dropped."""
        self.harness.hold("work")
        calls = [self.begun(number) for number in range(30)]
        for call in calls[9:]:
            call.cancel()
            self.failureResultOf(call, CancelledError)
        self.harness.flush()
        self.harness.release()
        self.assertLess(len(self.runs), 11)
        self.assertEqual({}, self.worker.status().refused)

    def test_a_cancel_by_the_next_connection_is_signed_anew(self) -> None:
        """Else it would be too old."""
        self.harness.hold("work")
        call = self.begun()
        self.harness.broker.raise_alarm()
        self.harness.flush()
        call.cancel()
        self.failureResultOf(call, CancelledError)
        self.harness.broker.cut_connections()
        self.harness.broker.clear_alarm()
        self.harness.advance(20)
        self.harness.release()
        self.assertEqual(({}, 0), (self.worker.status().refused, self.worker.status().in_progress))

    def test_a_call_that_is_sent_again_is_signed_anew(self) -> None:
        """Whichever copy is answered."""
        self.harness.connection().stall()
        call = self.begun(5)
        self.harness.connection().cut()
        self.harness.advance(20)
        self.assertEqual(5, self.successResultOf(call))
        self.assertEqual(2, self.middle.last("crew.tasks").headers["crew-attempt"])
        self.assertEqual({}, self.worker.status().refused)

    def test_what_the_broker_delivers_again_is_no_replay(self) -> None:
        """Neither what runs, nor what was not begun."""
        self.harness.hold("work")
        calls = [self.begun(number) for number in range(20)]
        self.harness.connection(self.worker).cut()
        self.harness.advance(10)
        self.harness.release()
        self.harness.advance(1)
        self.assertEqual(list(range(20)), [self.successResultOf(call) for call in calls])
        self.assertEqual({}, self.worker.status().refused)

    def test_a_client_with_another_id_signs_for_that(self) -> None:
        """When its reply queue is gone."""
        self.harness.broker.refuse_connections()
        self.harness.connection().cut()
        self.harness.broker.delete(f"crew.reply.{self.client.client_id}")
        call = self.begun(3)
        self.harness.broker.accept_connections()
        self.harness.advance(20)
        self.assertEqual(3, self.successResultOf(call))
        self.assertEqual({}, self.client.status().refused)

    def test_a_dead_letter_comes_home(self) -> None:
        """It has the signature that the client sent."""
        self.harness.result(self.worker.stopService())
        call = self.begun(expiration=5, timeout=60)
        self.harness.advance(6)
        self.assertEqual("expired", self.failureResultOf(call, ExpirationError).value.reason)

    def test_keys_are_changed_one_program_at_a_time(self) -> None:
        """Who has the new key besides the old one understands both."""
        newer = self.harness.new_client(signing_keys=SigningKeys({"k": b"k" * 32, "new": b"n" * 32}))
        self.assertEqual(1, self.call(client=newer))
        self.harness.result(self.worker.stopService())
        self.harness.new_worker(_echo, signing_keys=NEW_KEYS)
        self.assertEqual(2, self.harness.result(newer.call("echo", 2)))


@Task("echo")
def _echo(req: object) -> object:
    return req


class AlteredCallTests(SignedTestCase):
    """A worker refuses what is not as it was signed."""

    def refused(self, alter: Alter, reason: str = "tampered", **options: Any) -> None:
        """The call as it is altered is not run, is counted and logged, and its caller waits on."""
        before = self.worker.status().refused.get(reason, 0)
        self.middle.alter = lambda message: alter(message) if message.exchange == "crew.tasks" else message
        with capturedLogs() as events:
            call = self.begun(headers={"user": "u"}, expiration=10, **options)
        self.middle.alter = lambda message: message
        self.assertEqual([], self.runs)
        self.assertEqual(before + 1, self.worker.status().refused[reason])
        self.assertEqual(1, len([each for each in events if each.get("kind") == "the call"]), events)
        self.assertEqual(0, self.harness.broker.queue("crew.tasks.work").unacknowledged)
        call.addErrback(lambda failure: None)
        self.harness.advance(60)

    def test_everything_that_a_worker_acts_on(self) -> None:
        """Each by itself."""
        changes: list[dict[str, Any]] = [
            {"body": b"\x02"},
            {"headers": {"crew-task": "fail"}},
            {"headers": {"crew-timeout": 5}},
            {"headers": {"crew-attempt": 2}},
            {"headers": {"user": "root"}},
            {"headers": {"user": b"u"}},
            {"headers": {"user": None}},
            {"headers": {"more": 1}},
            {"headers": {SIGNATURE: "nothing"}},
            {"headers": {SIGNATURE: ["k"]}},
            {"content_type": "text/plain; charset=utf-8"},
            {"content_encoding": "gzip"},
            {"correlation_id": "another"},
            {"reply_to": "mallory"},
            {"reply_to": None},
            {"expiration": "99999"},
            {"priority": 9},
            {"delivery_mode": 1},
        ]
        for change in changes:
            self.refused(lambda message, change=change: altered(message, **change))

    def test_its_signature(self) -> None:
        """Each part of it."""

        def signed(change: Callable[[str], str]) -> Alter:
            return lambda message: altered(message, headers={SIGNATURE: change(message.headers[SIGNATURE])})

        self.refused(signed(lambda text: text[:-1] + ("0" if text[-1] != "0" else "1")))
        self.refused(signed(lambda text: text[:14] + "9" + text[15:]))
        self.refused(signed(lambda text: text + "0"))
        self.refused(signed(lambda text: text[:-1] + "\u00e9"))
        self.refused(signed(lambda text: "j" + text[1:]), "unknown-key")
        self.refused(lambda message: altered(message, headers={SIGNATURE: None}), "unsigned")

    def test_what_no_program_of_ours_sends(self) -> None:
        """Is no call: it is not rejected, since its dead letter could pass for a true one's."""
        with capturedLogs():
            self.refused_as_no_call({"headers": {"crew-task": None}})
            self.refused_as_no_call({"correlation_id": None})

    def refused_as_no_call(self, change: dict[str, Any]) -> None:
        before = self.worker.status().refused.get("tampered", 0)
        call = self.begun()
        self.assertEqual(1, self.successResultOf(call))
        self.middle.send(altered(self.middle.last("crew.tasks"), **change))
        self.assertEqual(before + 1, self.worker.status().refused["tampered"])
        self.assertEqual(0, self.harness.broker.queue("crew.tasks.work").ready)

    def test_a_call_of_another_task(self) -> None:
        """A copy is good for its own routing key alone."""
        self.assertEqual(1, self.call())
        self.middle.send(altered(self.middle.last("crew.tasks"), routing_key="fail"))
        self.assertEqual({"tampered": 1}, self.worker.status().refused)

    def test_its_caller_is_told_in_the_end(self) -> None:
        """At its deadline; before, whoever alters it could end any call."""
        self.middle.alter = lambda message: (
            altered(message, body=b"\x05") if message.exchange == "crew.tasks" else message
        )
        call = self.begun(expiration=5, timeout=5)
        self.assertEqual({"tampered": 1}, self.client.status().refused)
        self.assertIn("replies that were refused (1 tampered)", self.late_error(call, 13))

    def test_a_forged_copy_ends_no_call(self) -> None:
        """Whatever is wrong with it: its refusal is not of what the client sent."""
        self.harness.hold("work")
        call = self.begun(4)
        true = self.middle.last("crew.tasks")
        for headers in ({"more": 1}, {SIGNATURE: None}, {SIGNATURE: "x" + true.headers[SIGNATURE]}):
            self.middle.send(altered(true, headers=headers))
        self.middle.send(true)
        self.assertNoResult(call)
        self.assertEqual(4, sum(self.worker.status().refused.values()))
        self.assertEqual(3, sum(self.client.status().refused.values()))
        self.harness.release()
        self.assertEqual(4, self.successResultOf(call))


class LargeBodyTests(SignedTestCase):
    """Those are hashed in threads, on the way out and on the way in."""

    def test_an_altered_one_is_refused(self) -> None:
        """As any other; and one that is well is not."""
        self.assertEqual(LARGE, self.call(LARGE))
        true = self.middle.last("crew.tasks")
        self.middle.send(true)
        self.middle.send(altered(true, body=true.body[:-1] + b"y"))
        self.assertEqual(({"replayed": 1, "tampered": 1}, 1), (self.worker.status().refused, len(self.runs)))
        self.middle.alter = lambda message: (
            altered(message, body=message.body[:-1] + b"y") if message.exchange == "crew.replies" else message
        )
        call = self.begun(LARGE)
        self.assertNoResult(call)
        self.assertEqual({"tampered": 1}, self.client.status().refused)
        self.middle.send(self.middle.last("crew.replies"))
        self.assertEqual(LARGE, self.successResultOf(call))

    def held(self) -> list[Deferred[None]]:
        """What the worker's threads hash from now on waits."""
        worker: Any = self.worker
        waiting: list[Deferred[None]] = []

        def in_thread(function: Callable[..., Any], *args: Any) -> Deferred[Any]:
            waiting.append(Deferred())
            return waiting[-1].addCallback(lambda _: function(*args))

        self.patch(worker._reception, "_in_thread", in_thread)
        return waiting

    def test_a_connection_may_be_lost_meanwhile(self) -> None:
        """The broker delivers it again, and it is run once."""
        waiting = self.held()
        call = self.begun(LARGE)
        self.harness.connection(self.worker).cut()
        self.harness.advance(10)
        first, second = waiting
        first.callback(None)
        self.harness.flush()
        self.assertEqual([], self.runs)
        second.callback(None)
        self.harness.flush()
        self.assertEqual((LARGE, 1), (self.successResultOf(call), len(self.runs)))

    def test_a_worker_that_ends_meanwhile_hands_it_back(self) -> None:
        """It is for another one."""
        waiting = self.held()
        self.begun(LARGE).addErrback(lambda _: None)
        self.worker._reception._is_closed = True
        waiting[0].callback(None)
        self.worker._reception._is_closed = False
        self.harness.flush()
        self.assertEqual(([], 2), (self.runs, len(waiting)))
        waiting[1].callback(None)
        self.harness.flush()
        self.assertEqual(1, len(self.runs))

    def test_its_digest_is_no_body(self) -> None:
        """The signature of a large one is not that of its SHA-256."""
        self.assertEqual(LARGE, self.call(LARGE))
        true = self.middle.last("crew.tasks")
        self.middle.send(altered(true, body=sha256(true.body).digest()))
        self.assertEqual({"tampered": 1}, self.worker.status().refused)


class ReplayTests(SignedTestCase):
    """What was signed is taken once, and not for ever."""

    def test_a_call_is_taken_once(self) -> None:
        """A copy of it is not run, and nobody is told but the log."""
        self.assertEqual(1, self.call())
        with capturedLogs() as events:
            self.middle.send(self.middle.last("crew.tasks"))
        self.assertEqual([1], self.runs)
        self.assertEqual({"replayed": 1}, self.worker.status().refused)
        self.assertIn("replayed", [each.get("reason") for each in events])
        self.assertEqual((0, 0), (self.client.status().late_replies, self.client.status().duplicate_replies))

    def test_a_call_is_fresh_while_it_may_wait_and_the_window(self) -> None:
        """After that no worker takes it, whatever it remembers."""
        self.assertEqual(1, self.call(expiration=60))
        true = altered(self.middle.last("crew.tasks"), expiration="60000")
        self.harness.advance(60 + WINDOW + 1)
        self.middle.send(true)
        self.assertEqual(({"expired": 1}, [1]), (self.worker.status().refused, self.runs))

    def test_a_time_that_is_no_number(self) -> None:
        """Even where somebody with a key has signed it."""
        self.assertEqual(1, self.call())
        true = self.middle.last("crew.tasks")
        stamp = f"k {'soon':.<13} "
        call = call_from(true.properties, true.body)
        head = call_head(len(stamp), "crew.tasks", "work", "work", call[CALL_FIELDS])
        rest = call_rest(stamp.encode(), {}, call.call_id, call.body)
        signature = stamp + KEYS.signing.begin(head).ended(rest)
        self.middle.send(altered(true, headers={SIGNATURE: signature}))
        self.assertEqual(({"tampered": 1}, [1]), (self.worker.status().refused, self.runs))

    def test_a_clock_that_is_wrong_is_told_of(self) -> None:
        """At once, whether it is ahead or behind: the call is what the client sent."""
        clock = self.harness.clock
        self.harness.advance(1000)
        signer: Any = self.client._calling._signer
        for off in (WINDOW + 1, -WINDOW - 70):
            signer._seconds = lambda off=off: clock.seconds() + off
            error = self.assertRaises(MessageRefusedError, self.call, expiration=60)
            self.assertEqual("expired", error.reason)
        self.assertEqual(({"expired": 2}, []), (self.worker.status().refused, self.runs))

    def test_the_log_has_a_line_a_second(self) -> None:
        """It says how many it left out; and shows what came escaped and cut."""
        self.assertEqual(1, self.call())
        forged = altered(
            self.middle.last("crew.tasks"), correlation_id="\x1b" * 200, headers={SIGNATURE: None}
        )
        with capturedLogs() as events:
            for _ in range(5):
                self.middle.send(forged)
            self.harness.advance(1)
            self.middle.send(forged)
        lines = [each for each in events if each.get("reason") == "unsigned"]
        self.assertEqual(["", "; and 4 more since the last such line"], [each["untold"] for each in lines])
        self.assertEqual(ascii("\x1b" * 80), lines[0]["message_id"])


class ForgedReplyTests(SignedTestCase):
    """A client takes only what a worker with a key answered to what it sent."""

    def refused(self, alter: Alter, reason: str = "tampered") -> None:
        """The reply as it is altered ends no call, and the true one does."""
        self.middle.alter = lambda message: alter(message) if message.exchange == "crew.replies" else message
        call = self.begun(headers={"a": 1})
        self.middle.alter = lambda message: message
        self.assertNoResult(call)
        self.assertEqual(1, self.client.status().refused.pop(reason))
        self.middle.send(self.middle.last("crew.replies"))
        self.assertEqual(1, self.successResultOf(call))
        gate: Any = self.client._gate
        gate.refusals.counts.clear()

    def test_whatever_is_altered(self) -> None:
        """Each by itself."""
        changes: list[dict[str, Any]] = [
            {"body": b"\x02"},
            {"type": "crew.error"},
            {"type": "crew.error", "headers": {"crew-error": "timeout"}},
            {"headers": {"seen": {}}},
            {"headers": {"crew-worker": "another"}},
            {"headers": {"crew-elapsed": 7.5}},
            {"content_type": "application/json"},
            {"content_encoding": "gzip"},
            {"delivery_mode": 1},
            {"headers": {SIGNATURE: 7}},
        ]
        for change in changes:
            self.refused(lambda message, change=change: altered(message, **change))
        self.refused(lambda message: altered(message, headers={SIGNATURE: None}), "unsigned")

    def test_a_refusal_of_what_has_not_left(self) -> None:
        """Of a call whose body is encoded in a thread yet: it refers to nothing."""
        self.call()
        pending: Any = self.client._calling.pending
        waiting = pending.new("work", "job", 60.0, 60.0, False).deferred
        self.middle.send(
            altered(
                self.middle.last("crew.replies"),
                type="crew.error",
                correlation_id="job",
                headers={"crew-error": "refused"},
            )
        )
        self.assertNoResult(waiting)
        self.assertEqual({"tampered": 1}, self.client.status().refused)
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)

    def test_a_reply_to_an_earlier_call_of_the_same_id(self) -> None:
        """Is none to this one."""
        self.assertEqual("old", self.call("old", call_id="daily"))
        old = self.middle.last("crew.replies")
        self.harness.hold("work")
        call = self.begun("new", call_id="daily")
        self.middle.send(old)
        self.assertNoResult(call)
        self.harness.release()
        self.assertEqual("new", self.successResultOf(call))

    def test_a_forged_dead_letter(self) -> None:
        """Ends no call: it has no signature, or that of another message."""
        self.assertEqual(1, self.call())
        other = self.middle.last("crew.tasks").headers[SIGNATURE]
        self.harness.hold("work")
        call = self.begun(6)
        true = self.middle.last("crew.tasks")
        for signature in (None, other):
            self.middle.send(
                altered(
                    true,
                    exchange="crew.dlx",
                    routing_key=f"@{self.client.client_id}",
                    headers={SIGNATURE: signature, "CC": None},
                )
            )
        self.assertNoResult(call)
        self.assertEqual({"unsigned": 1, "tampered": 1}, self.client.status().refused)
        self.harness.release()
        self.assertEqual(6, self.successResultOf(call))


class OneReadTests(SignedTestCase):
    """
    What comes in one read with a reply, when its caller calls again at once.

    It is read before that call is made, and handed over when the call waits.
    """

    def two(self, extra: Alter, **options: Any) -> list[str]:
        """What two calls come to, one after the other."""
        values: list[str] = []
        self.middle.extra = extra

        async def both() -> None:
            for value in ("first", "second"):
                values.append(await self.client.call("work", value, **options))

        done = Deferred.fromCoroutine(both())
        self.harness.flush()
        self.successResultOf(done)
        self.assertEqual(0, self.client.status().pending)
        return values

    def next_id(self, message: Message) -> str:
        """The id that the next call will have, which can be guessed."""
        unique, _, number = message.properties["correlation_id"].rpartition(".")
        return f"{unique}.{int(number) + 1}"

    def test_a_forged_reply_to_the_next_call(self) -> None:
        """It has no signature, and is nobody's."""
        values = self.two(
            lambda reply: altered(reply, correlation_id=self.next_id(reply), headers={SIGNATURE: None})
        )
        self.assertEqual(["first", "second"], values)
        self.assertEqual(1, self.client.status().late_replies)

    def test_a_forged_dead_letter_of_the_next_call(self) -> None:
        """The same."""
        values = self.two(
            lambda reply: altered(
                reply, type="crew.call", correlation_id=self.next_id(reply), headers={SIGNATURE: None}
            )
        )
        self.assertEqual(["first", "second"], values)

    def test_a_copy_where_the_next_call_has_the_same_id(self) -> None:
        """It answers the call before, and that alone."""
        self.assertEqual(["first", "second"], self.two(lambda reply: reply, call_id="job"))
        self.assertEqual(1, self.client.status().duplicate_replies)


class ForgedCommandTests(SignedTestCase):
    """So with commands, their answers, and cancels."""

    def ping(self, client: Client | None = None) -> Any:
        waiting = (client or self.client).control("ping")
        self.harness.advance(1.1)
        return self.successResultOf(waiting)

    def test_an_unsigned_command_is_refused_and_told_so(self) -> None:
        """With the word for why."""
        [answer] = self.ping(self.harness.new_client(signing_keys=None))
        self.assertIn("unsigned", answer["error"])
        self.assertEqual({"unsigned": 1}, self.worker.status().refused)

    def test_an_altered_one_is_refused(self) -> None:
        """Whatever of it is."""
        self.assertEqual(1, len(self.ping()))
        true = self.middle.last("crew.control")
        changes: list[dict[str, Any]] = [
            {"body": true.body + b" "},
            {"routing_key": f"look.{self.worker.worker_id}"},
            {"routing_key": "mgt"},
            {"reply_to": "mallory"},
            {"expiration": "9"},
            {"content_type": "application/json"},
            {"correlation_id": "other"},
        ]
        for change in changes:
            self.middle.send(altered(true, **change))
        self.assertEqual({"tampered": len(changes)}, self.worker.status().refused)

    def test_a_copy_is_refused(self) -> None:
        """At once as a replay, and later as too old."""
        self.assertEqual(1, len(self.ping()))
        true = self.middle.last("crew.control")
        self.middle.send(true)
        self.harness.advance(WINDOW + 1)
        self.middle.send(true)
        self.assertEqual({"replayed": 1, "expired": 1}, self.worker.status().refused)

    def test_an_altered_answer_is_dropped(self) -> None:
        """It is counted."""
        self.middle.alter = lambda message: (
            altered(message, headers={"crew-worker": "w"}) if message.exchange == "crew.replies" else message
        )
        self.assertEqual([], self.ping())
        self.assertEqual({"tampered": 1}, self.client.status().refused)

    def test_a_forged_cancel_cancels_nothing(self) -> None:
        """Nor does a cancel that is meant for another call."""
        self.harness.hold("work")
        first, second = self.begun("first", call_id="1"), self.begun("second", call_id="2")
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.harness.flush()
        true = self.middle.last("crew.workers")
        self.middle.send(altered(true, correlation_id="2"))
        self.middle.send(altered(true, correlation_id="2", headers={SIGNATURE: None}))
        self.middle.send(true)
        self.harness.release()
        self.assertEqual("second", self.successResultOf(second))
        self.assertEqual({"tampered": 1, "unsigned": 1, "replayed": 1}, self.worker.status().refused)


class UnsignedCallerTests(SignedTestCase):
    """A client without keys, and a worker with some."""

    client_keys = None

    def test_it_is_told_at_once(self) -> None:
        """What it takes."""
        error = self.assertRaises(MessageRefusedError, self.call)
        self.assertEqual(("unsigned", self.worker.worker_id), (error.reason, error.worker))
        self.assertEqual(([], {"unsigned": 1}), (self.runs, self.worker.status().refused))

    def test_a_worker_that_ends_hands_its_call_back(self) -> None:
        """It looks at nothing any more."""
        reception: Any = self.worker._reception
        handed_back: list[int] = []

        class Taken:
            def hand_back(self) -> None:
                handed_back.append(1)

        reception.close()
        self.assertIsNone(reception.check(Delivery("t", 1, False, "crew.tasks", "work", {}, b""), Taken()))
        self.assertEqual(([1], {}), (handed_back, self.worker.status().refused))

    def test_one_way_it_is_not(self) -> None:
        """Nothing is left in the queue."""
        self.harness.result(self.client.send("work"))
        self.harness.flush()
        self.assertEqual(([], {"unsigned": 1}), (self.runs, self.worker.status().refused))
        self.assertEqual(0, self.harness.broker.queue("crew.tasks.work").unacknowledged)


class UnsignedWorkerTests(SignedTestCase):
    """A client with keys, and a worker without."""

    worker_keys = None

    def test_its_replies_are_refused(self) -> None:
        """The log says so, and so does the call in the end."""
        with capturedLogs() as events:
            call = self.begun(expiration=5, timeout=5)
        self.assertEqual([1], self.runs)
        self.assertIn("unsigned", [each.get("reason") for each in events])
        self.assertIn("(1 unsigned)", self.late_error(call, 13))


class ForeignKeyTests(SignedTestCase):
    """Two that have no key in common."""

    client_keys = OTHER_KEYS

    def test_neither_takes_what_the_other_says(self) -> None:
        """Both have a word for it."""
        call = self.begun(expiration=5, timeout=5)
        self.assertEqual({"unknown-key": 1}, self.worker.status().refused)
        self.assertIn("(1 unknown-key)", self.late_error(call, 13))


class HalfwayTests(SignedTestCase):
    """A client that signs with a key that its worker doesn't have yet, and knows the worker's."""

    client_keys = NEW_KEYS

    def test_it_is_told_at_once(self) -> None:
        """The refusal is signed by a key that it has, and is of what it sent."""
        error = self.assertRaises(MessageRefusedError, self.call)
        self.assertEqual("unknown-key", error.reason)


class SameIdTests(SignedTestCase):
    """Two keys of one id."""

    client_keys = SAME_ID

    def test_it_looks_tampered_with(self) -> None:
        """Both ways; the text says what else it may be."""
        with capturedLogs() as events:
            call = self.begun(expiration=5, timeout=5)
        self.assertIn("has another secret there", events[0]["text"])
        self.assertIn("(1 tampered)", self.late_error(call, 13))
