"""
The tasks of crew's article: those that answer, those that keep a thread busy, and one that publishes.

Either of these runs them, the first one beside other modules of tasks::

    twistd -n --pidfile= crew-worker services/demo.py
    python services/demo.py -H 127.0.0.1 -P 5672 --logging=info
"""

from __future__ import annotations

import time

from crew_tx.worker import Task, context, run


@Task("test")
def long_task(req: object) -> str:
    """Answer, and count."""
    context.settings.counter += 1
    return "Wake up Neo.\n"


@Task("stat")
def get_counter(req: object) -> str:
    """Say who answers, and how many calls that were."""
    context.settings.counter += 1
    return f'I\'m worker "{context.settings.uuid}". And I serve {context.settings.counter} tasks'


@Task("dead")
def infinite_loop_task(req: object) -> None:
    """Hang. At the time limit the worker raises ``SystemExit`` in here."""
    while True:
        pass


@Task("publish")
def publish(req: object) -> None:
    """Tell all who are subscribed to the channel ``test``."""
    context.pubsub.publish("test", {"I": "was here"})


@Task("sleep")
def sleep(req: float) -> float:
    """Block a thread for so many seconds, as a slow driver would."""
    time.sleep(req)
    return req


# What is given here is in context.settings of every task of this worker.
run(counter=0)
