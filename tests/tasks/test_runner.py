"""The calls of one worker: held, started, limited and answered, on a clock and stepped threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from crew_tx.codec import LARGE, Codec
from crew_tx.errors import TimeLimitExceeded
from crew_tx.interfaces import IHeldCalls
from crew_tx.message import Answer, Call, check_headers
from crew_tx.tasks.attempt import Attempt
from crew_tx.tasks.context import Settings, context
from crew_tx.tasks.pool import ThreadPool
from crew_tx.tasks.registry import Registry, Service, Task
from crew_tx.tasks.runner import TaskRunner
from crew_tx.testing.stepped import SteppedThreads

_CODEC = Codec()


@Task("echo")
def echo(req: Any) -> Any:
    """Gives back what it is given."""
    return req


@Task("other", queue="others")
def other(req: Any) -> Any:
    """In a queue of another name."""
    return req


@Task("short", timeout=2)
def short(req: Any) -> Any:
    """Has a limit of its own."""
    return req


@Task("fail")
def fail(req: Any) -> Any:
    """Raises."""
    raise ValueError(req)


class RunnerTestCase(SynchronousTestCase):
    """Tests with a runner."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000)
        self.threads = SteppedThreads()
        self.answers: list[tuple[Attempt, Answer]] = []
        self.waiting: list[Deferred[Any]] = []
        self.in_thread: list[tuple[Deferred[Any], Callable[[], Any]]] = []
        self.addCleanup(lambda: self.assertEqual(self.clock.getDelayedCalls(), []))
        self.runner = self.make()

    def make(self, *tasks: Any, threads: int = 2, **options: Any) -> TaskRunner:
        """A runner of these tasks and of those above."""
        definitions = [getattr(task, "__crew_task__", task) for task in (echo, other, short, fail, *tasks)]
        self.pool = ThreadPool(
            self.clock, self.threads, size=threads, on_idle=lambda: self.runner.start_held()
        )
        self.runner = TaskRunner(
            self.clock,
            Registry(definitions),
            _CODEC,
            self.pool,
            lambda attempt, answer: self.answers.append((attempt, answer)),
            worker_id="w",
            settings=Settings(counter=5),
            check_headers=check_headers,
            in_thread=self._in_thread,
            **options,
        )
        self.addCleanup(self.runner.stop)
        return self.runner

    def _in_thread(self, function: Callable[..., Any], *arguments: Any) -> Deferred[Any]:
        self.in_thread.append((Deferred(), lambda: function(*arguments)))
        return self.in_thread[-1][0]

    def take(self, task_id: str = "echo", data: Any = None, **changes: Any) -> None:
        """A call comes; its id is its data, unless it is given another."""
        encoded = _CODEC.encode(data, compress=False)
        call = Call(task_id, str(data), encoded.body, encoded.content_type, reply_to="c")
        self.runner.take(call._replace(**changes), f"delivery of {data}")

    def answered(self) -> list[Any]:
        """The values, or the kinds of errors, that were answered since the last time."""
        answers, self.answers = self.answers, []
        return [answer.error or self.value(answer) for _, answer in answers]

    def value(self, answer: Answer) -> Any:
        """What an answer's body says."""
        return _CODEC.decode(answer.body, answer.content_type, answer.content_encoding)

    def asynchronous(self, task_id: str = "later", **options: Any) -> Any:
        """A task that waits for a Deferred of ``self.waiting``."""

        @Task(task_id, **options)
        async def wait(req: Any) -> Any:
            self.waiting.append(Deferred())
            return await self.waiting[-1]

        return wait

    def counts(self) -> tuple[int, int, int]:
        """Processed, exceptions, timeouts."""
        return self.runner.processed, self.runner.exceptions, self.runner.timeouts


