"""The tree of errors: who is at fault, and what a program finds in them."""

from __future__ import annotations

import builtins
import inspect

from twisted.trial.unittest import SynchronousTestCase

from crew_tx import errors
from crew_tx.errors import (
    BrokerBlockedError,
    CallerError,
    ConfigurationError,
    ConnectionLostError,
    CrewError,
    DeadLetterError,
    DecodeError,
    DeliveryError,
    DuplicateCallIdError,
    DuplicateTaskIdError,
    EncodeError,
    ExpirationError,
    InvalidArgumentError,
    MessageTooLargeError,
    NoWorkersError,
    OutboxFullError,
    PublishTimeoutError,
    QueueFullError,
    RemoteError,
    TaskError,
    TaskTimeoutError,
    TimeLimitExceeded,
    UnknownTaskError,
    UnroutableError,
)


def _of(base: type[BaseException]) -> set[str]:
    """The names of all errors below one."""
    return {
        name
        for name, kind in vars(errors).items()
        if inspect.isclass(kind) and issubclass(kind, base) and kind is not base
    }


class TreeTests(SynchronousTestCase):
    """One base, and branches by fault and phase."""

    def test_everything_but_the_time_limit_is_a_crew_error(self) -> None:
        """``except CrewError`` is enough for a caller; a task's thread is ended by a SystemExit."""
        self.assertEqual(_of(BaseException) - _of(CrewError) - {"CrewError"}, {"TimeLimitExceeded"})
        self.assertTrue(issubclass(TimeLimitExceeded, SystemExit))
        self.assertFalse(issubclass(TimeLimitExceeded, Exception))

    def test_the_callers_own(self) -> None:
        """Nothing was sent."""
        self.assertEqual(
            _of(CallerError),
            {
                "ClientStoppedError",
                "DuplicateCallIdError",
                "EncodeError",
                "ForkedError",
                "InvalidArgumentError",
                "MessageTooLargeError",
                "OutboxFullError",
                "WrongThreadError",
            },
        )

    def test_the_delivery(self) -> None:
        """No worker answered for it."""
        self.assertEqual(
            _of(DeliveryError),
            {
                "DeadLetterError",
                "ExpirationError",
                "NoWorkersError",
                "PoisonError",
                "PublishNackedError",
                "QueueFullError",
                "RejectedError",
                "ReplyLostError",
                "UnroutableError",
            },
        )
        self.assertEqual(_of(DeadLetterError), {"PoisonError", "QueueFullError", "RejectedError"})

    def test_the_tasks(self) -> None:
        """A worker answered, with an error."""
        self.assertEqual(
            _of(TaskError),
            {
                "MessageRefusedError",
                "RemoteError",
                "TaskCancelledError",
                "TaskTimeoutError",
                "UnknownTaskError",
            },
        )

    def test_the_brokers_refusals(self) -> None:
        """A channel or the connection was closed with a reply code."""
        self.assertEqual(
            _of(errors.AMQPError),
            {
                "AccessRefusedError",
                "AuthenticationError",
                "NotFoundError",
                "PreconditionFailedError",
                "ProtocolError",
                "ResourceLockedError",
            },
        )

    def test_python_programs_know_them_by_pythons_names(self) -> None:
        """``except TimeoutError``, as crew's callers have it; and so on."""
        for kind, builtin in (
            (TaskTimeoutError, builtins.TimeoutError),
            (PublishTimeoutError, builtins.TimeoutError),
            (ConnectionLostError, builtins.ConnectionError),
            (InvalidArgumentError, ValueError),
        ):
            self.assertTrue(issubclass(kind, builtin), kind)
        self.assertTrue(issubclass(DuplicateTaskIdError, ConfigurationError))


