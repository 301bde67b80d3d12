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
from crew_tx.tasks.processes.frames import write_frame
from crew_tx.tasks.processes.messages import READY
from crew_tx.tasks.processes.pool import ProcessPool
from crew_tx.tasks.registry import Registry, Service, Task
from crew_tx.tasks.runner import TaskRunner
from crew_tx.tasks.suspects import GATHER
from crew_tx.testing.stepped import SteppedThreads
from tests.tasks.processes.test_pool import FakeChild

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


class UnbegunTests(RunnerTestCase):
    """What a thread was given and has not begun yet, though it is idle."""

    def test_what_waits_is_begun_when_it_is_cancelled(self) -> None:
        """Its thread passes it over: nothing runs then whose end would tell of the room."""
        self.make(threads=1)
        for data in ("given", "held"):
            self.take("echo", data)
        # As of real threads: no name for what is not begun.
        self.patch(self.threads, "interrupt", lambda job: "" if self.threads.recall(job) else None)
        self.threads.living = 0
        self.assertTrue(self.runner.cancel("given"))
        self.threads.living = 1
        self.threads.step_all()
        self.assertEqual(self.answered(), ["cancelled", "held"])

    def test_what_may_not_go_back_is_begun_again(self) -> None:
        """As soon as its thread has come to it."""
        self.make(threads=1)
        self.take("echo", "given")
        self.threads.living = 0
        self.assertEqual(self.runner.hand_back(lambda attempt: False), [])
        self.threads.living = 1
        self.assertEqual((self.runner.held, self.runner.in_progress), (1, 0))
        self.threads.step_all()
        self.assertEqual(self.answered(), ["given"])


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