class StartTests(RunnerTestCase):
    """What is started, and what is held."""

    def test_a_call_is_run_in_a_thread_and_answered(self) -> None:
        """With its delivery, which settles it."""
        self.take("echo", 12)
        self.assertEqual((self.runner.in_progress, self.answered()), (1, []))
        self.threads.step()
        [(attempt, answer)] = self.answers
        self.assertEqual((attempt.delivery, answer.call_id, answer.worker), ("delivery of 12", "12", "w"))
        self.assertEqual(attempt.state, "done")
        self.assertEqual(self.answered(), [12])
        self.assertEqual((self.runner.in_progress, self.counts()), (0, (1, 0, 0)))

    def test_more_than_the_threads_are_held(self) -> None:
        """And started when one is free."""
        for number in range(4):
            self.take("echo", number)
        self.assertEqual((len(self.threads.jobs), self.runner.held, self.runner.in_progress), (2, 2, 2))
        self.threads.step()
        self.assertEqual((len(self.threads.jobs), self.runner.held, self.runner.in_progress), (2, 1, 2))
        self.threads.step_all()
        self.assertEqual(self.answered(), [0, 1, 2, 3])

    def test_what_is_held_is_started_by_priority(self) -> None:
        """The highest first; at one priority, the first to come."""
        self.make(threads=1)
        self.take("echo", "running")
        for data, priority in (("low", 0), ("high", 9), ("low too", 0), ("high too", 9)):
            self.take("echo", data, priority=priority)
        self.threads.step_all()
        self.assertEqual(self.answered(), ["running", "high", "high too", "low", "low too"])

    def test_what_is_held_is_started_fairly_between_queues(self) -> None:
        """A long one doesn't keep a short one waiting."""
        self.make(threads=1)
        self.take("echo", "running")
        for data in (1, 2, 3):
            self.take("echo", data)
        self.take("other", "a")
        self.threads.step_all()
        self.assertEqual(self.answered(), ["running", 1, "a", 2, 3])

    def test_nobody_passes_what_is_held(self) -> None:
        """A call that comes when a thread is free waits behind those that wait."""
        runner = self.make(threads=1)
        self.take("echo", "running")
        self.take("echo", "held", priority=5)
        start_held, runner.start_held = runner.start_held, lambda: None  # type: ignore[method-assign]
        self.threads.step()
        self.take("echo", "new")
        self.assertEqual((runner.held, self.pool.idle), (2, 1))
        start_held()
        self.threads.step()
        self.assertEqual(self.answered(), ["running", "held"])
        start_held()
        self.threads.step_all()

    def test_an_unknown_task_is_answered_at_once(self) -> None:
        """It names the task, and counts as an exception."""
        self.take("unknown", 1)
        [(attempt, answer)] = self.answers
        self.assertEqual((answer.error, answer.elapsed, attempt.state), ("unknown-task", 0.0, "failed"))
        self.assertIn("'unknown'", self.value(answer)["message"])
        self.assertEqual(self.value(answer)["type"], "crew_tx.errors.UnknownTaskError")
        self.assertEqual(self.counts(), (0, 1, 0))

    def test_a_task_that_raises_is_answered(self) -> None:
        """It counts as an exception."""
        self.take("fail", "no")
        self.threads.step()
        [(attempt, answer)] = self.answers
        self.assertEqual((answer.error, attempt.state), ("raised", "failed"))
        self.assertEqual(self.value(answer)["type"], "ValueError")
        self.assertEqual(self.counts(), (0, 1, 0))

    def test_a_service_runs_as_well(self) -> None:
        """Both ways of calling its methods."""

        class Sums:
            def c_add(self, req: dict[str, int]) -> int:
                return req["x"] + req["y"]

        self.make(*Service("sums", Sums()).tasks())
        self.take("sums.add", {"x": 1, "y": 2})
        self.take("sums", {"c": "add", "x": 3, "y": 4})
        self.threads.step_all()
        self.assertEqual(self.answered(), [3, 7])

    def test_the_last_ten_waiting_times_are_kept(self) -> None:
        """Seconds from a call's arrival to its start."""
        self.make(threads=1)
        for number in range(12):
            self.take("echo", number)
        for _ in range(12):
            self.clock.advance(1)
            self.threads.step()
        self.assertEqual(list(self.runner.waittimes), [2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 11.0])


class ContextTests(RunnerTestCase):
    """What a task finds in its context."""

    def test_settings_request_and_time_left(self) -> None:
        """Of its own call; its time counts from when the call came."""
        seen: list[Any] = []

        @Task("look", timeout=30)
        def look(req: Any) -> None:
            request = context.request
            seen.append((context.settings.counter, request.id, request.time_left, context.cancelled))
            context.headers["colour"] = "red"

        self.make(look, threads=1)
        self.take("echo", "running")
        self.take("look", "c1")
        self.clock.advance(4)
        self.threads.step_all()
        self.assertEqual(seen, [(5, "c1", 26.0, False)])
        self.assertEqual([answer.headers for _, answer in self.answers], [{}, {"colour": "red"}])

    def test_the_publisher_is_handed_on(self) -> None:
        """``context.pubsub`` is what the worker gives."""
        published: list[tuple[str, Any]] = []

        class Publisher:
            def publish(self, channel: str, data: Any) -> None:
                published.append((channel, data))

        @Task("tell")
        def tell(req: Any) -> None:
            context.pubsub.publish("news", req)

        self.make(tell, publisher=Publisher())
        self.take("tell", 5)
        self.threads.step()
        self.assertEqual(published, [("news", 5)])

    def test_headers_that_cannot_be_sent_are_an_error(self) -> None:
        """By the check that the worker gives."""

        @Task("mark")
        def mark(req: Any) -> None:
            context.headers["CC"] = "x"

        self.make(mark)
        self.take("mark")
        self.threads.step()
        self.assertEqual(self.answered(), ["raised"])


