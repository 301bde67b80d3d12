"""
Calls tasks of ``celery_app``, whose worker runs, controls that worker, and follows its events.

    python celery_caller.py WORKER
"""

import sys
from threading import Event, Thread
from time import monotonic, sleep

from celery_app import QUEUE, add, app, dies_once, fail, long, tried_thrice

WORKER = sys.argv[1]
KINDS = ("task-received", "task-started", "task-succeeded", "task-failed", "task-retried")


def main():
    events = Events()
    events.start()
    events.listening.wait(10)
    answers()
    control()
    print("killed and", dies_once.delay().get(timeout=15))
    print("events:", events.kinds_seen())
    revoked()


def answers():
    results = [add.delay(number, number) for number in range(20)]
    print("answers:", [result.get(timeout=10) for result in results])
    try:
        fail.delay("on purpose").get(timeout=10)
    except ValueError as error:
        print("failed:", error)
    print("retries:", tried_thrice.delay().get(timeout=10))
    print("length:", len(long.delay("long").get(timeout=10)))
    late = add.apply_async((1, 2), countdown=0.3)
    print("states:", late.state, late.get(timeout=10), late.state, late.successful())


def control():
    print("ping:", app.control.ping(destination=[WORKER], timeout=2))
    inspect = app.control.inspect([WORKER], timeout=2)
    print("queues:", [queue["name"] == QUEUE for queue in inspect.active_queues()[WORKER]])
    print("tasks:", sorted(name for name in inspect.registered()[WORKER] if name.startswith("celery_app")))
    print("prefetch:", inspect.stats()[WORKER]["prefetch_count"])
    print("limited:", app.control.rate_limit("celery_app.long", "100/s", [WORKER], reply=True, timeout=2))


def revoked():
    result = add.apply_async((1, 1), countdown=3600)
    app.control.revoke(result.id)
    limit = monotonic() + 5
    while result.id not in app.control.inspect([WORKER], timeout=1).revoked()[WORKER]:
        if monotonic() > limit:
            raise SystemExit("it was not revoked")
        sleep(0.05)
    print("revoked")


class Events(Thread):
    """What the worker tells of its tasks."""

    def __init__(self):
        super().__init__(daemon=True)
        self.listening = Event()
        self.seen = set()

    def run(self):
        with app.connection_for_read() as connection:
            receiver = app.events.Receiver(connection, handlers={"*": self.take})
            receiver.on_consume_ready = lambda *args, **options: self.listening.set()
            receiver.capture(limit=None, timeout=None, wakeup=True)

    def take(self, event):
        self.seen.add(event["type"])

    def kinds_seen(self):
        """Those of ``KINDS``, once all have come, or not in time."""
        limit = monotonic() + 5
        while not self.seen.issuperset(KINDS) and monotonic() < limit:
            sleep(0.05)
        return sorted(self.seen.intersection(KINDS))


main()