class DataTests(SynchronousTestCase):
    """What a program may act on is an attribute; the text says the remedy."""

    def assertHas(self, error: CrewError, **attributes: object) -> None:
        """Check an error's attributes."""
        self.assertEqual({name: getattr(error, name) for name in attributes}, attributes)

    def test_errors_about_bodies_have_content_type_and_size(self) -> None:
        """Never the body."""
        self.assertHas(EncodeError("no", content_type="text/plain"), content_type="text/plain")
        self.assertHas(EncodeError("no"), content_type=None)
        self.assertHas(DecodeError("no", content_type="a/b", size=5), content_type="a/b", size=5)
        self.assertHas(DecodeError("no"), content_type=None, size=None)
        self.assertHas(MessageTooLargeError("no", size=6, limit=5), size=6, limit=5)

    def test_a_full_outbox_says_how_full(self) -> None:
        """In messages and bytes."""
        error = OutboxFullError(7, 800)
        self.assertHas(error, messages=7, size=800)
        self.assertIn("7 messages of 800 bytes", str(error))

    def test_errors_of_publishing_say_whether_it_may_have_been_sent(self) -> None:
        """Only then can a caller know whether to send it again."""
        self.assertHas(ConnectionLostError("gone"), maybe_sent=False)
        self.assertHas(ConnectionLostError("gone", maybe_sent=True), maybe_sent=True)
        self.assertHas(PublishTimeoutError("late", maybe_sent=True), maybe_sent=True)
        error = BrokerBlockedError("low on memory", maybe_sent=False)
        self.assertHas(error, reason="low on memory", maybe_sent=False)
        self.assertIn("low on memory", str(error))

    def test_refusals_have_the_brokers_code_and_words(self) -> None:
        """And none where there were none."""
        error = errors.NotFoundError("no queue", reply_code=404, reply_text="NOT_FOUND")
        self.assertHas(error, reply_code=404, reply_text="NOT_FOUND")
        self.assertHas(errors.AMQPError("odd"), reply_code=None, reply_text="")

    def test_errors_about_a_task_name_it(self) -> None:
        """As an attribute, and in the text."""
        for error in (
            UnroutableError("sum"),
            NoWorkersError("sum"),
            DuplicateTaskIdError("sum", "here", "there"),
        ):
            self.assertHas(error, task_id="sum")
            self.assertIn("'sum'", str(error))
        duplicate = str(DuplicateTaskIdError("sum", "here", "there"))
        self.assertIn("here has it already", duplicate)
        self.assertIn("give there another", duplicate)

    def test_a_call_id_that_is_taken_is_named(self) -> None:
        """The remedy is to leave it out."""
        error = DuplicateCallIdError("c1")
        self.assertHas(error, call_id="c1")
        self.assertIn("'c1'", str(error))
        self.assertIn("was cancelled", str(DuplicateCallIdError("c1", was_given_up=True)))

    def test_what_expired_says_why_where_and_when(self) -> None:
        """As far as it is known."""
        error = ExpirationError("late", reason="expired", expiration=1.5, queue="q", time=5.0)
        self.assertHas(error, reason="expired", expiration=1.5, queue="q", time=5.0)
        self.assertHas(
            ExpirationError("late", reason="held"), reason="held", expiration=None, queue=None, time=None
        )

    def test_a_dead_letter_has_the_brokers_reason(self) -> None:
        """And the queue that it was in."""
        self.assertHas(QueueFullError("full", reason="maxlen", queue="q"), reason="maxlen", queue="q")
        self.assertHas(QueueFullError("full", reason="maxlen"), queue=None)

    def test_the_workers_errors_name_the_worker(self) -> None:
        """Where it is known."""
        self.assertHas(UnknownTaskError("no", worker="w"), worker="w")
        self.assertHas(TaskTimeoutError("late"), worker=None)


class RemoteErrorTests(SynchronousTestCase):
    """What a task raised, as text."""

    def test_its_parts_are_attributes(self) -> None:
        """Type, message, traceback, worker."""
        error = RemoteError("builtins.ValueError", "no", "Traceback ...", worker="w")
        self.assertEqual(
            (error.type, error.message, error.traceback, error.worker),
            ("builtins.ValueError", "no", "Traceback ...", "w"),
        )

    def test_its_text_shows_the_remote_traceback(self) -> None:
        """Below the exception itself, with the worker that it comes from."""
        text = str(RemoteError("ValueError", "no", "  File x\nValueError: no\n", worker="w"))
        self.assertEqual(text, "ValueError: no\n\nRemote traceback (worker w):\n  File x\nValueError: no")

    def test_an_unknown_worker_is_left_out(self) -> None:
        """Its traceback is there all the same."""
        self.assertEqual(str(RemoteError("E", "no", "trace")), "E: no\n\nRemote traceback:\ntrace")

    def test_without_a_traceback_it_is_one_line(self) -> None:
        """A worker of another language may send none."""
        self.assertEqual(str(RemoteError("E", "no", worker="w")), "E: no")