class AsynchronousTests(RunnerTestCase):
    """Tasks on the reactor."""

    def test_they_need_no_thread(self) -> None:
        """However many run, and whatever the threads do."""
        self.make(self.asynchronous(), threads=1)
        self.take("echo", "running")
        self.take("echo", "held")
        for number in range(3):
            self.take("later", number)
        self.assertEqual((len(self.waiting), self.runner.held, self.runner.in_progress), (3, 1, 4))
        self.waiting[1].callback("b")
        self.assertEqual(self.answered(), ["b"])
        for waiting in (self.waiting[0], self.waiting[2]):
            waiting.callback(None)

    def test_one_that_has_nothing_to_wait_for_is_answered_at_once(self) -> None:
        """Nothing of it is left."""

        @Task("now")
        async def now(req: Any) -> Any:
            return context.request.id

        self.make(now)
        self.take("now", "c1")
        self.assertEqual(self.answered(), ["c1"])
        self.assertEqual((self.runner.in_progress, self.counts()), (0, (1, 0, 0)))

    def test_a_function_that_returns_a_deferred(self) -> None:
        """Declared with ``reactor=True``."""

        @Task("deferred", reactor=True)
        def deferred(req: Any) -> Deferred[Any]:
            self.waiting.append(Deferred())
            return self.waiting[-1]

        self.make(deferred)
        self.take("deferred")
        self.waiting[0].callback(7)
        self.assertEqual(self.answered(), [7])

    def test_one_that_raises_is_answered(self) -> None:
        """As any other."""
        self.make(self.asynchronous())
        self.take("later")
        self.waiting[0].errback(ValueError("no"))
        self.assertEqual((self.answered(), self.counts()), (["raised"], (0, 1, 0)))

    def test_large_bodies_are_coded_in_a_thread(self) -> None:
        """By what the worker gives for it."""

        @Task("large")
        async def large(req: Any) -> Any:
            return req

        self.make(large)
        self.take("large", b"x" * (2 * LARGE), call_id="c1")
        for _ in range(2):
            self.assertEqual(self.answered(), [])
            waiting, function = self.in_thread.pop()
            waiting.callback(function())
        self.assertEqual(self.answered(), [b"x" * (2 * LARGE)])

    def test_over_its_limit_it_is_cancelled(self) -> None:
        """The caller is told, and what it waits for is given up."""
        self.make(self.asynchronous(timeout=2))
        self.take("later")
        self.clock.advance(2)
        self.assertEqual((self.answered(), self.counts()), (["timeout"], (0, 0, 1)))
        self.assertTrue(self.waiting[0].called)
        self.assertEqual(self.runner.in_progress, 0)

    def test_one_that_cannot_be_cancelled_costs_no_other_its_limit(self) -> None:
        """It is answered for, and left to itself."""

        @Task("stubborn", timeout=2, reactor=True)
        def stubborn(req: Any) -> Deferred[Any]:
            def refuse(deferred: Deferred[Any]) -> None:
                raise RuntimeError("never")

            self.waiting.append(Deferred(refuse))
            return self.waiting[-1]

        self.make(stubborn)
        self.take("stubborn", 1)
        self.take("short", 2)
        ended = self.runner.when_ended()
        self.clock.advance(2)
        self.assertEqual(self.answered(), ["timeout", "timeout"])
        self.successResultOf(ended)
        self.threads.step_all()