class SuspectTests(RunnerTestCase):
    """Calls that were delivered often run alone."""

    def make(self, *tasks: Any, threads: int = 2, **options: Any) -> TaskRunner:
        self.rooms = 0
        return super().make(*tasks, threads=threads, on_room=self._note_room, **options)

    def _note_room(self) -> None:
        self.rooms += 1

    def suspect(
        self, task_id: str = "echo", data: Any = "suspect", deliveries: int = 3, **changes: Any
    ) -> None:
        """A suspect comes, and time enough goes by."""
        self.take(task_id, data, deliveries=deliveries, **changes)
        self.clock.advance(GATHER)

    def running(self) -> list[str]:
        """The ids of what runs."""
        return [call.id for call in self.runner.active()]

    def test_a_crash_and_a_hand_back_are_forgiven(self) -> None:
        """What was delivered twice runs as all others do."""
        for number in range(2):
            self.take("echo", number, deliveries=2)
        self.assertEqual(self.running(), ["0", "1"])
        self.threads.step_all()

    def test_one_runs_with_nothing_beside_it(self) -> None:
        """What runs ends first, and nothing new is started until it is through."""
        self.take("echo", "running")
        self.suspect("echo", "suspect", deliveries=3)
        self.take("echo", "new")
        self.assertEqual(
            (self.running(), self.runner.held, self.runner.threads.has_room), (["running"], 2, False)
        )
        self.threads.step()
        self.assertEqual((self.running(), self.runner.held), (["suspect"], 1))
        self.take("echo", "newer")
        self.assertEqual(self.running(), ["suspect"])
        self.threads.step()
        self.assertEqual(
            (self.running(), self.runner.threads.has_room, self.rooms), (["new", "newer"], False, 2)
        )
        self.threads.step_all()
        self.assertTrue(self.runner.threads.has_room)
        self.assertEqual(self.answered(), ["running", "suspect", "new", "newer"])

    def test_the_first_one_waits_for_those_that_come_with_it(self) -> None:
        """With an idle worker, too: a less suspicious one behind it in the queue goes before it."""
        self.take("echo", "first", deliveries=7)
        self.take("echo", "second", deliveries=3)
        self.take("echo", "new")
        self.assertEqual(self.running(), [])
        self.clock.advance(GATHER)
        self.assertEqual(self.running(), ["second"])
        self.threads.step_all()
        self.assertEqual(self.answered(), ["second", "first", "new"])

    def test_they_go_first(self) -> None:
        """One after the other, before all that is no suspect; in an order of their own."""
        self.take("echo", "running")
        self.take("echo", "new", priority=9)
        for count in (5, 3, 9, 4):
            self.suspect("echo", f"s{count}", deliveries=count)
        self.take("echo", "newer")
        self.threads.step_all()
        answers = self.answered()
        self.assertEqual((answers[:3], answers[-1]), (["running", "new", "s3"], "newer"))
        self.assertEqual(sorted(answers[3:-1]), ["s4", "s5", "s9"])

    def test_tasks_on_the_reactor_wait_as_well(self) -> None:
        """For a suspect, and as suspects; after that they need no thread, as ever."""
        self.make(self.asynchronous(), threads=1)
        self.take("later", "running")
        self.suspect("later", "suspect", deliveries=3)
        for data in ("one", "two", "three"):
            self.take("echo", data)
            self.take("later", data)
        self.assertEqual((self.running(), len(self.waiting)), (["running"], 1))
        self.waiting[0].callback(None)
        self.assertEqual((self.running(), len(self.waiting)), (["suspect"], 2))
        self.waiting[1].callback(None)
        self.assertEqual(sorted(self.running()), ["one", "one", "three", "two"])
        self.assertEqual((self.runner.held, self.rooms), (2, 2))
        for waiting in self.waiting[2:]:
            waiting.callback(None)
        self.threads.step_all()
        self.assertEqual(self.runner.in_progress, 0)

    def test_many_that_end_as_they_begin(self) -> None:
        """However many: Python's stack is no measure."""

        @Task("now")
        async def now(req: Any) -> Any:
            return req

        self.make(now)
        self.take("echo", "running")
        for number in range(2000):
            self.take("now", number, deliveries=3)
        self.clock.advance(GATHER)
        self.take("now", "new")
        self.threads.step()
        answers = self.answered()
        self.assertEqual((answers[0], answers[-1], len(answers)), ("running", "new", 2002))

    def test_room_is_told_of_when_those_that_ended_at_once_were_the_last(self) -> None:
        """There is nothing behind them whose end would tell of it."""

        @Task("now")
        async def now(req: Any) -> Any:
            return req

        self.make(now)
        self.suspect("now", "suspect")
        self.assertEqual((self.answered(), self.rooms), (["suspect"], 1))
        self.take("echo", "new")
        self.threads.step_all()
        self.assertEqual((self.answered(), self.rooms), (["new"], 1))

    def test_what_was_given_ahead_is_taken_back(self) -> None:
        """No call waits in line for a thread while a suspect waits or runs."""
        self.make(threads=1)
        self.runner.give_ahead(2)
        for data in ("running", "ahead", "ahead too"):
            self.take("echo", data)
        self.assertEqual((self.running(), self.runner.held), (["running", "ahead", "ahead too"], 2))
        self.suspect("echo", "suspect", deliveries=3)
        self.assertEqual((self.running(), self.runner.held), (["running"], 3))
        self.threads.step_all()
        self.assertEqual(self.answered(), ["running", "suspect", "ahead", "ahead too"])

    def test_it_has_a_thread_that_is_free(self) -> None:
        """One that goes on after its limit is answered, and its thread is not free yet."""
        self.make(threads=1)
        self.runner.give_ahead(5)
        self.take("short", "late")
        self.clock.advance(1)
        self.suspect("echo", "suspect", deliveries=3)
        self.clock.advance(1)
        self.assertEqual((self.answered(), self.running()), (["timeout"], []))
        # Quarantined, and replaced.
        self.clock.advance(5)
        self.assertEqual(self.running()[0], "suspect")
        self.threads.step_all()
        self.assertEqual(self.answered(), ["suspect"])

    def test_its_time_limit_is_as_of_others(self) -> None:
        """While it waits, and while it runs; then others begin."""
        self.make(threads=3)
        self.take("echo", "running")
        self.suspect("short", "waits", deliveries=3)
        self.clock.advance(2)
        self.assertEqual((self.answered(), self.runner.held), (["timeout"], 0))
        self.threads.step()
        self.suspect("short", "runs", deliveries=3)
        self.take("short", "next", deliveries=4, call_id="next")
        self.clock.advance(1)
        self.take("echo", "last")
        self.clock.advance(1)
        self.assertEqual(self.answered(), ["running", "timeout", "timeout"])
        self.assertEqual(self.running(), ["last"])
        self.threads.step_all()

    def test_it_is_found_cancelled_and_dropped(self) -> None:
        """Whether it waits or runs."""
        self.take("echo", "running")
        for data in ("cancelled", "dropped", "stays"):
            self.suspect("echo", data, deliveries=3)
        self.assertTrue(self.runner.cancel("cancelled"))
        dropped = self.runner.find("dropped", "c")
        assert dropped is not None
        self.runner.drop(dropped)
        self.assertEqual((self.answered(), self.runner.held), (["cancelled"], 1))
        self.threads.step()
        self.take("echo", "new")
        self.assertTrue(self.runner.cancel("stays"))
        self.assertEqual(self.running(), ["new"])
        self.threads.step_all()
        self.assertEqual(self.answered(), ["running", "cancelled", "new"])

    def test_they_are_handed_back_by_the_same_rule(self) -> None:
        """Those that may not go stay, and have their turn."""
        self.take("echo", "running")
        for data, count in (("goes", 3), ("stays", 15)):
            self.suspect("echo", data, deliveries=count)
        self.take("echo", "new")
        gone = self.runner.hand_back(lambda attempt: attempt.call.deliveries < 10)
        self.assertEqual([attempt.call.call_id for attempt in gone], ["goes", "new"])
        self.take("echo", "newer")
        self.assertEqual((self.running(), self.runner.held), (["running"], 2))
        self.threads.step_all()
        self.assertEqual(self.answered(), ["running", "stays", "newer"])

    def test_room_is_told_of_when_they_were_handed_back(self) -> None:
        """Where only the reactor is busy, no thread would tell of it."""
        self.make(self.asynchronous())
        for number in range(2):
            self.take("later", number)
        self.suspect("echo", "suspect", deliveries=3)
        self.assertEqual(len(self.runner.hand_back()), 1)
        self.take("echo", "new")
        self.assertEqual((self.running(), self.rooms), (["0", "1", "new"], 0))
        self.waiting[0].callback(None)
        self.assertEqual(self.rooms, 1)
        self.waiting[1].callback(None)
        self.threads.step_all()
        self.assertEqual(self.rooms, 1)

    def test_it_is_waited_for_at_the_end(self) -> None:
        """What can't be handed back is answered here."""
        self.take("echo", "running")
        self.suspect("echo", "suspect", deliveries=15)
        ended = self.runner.when_ended()
        self.threads.step()
        self.assertNoResult(ended)
        self.threads.step()
        self.successResultOf(ended)


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


