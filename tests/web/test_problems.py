"""Which status an error is."""

from __future__ import annotations

import inspect
import json

from twisted.trial.unittest import SynchronousTestCase

from crew_tx import errors
from crew_tx.web.problems import Problem, problem_of

EXAMPLES = {
    404: (errors.UnroutableError("a"), errors.UnknownTaskError("no a")),
    400: (errors.InvalidArgumentError("priority"),),
    413: (errors.MessageTooLargeError("large", size=2, limit=1),),
    422: (errors.EncodeError("no"),),
    429: (errors.QueueFullError("full", reason="maxlen"), errors.PublishNackedError("no")),
    500: (
        errors.RemoteError("ValueError", "no"),
        errors.PoisonError("poison", reason="delivery_limit"),
        errors.CrewError("?"),
    ),
    502: (
        errors.DecodeError("no"),
        errors.MessageRefusedError("unsigned"),
        errors.RejectedError("no", reason="rejected"),
    ),
    503: (
        errors.NoWorkersError("a"),
        errors.ConnectionLostError("lost"),
        errors.BrokerBlockedError("disk", maybe_sent=False),
        errors.PublishTimeoutError("late", maybe_sent=False),
        errors.OutboxFullError(1, 2),
        errors.ClientStoppedError("stopped"),
        errors.ReplyLostError("lost"),
        errors.TaskCancelledError("cancelled"),
        errors.AccessRefusedError("no", reply_code=403),
    ),
    504: (errors.TaskTimeoutError("late"), errors.ExpirationError("late", reason="expired")),
}


class StatusTests(SynchronousTestCase):
    """The table."""

    def test_each_error_has_its_status(self) -> None:
        """All of a call's are told apart."""
        for status, examples in EXAMPLES.items():
            for error in examples:
                self.assertEqual(status, problem_of(error).status, error)

    def test_every_error_that_a_call_can_end_with_is_in_it(self) -> None:
        """A new one has to be thought of here."""
        others = {
            "CallerError",
            "DuplicateCallIdError",
            "WrongThreadError",
            "ForkedError",
            "WaitTimeoutError",
            "AMQPError",
            "AuthenticationError",
            "NotFoundError",
            "ResourceLockedError",
            "PreconditionFailedError",
            "ProtocolError",
            "DeliveryError",
            "DeadLetterError",
            "TaskError",
            "TaskProcessDiedError",
            "ThreadsStuckError",
            "ConfigurationError",
            "DuplicateTaskIdError",
        }
        there = {type(error).__name__ for examples in EXAMPLES.values() for error in examples}
        known = {
            name
            for name, each in vars(errors).items()
            if inspect.isclass(each) and issubclass(each, errors.CrewError)
        }
        self.assertEqual(set(), known - there - others)

    def test_trying_again_is_for_what_may_pass_and_was_not_done(self) -> None:
        """Where the message may be with the broker, it could run twice."""
        self.assertEqual(1, problem_of(errors.ConnectionLostError("lost")).retry_after)
        problem = problem_of(errors.ConnectionLostError("lost", maybe_sent=True))
        self.assertIsNone(problem.retry_after)
        self.assertTrue(json.loads(problem.body)["maybe_sent"])
        self.assertIsNone(problem_of(errors.TaskTimeoutError("late")).retry_after)

    def test_what_is_of_the_broker_stays_inside(self) -> None:
        """Its host, its users and its queues."""
        for error in (
            errors.ConnectionLostError("amqp://neo@10.0.0.1"),
            errors.AccessRefusedError("neo@10.0.0.1"),
            errors.MessageRefusedError("the key neo is unknown to worker-1"),
        ):
            self.assertNotIn("neo", problem_of(error).detail)


class DocumentTests(SynchronousTestCase):
    """Problem documents."""

    def test_a_document_says_what_is_wrong(self) -> None:
        """By RFC 9457, with members of ours."""
        problem = Problem(503, "later", error="NoWorkersError", members={"a": 1}, retry_after=1)
        self.assertEqual(
            {
                "type": "about:blank",
                "title": "Service Unavailable",
                "status": 503,
                "detail": "later",
                "error": "NoWorkersError",
                "a": 1,
            },
            json.loads(problem.body),
        )
        self.assertEqual(
            (("Content-Type", "application/problem+json"), ("Retry-After", "1")), problem.all_headers
        )

    def test_a_tasks_texts_are_cut(self) -> None:
        """And may have anything in them."""
        error = errors.RemoteError("x" * 9000, "\ud800\x00" * 9000, "t" * 100_000)
        for shown in (False, True):
            self.assertLess(len(problem_of(error, show_tracebacks=shown).body), 80_000)
        self.assertNotIn("traceback", problem_of(error).members)