class LimitTests(RunnerTestCase):
    """Time limits."""

    def test_the_caller_is_told_at_the_limit(self) -> None:
        """At once, whatever the thread does; that is interrupted."""
        self.take("echo", 1, timeout=3_000)
        self.clock.advance(2.9)
        self.assertEqual(self.answered(), [])
        self.clock.advance(0.1)
        [(attempt, answer)] = self.answers
        self.assertEqual((answer.error, answer.elapsed, attempt.state), ("timeout", 3.0, "timed out"))
        self.assertEqual(self.value(answer)["message"], "the task 'echo' ran over its time limit")
        self.assertEqual(self.value(answer)["type"], "crew_tx.errors.TaskTimeoutError")
        self.assertEqual(self.counts(), (0, 0, 1))
        self.threads.step()

    def test_the_tasks_own_limit_holds_as_well(self) -> None:
        """The smaller of the two."""
        self.take("short", 1, timeout=60_000)
        self.take("short", 2, timeout=1_000)
        self.clock.advance(1)
        self.assertEqual([attempt.call.call_id for attempt, _ in self.answers], ["2"])
        self.clock.advance(1)
        self.assertEqual([attempt.call.call_id for attempt, _ in self.answers], ["2", "1"])
        self.threads.step_all()

    def test_what_comes_after_the_limit_is_dropped(self) -> None:
        """The answer has gone out."""
        self.take("short", 1)
        self.clock.advance(2)
        self.answered()
        self.threads.step()
        self.assertEqual((self.answered(), self.counts()), ([], (0, 0, 1)))

    def test_the_task_is_interrupted_and_knows(self) -> None:
        """Its thread gets a TimeLimitExceeded, and ``context.cancelled`` is true."""
        self.take("short", 1)
        [job] = self.threads.jobs
        self.clock.advance(2)
        self.assertTrue(job.context.cancelled)  # type: ignore[attr-defined]
        self.threads.step()
        self.assertEqual(self.pool.status().busy, 0)

    def test_an_answer_in_time_ends_the_limit(self) -> None:
        """Nothing comes after it."""
        self.take("short", 1)
        self.threads.step()
        self.clock.advance(10)
        self.assertEqual((self.answered(), self.counts()), ([1], (1, 0, 0)))

    def test_a_limit_counts_from_the_arrival(self) -> None:
        """What was held for most of it has the rest."""
        self.make(threads=1)
        self.take("echo", "running")
        self.take("echo", "held", timeout=3_000)
        self.clock.advance(2)
        self.threads.step()
        self.clock.advance(0.9)
        self.assertEqual(self.answered(), ["running"])
        self.clock.advance(0.1)
        self.assertEqual(self.answered(), ["timeout"])
        self.threads.step_all()

    def test_what_is_held_too_long_has_expired(self) -> None:
        """It was never taken; no thread runs it after that."""
        self.make(threads=1)
        self.take("echo", "running")
        self.take("echo", "held", expiration=1_500, timeout=60_000)
        self.clock.advance(1.5)
        [(attempt, answer)] = self.answers
        self.assertEqual((answer.error, attempt.state, attempt.call.call_id), ("expired", "expired", "held"))
        self.assertIn("1.5 s", self.value(answer)["message"])
        self.assertEqual(self.value(answer)["type"], "crew_tx.errors.ExpirationError")
        self.assertEqual((self.runner.held, self.counts()), (0, (0, 0, 0)))
        self.threads.step_all()
        self.assertEqual(self.answered(), ["expired", "running"])

    def test_what_is_held_over_its_limit_timed_out(self) -> None:
        """The limit counts from the arrival, so it would be over before it began."""
        self.make(threads=1)
        self.take("echo", "running")
        self.take("short", "held", expiration=60_000)
        self.clock.advance(2)
        [(_, answer)] = self.answers
        self.check_waited(answer)
        self.assertEqual((self.answered(), self.counts()), (["timeout"], (0, 0, 1)))
        self.threads.step_all()

    def check_waited(self, answer: Answer) -> None:
        """It says that no thread was free for 2 s; and the task did not run at all."""
        message = self.value(answer)["message"]
        self.assertEqual(
            message, "the task 'short' waited in the worker for a thread for 2 s, which is its time limit"
        )
        self.assertEqual(answer.elapsed, 0.0)

    def test_what_no_thread_began_within_its_limit_waited_as_well(self) -> None:
        """Though it was given to the threads already; none of them runs it after that."""
        self.make(threads=1)
        self.runner.give_ahead(1)
        self.take("echo", "running")
        self.take("short", "given", expiration=60_000)
        self.assertEqual(len(self.threads.jobs), 2)
        self.clock.advance(2)
        [(attempt, answer)] = self.answers
        self.assertEqual((attempt.call.call_id, attempt.state, attempt.started), ("given", "timed out", None))
        self.check_waited(answer)
        self.threads.step_all()
        self.assertEqual((self.answered(), self.counts()), (["timeout", "running"], (1, 0, 1)))

    def test_what_no_thread_began_within_its_expiration_has_expired(self) -> None:
        """Told at its limit: until then it might have been begun."""
        self.make(threads=1)
        self.runner.give_ahead(1)
        self.take("echo", "running")
        self.take("short", "given", expiration=1_500)
        self.clock.advance(2)
        self.assertEqual((self.answered(), self.counts()), (["expired"], (0, 0, 0)))
        self.threads.step_all()

    def test_a_job_that_was_interrupted_as_it_ended(self) -> None:
        """What got out of it is answered, where it has no answer yet."""
        self.take("echo", 1)
        [job] = self.threads.jobs
        job.finished(TimeLimitExceeded())
        [(_, answer)] = self.answers
        self.assertEqual((answer.error, answer.worker), ("raised", "w"))
        self.assertEqual(self.value(answer)["type"], "crew_tx.errors.TimeLimitExceeded")
        self.threads.step()

    def test_a_thread_that_goes_on_is_replaced(self) -> None:
        """And what is held is started in its place."""
        self.make(threads=1)
        self.take("short", "hangs")
        self.take("echo", "held")
        self.clock.advance(2)
        self.assertEqual((self.answered(), self.runner.held), (["timeout"], 1))
        self.clock.advance(5)
        self.assertEqual(self.runner.held, 0)
        self.threads.step(self.threads.jobs[1])
        self.assertEqual(self.answered(), ["held"])
        [stuck] = self.pool.status().stuck
        self.assertEqual((stuck.task_id, stuck.call_id), ("short", "hangs"))
        self.threads.step()