class ProcessTests(RunnerTestCase):
    """Tasks for processes, beside those for threads."""

    def setUp(self) -> None:
        super().setUp()
        self.children: list[FakeChild] = []

    def isolated(self, size: int = 1, **options: Any) -> None:
        """A runner with processes that are ready, and a task for them."""

        @Task("isolated", isolation="process")
        def isolated(req: Any) -> Any:
            raise AssertionError("it is for a process")

        self.processes = ProcessPool(
            self.clock, self.spawn, worker_id="w", size=size, on_idle=lambda: self.runner.start_held()
        )
        self.addCleanup(self.processes.stop)
        self.processes.begin()
        self.make(isolated, processes=self.processes, **options)

    def spawn(self, listener: Any) -> FakeChild:
        child = FakeChild(100 + len(self.children), listener)
        self.children.append(child)
        self.clock.callLater(0, child.says, write_frame(READY, {}))
        return child

    def calls(self) -> list[list[str]]:
        """What each process was given, once all have started."""
        self.clock.advance(0)
        return [child.calls for child in self.children]

    def test_each_kind_runs_in_its_place(self) -> None:
        """And the answer of a process is the call's."""
        self.isolated()
        self.take("isolated", 1)
        self.take("echo", 2)
        self.threads.step_all()
        self.assertEqual((self.calls()[0], self.answered()), (["1"], [2]))
        self.children[0].answers()
        self.assertEqual(
            [(attempt.call.call_id, answer.worker) for attempt, answer in self.answers], [("1", "w")]
        )

    def test_neither_kind_waits_for_room_that_the_other_has(self) -> None:
        """However full the other one is."""
        self.isolated(threads=1)
        for number in range(3):
            self.take("isolated", number)
        self.take("echo", "a")
        self.take("echo", "b")
        self.assertEqual((len(self.threads.jobs), self.runner.threads.held), (1, 1))
        self.assertEqual((self.calls()[0], self.runner.held), (["0"], 3))
        self.children[0].answers()
        self.assertEqual(self.children[0].calls, ["0", "1"])

    def test_a_limit_kills_and_what_is_held_goes_on(self) -> None:
        """In the process that was to spare, once the killed one is gone."""
        self.isolated()
        self.take("isolated", 1, timeout=2000)
        self.take("isolated", 2)
        self.clock.advance(0)
        self.clock.advance(2)
        self.assertEqual((self.answered(), self.children[0].killed), (["timeout"], True))
        self.assertEqual(self.runner.active(), [])
        self.children[0].listener.ended("was ended by SIGKILL")
        self.assertEqual(self.calls()[1], ["2"])

    def test_a_dropped_call_is_killed_and_a_held_one_forgotten(self) -> None:
        """Neither is answered."""
        self.isolated()
        self.take("isolated", 1)
        self.take("isolated", 2)
        self.clock.advance(0)
        for call_id in ("2", "1"):
            attempt = self.runner.find(call_id, "c")
            assert attempt is not None
            self.runner.drop(attempt)
        self.assertEqual((self.children[0].killed, self.runner.held, self.answers), (True, 0, []))

    def test_a_lane_hands_back_its_own(self) -> None:
        """And the runner that of both."""
        self.isolated(threads=1)
        for number in range(3):
            self.take("isolated", f"p{number}")
            self.take("echo", f"t{number}")
        self.clock.advance(0)
        assert self.runner.processes is not None
        verifyObject(IHeldCalls, self.runner.processes)
        gone = self.runner.processes.hand_back(lambda attempt: attempt.call.call_id == "p1")
        self.assertEqual([attempt.call.call_id for attempt in gone], ["p1"])
        gone = self.runner.hand_back()
        self.assertEqual([attempt.call.call_id for attempt in gone], ["t1", "t2", "p2"])

    def test_what_waited_for_a_process_and_may_not_go_back_is_run(self) -> None:
        """Nothing else would begin it, where nothing runs."""
        self.isolated()
        self.take("isolated", 1)
        assert self.runner.processes is not None
        self.assertEqual(self.runner.processes.hand_back(lambda attempt: False), [])
        self.assertEqual((self.calls()[0], self.runner.held), (["1"], 0))
        self.children[0].answers()
        self.assertEqual(self.answered(), [1])

    def test_who_runs_where_is_told(self) -> None:
        """By the process's number."""
        self.isolated()
        self.take("isolated", 1)
        self.clock.advance(0)
        self.assertEqual([active.thread for active in self.runner.active()], ["process 100"])

    def test_a_process_that_died_is_an_error_of_the_task(self) -> None:
        """Which says how."""
        self.isolated()
        self.take("isolated", 1)
        self.clock.advance(0)
        self.children[0].listener.ended("ended with exit code 3")
        ((_, answer),) = self.answers
        said = self.value(answer)
        self.assertEqual((answer.error, said["type"]), ("raised", "crew_tx.errors.TaskProcessDiedError"))
        self.assertIn("exit code 3", said["message"])
