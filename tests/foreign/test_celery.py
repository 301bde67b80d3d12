"""Celery and its kombu, unmodified, on the embedded broker and on RabbitMQ."""

from __future__ import annotations

import os
import signal
from uuid import uuid4

from tests.cli.programs import Program, children_of, is_running, wait_until_ended
from tests.foreign.support import PROGRAMS, ForeignTestCase

CALLER = PROGRAMS / "celery_caller.py"
#: A name that no other test has, on a broker that other tests share.
WORKER = "worker@foreign"


class KombuTests(ForeignTestCase):
    client = "celery"

    def test_its_connections(self) -> None:
        """Simple queues, priorities, confirms, returns, refusals and heartbeats."""
        self.assert_same_on_both("kombu_client")


class CeleryTests(ForeignTestCase):
    """
    A worker with processes, and its caller.

    Results come by ``rpc://`` and messages are acknowledged late, so one
    whose process was killed is delivered again; the worker is controlled and
    its events are followed.
    """

    client = "celery"

    def test_on_the_embedded_broker(self) -> None:
        """The one that is tested."""
        self.check(self.embedded().url, "the embedded broker")

    def test_on_rabbitmq(self) -> None:
        """The tasks and the caller are right: they see the same there."""
        self.check(self.rabbitmq(), "RabbitMQ")

    def check(self, url: str, broker: str) -> None:
        self.variables = {
            "FOREIGN_URL": url,
            "FOREIGN_QUEUE": f"foreign.{uuid4().hex}",
            "PYTHONPATH": str(PROGRAMS),
        }
        worker = self.worker()
        self.assert_saw(self.start(CALLER, WORKER, **self.variables), CALLER.with_suffix(".txt"), broker)
        self.check_it_answers_a_ping()
        worker.signal()
        self.assertEqual(self.ended(worker), 0, worker.err)

    def check_it_answers_a_ping(self) -> None:
        """By Celery's own command."""
        ping = self.celery("inspect", "ping", "--destination", WORKER)
        self.assertEqual(self.ended(ping), 0, ping.err)
        self.assertIn("pong", ping.out)

    def worker(self) -> Program:
        """A worker that is ready; it and its processes are ended with the test."""
        worker = self.celery("worker", "--hostname", WORKER, "--concurrency", "2", "--loglevel", "info")
        self.addCleanup(end, worker)
        worker.wait_for(r"ready\.\n")
        return worker

    def celery(self, *arguments: str) -> Program:
        """Celery's program, on our application."""
        return self.start("-m", "celery", "--app", "celery_app", *arguments, **self.variables)


def end(worker: Program) -> None:
    """End a worker that still runs, and then its processes, which would outlive it."""
    if worker.process.poll() is None:
        children = children_of(worker.process.pid)
        worker.close()
        for child in filter(is_running, children):
            os.kill(child, signal.SIGKILL)
        wait_until_ended(children)