class HandBackTests(RunnerTestCase):
    """Letting go of what is not started."""

    def test_it_is_what_consumers_see(self) -> None:
        """All of the interface."""
        self.assertTrue(verifyObject(IHeldCalls, self.runner))

    def test_what_no_thread_has_begun_is_not_started(self) -> None:
        """Though it was given to them; what may not go is held, and started once more."""
        self.make(threads=1)
        self.runner.give_ahead(2)
        for data in ("running", "goes", "stays"):
            self.take("echo", data)
        self.assertEqual((len(self.threads.jobs), self.runner.held), (3, 2))
        attempts = self.runner.hand_back(lambda attempt: attempt.call.call_id == "goes")
        self.assertEqual([attempt.delivery for attempt in attempts], ["delivery of goes"])
        self.assertEqual((self.runner.held, self.runner.in_progress), (1, 1))
        self.threads.step_all()
        self.assertEqual(self.answered(), ["running", "stays"])

    def test_the_unstarted_are_handed_back(self) -> None:
        """In the order in which they would have been started; what runs goes on."""
        self.make(threads=1)
        for data, priority in (("running", 0), ("low", 0), ("high", 9)):
            self.take("echo", data, priority=priority)
        attempts = self.runner.hand_back()
        self.assertEqual([attempt.delivery for attempt in attempts], ["delivery of high", "delivery of low"])
        self.assertEqual({attempt.state for attempt in attempts}, {"returned"})
        self.assertEqual((self.runner.held, self.runner.in_progress), (0, 1))
        self.threads.step_all()
        self.assertEqual(self.answered(), ["running"])

    def test_nothing_is_heard_of_them_again(self) -> None:
        """Neither their time limits nor anything else."""
        self.make(threads=1)
        self.take("echo", "running")
        self.take("short", "held")
        self.runner.hand_back()
        self.clock.advance(10)
        self.assertEqual(self.answered(), [])
        self.threads.step_all()


