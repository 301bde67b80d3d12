"""crew_tx's worker: URL [--signed]. Prints a line when it consumes."""

from __future__ import annotations

import sys
from typing import Any

from signing_keys import KEYS
from twisted.internet import task
from twisted.internet.defer import Deferred

from crew_tx.amqp.uri import parse_all
from crew_tx.tasks.registry import collect
from crew_tx.worker import Task, Worker


@Task("benchmark.add")
def add(req: dict[str, int]) -> int:
    return req["x"] + req["y"]


async def main(reactor: Any, url: str, *flags: str) -> None:
    # As every worker of crew_tx has it.
    sys.setswitchinterval(0.0005)
    keys = KEYS if "--signed" in flags else None
    worker = Worker(reactor, parse_all(url), collect(globals()), signing_keys=keys)
    worker.startService()
    reactor.addSystemEventTrigger("before", "shutdown", worker.stopService)
    await worker.when_ready()
    print("consuming", flush=True)
    await Deferred()


if __name__ == "__main__":
    task.react(lambda reactor, *args: Deferred.fromCoroutine(main(reactor, *args)), sys.argv[1:])
