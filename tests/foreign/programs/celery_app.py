"""
A Celery application, with its settings as they are but for the queue, which ends with its worker.

The environment says the broker (``FOREIGN_URL``) and the queue (``FOREIGN_QUEUE``).
"""

import os
import signal

from celery import Celery
from kombu import Exchange, Queue

QUEUE = os.environ["FOREIGN_QUEUE"]

app = Celery("foreign", broker=os.environ["FOREIGN_URL"], backend="rpc://")
app.conf.update(
    task_default_queue=QUEUE,
    task_queues=[Queue(QUEUE, Exchange(QUEUE, auto_delete=True), QUEUE, auto_delete=True)],
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_track_started=True,
    worker_prefetch_multiplier=1,
    worker_send_task_events=True,
    worker_lost_wait=0.2,
)


@app.task
def add(x, y):
    return x + y


@app.task
def fail(text):
    raise ValueError(text)


@app.task(bind=True, max_retries=2)
def tried_thrice(self):
    if self.request.retries < 2:
        raise self.retry(countdown=0.05)
    return self.request.retries


@app.task(bind=True)
def dies_once(self):
    """Its process is killed; acknowledged late, it is delivered again."""
    if not self.request.delivery_info["redelivered"]:
        os.kill(os.getpid(), signal.SIGKILL)
    return "redelivered"


@app.task
def long(text):
    return text * 100_000