class EndTests(RunnerTestCase):
    """When a worker may stop."""

    def test_with_nothing_running_it_has_ended(self) -> None:
        """At once."""
        self.successResultOf(self.runner.when_ended())

    def test_it_has_ended_when_the_last_is_answered(self) -> None:
        """In a thread or on the reactor; whoever asked is told."""
        self.make(self.asynchronous())
        self.take("echo", 1)
        self.take("later", 2)
        first, second = self.runner.when_ended(), self.runner.when_ended()
        self.threads.step()
        self.assertNoResult(first)
        self.waiting[0].callback(None)
        self.successResultOf(first)
        self.successResultOf(second)

    def test_a_task_over_its_limit_is_not_waited_for(self) -> None:
        """It is answered, and its thread may never end."""
        self.take("short", 1)
        ended = self.runner.when_ended()
        self.clock.advance(2)
        self.successResultOf(ended)
        self.threads.step()

    def test_who_gave_up_waiting_is_not_told(self) -> None:
        """The others are."""
        self.take("echo", 1)
        first, second = self.runner.when_ended(), self.runner.when_ended()
        first.addErrback(lambda _: None).cancel()
        self.threads.step()
        self.successResultOf(second)

    def test_stop_interrupts_without_an_answer(self) -> None:
        """The broker gives their calls to others when the connection ends."""
        self.make(self.asynchronous(), threads=1)
        self.take("echo", "running")
        self.take("echo", "held")
        self.take("later", "later")
        [job] = self.threads.jobs
        self.runner.stop()
        self.assertTrue(self.waiting[0].called)
        self.assertTrue(job.context.cancelled)  # type: ignore[attr-defined]
        self.threads.step_all()
        self.assertEqual((self.answered(), self.runner.held, self.runner.in_progress), ([], 0, 0))
        self.assertEqual(self.clock.getDelayedCalls(), [])


class ActiveTests(RunnerTestCase):
    """What runs, for people."""

    def shown(self) -> list[tuple[str, str, float, str, bool]]:
        """Task, id, seconds, thread, whether it is stuck."""
        return [(call.task, call.id, call.seconds, call.thread, call.stuck) for call in self.runner.active()]

    def test_what_runs_is_shown(self) -> None:
        """From its start; what is held is not, and an async task has no thread."""
        self.make(self.asynchronous(), threads=1)
        self.take("echo", 1)
        self.clock.advance(2)
        self.take("echo", 2)
        self.take("later", 3)
        self.clock.advance(1)
        self.assertEqual(self.shown(), [("echo", "1", 3.0, "crew-1", False), ("later", "3", 1.0, "", False)])
        self.assertEqual({call.caller for call in self.runner.active()}, {"c"})

    def test_a_stuck_one_is_shown_until_it_ends(self) -> None:
        """Though its caller has its answer."""
        self.take("short", 1)
        self.clock.advance(2)
        self.assertEqual((self.answered(), self.shown()), (["timeout"], []))
        self.clock.advance(5)
        self.assertEqual(self.shown(), [("short", "1", 7.0, "crew-1", True)])
        self.threads.step()
        self.assertEqual(self.shown(), [])


class CancelTests(RunnerTestCase):
    """Ending one call by its id."""

    def test_one_that_runs_in_a_thread(self) -> None:
        """Its caller is told once, and its thread is interrupted."""
        self.take("echo", 1)
        self.assertTrue(self.runner.cancel("1"))
        [(attempt, answer)] = self.answers
        self.assertEqual(attempt.state, "cancelled")
        self.assertEqual(self.value(answer)["type"], "crew_tx.errors.TaskCancelledError")
        self.assertEqual(self.answered(), ["cancelled"])
        self.threads.step()
        self.assertEqual((self.answered(), self.runner.in_progress), ([], 0))
        self.assertFalse(self.runner.cancel("1"))

    def test_one_that_is_held(self) -> None:
        """It is never begun, and its limit is forgotten."""
        for number in range(3):
            self.take("short", number)
        self.assertTrue(self.runner.cancel("2"))
        self.assertEqual((self.answered(), self.runner.held), (["cancelled"], 0))
        self.threads.step_all()
        self.assertEqual(self.answered(), [0, 1])

    def test_one_that_was_given_ahead(self) -> None:
        """No thread has begun it, and none will."""
        self.runner.give_ahead(2)
        for number in range(3):
            self.take("echo", number)
        self.assertTrue(self.runner.cancel("2"))
        self.assertEqual(self.answered(), ["cancelled"])
        self.threads.step_all()
        self.assertEqual(self.answered(), [0, 1])

    def test_one_on_the_reactor(self) -> None:
        """Its Deferred is cancelled."""
        self.make(self.asynchronous())
        self.take("later", 1)
        self.assertTrue(self.runner.cancel("1"))
        self.assertTrue(self.waiting[0].called)
        self.assertEqual(self.answered(), ["cancelled"])

    def test_one_that_is_not_here(self) -> None:
        """Nothing is done."""
        self.take("echo", 1)
        self.assertFalse(self.runner.cancel("2"))
        self.threads.step_all()
        self.assertEqual(self.answered(), [1])

    def test_the_last_one(self) -> None:
        """Whoever waits for the end is told."""
        self.take("echo", 1)
        ended = self.runner.when_ended()
        self.runner.cancel("1")
        self.successResultOf(ended)
