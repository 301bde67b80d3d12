"""Calls under load while the broker, the workers and the client's connection are broken by turns."""

from __future__ import annotations

from random import SystemRandom

from twisted.internet.defer import Deferred

from tests.faults.scene import Scene, again_and_again
from tests.faults.support import pause
from tests.soak import say

KILL_WORKER_EVERY = 5.0
CUT_CLIENT_EVERY = 7.0


def new_seed() -> int:
    """One that nobody has chosen; it is printed."""
    seed = SystemRandom().randrange(2**32)
    say(f"  the seed is {seed}")
    return seed


async def break_under_load(
    scene: Scene, *, calls: int, seconds: float, broker_kills: int, down: float = 0.5
) -> None:
    """
    Make the calls, break one thing after the other meanwhile, and wait until nothing more is broken.

    :param broker_kills: how often; each has its part of the time to recover in.
    :param down: seconds that a broker stays away.
    """
    await scene.begin()
    load = scene.load(calls / seconds)
    loaded = load.start(calls)
    broken = [
        again_and_again(KILL_WORKER_EVERY, scene.kill_worker, load.is_on),
        again_and_again(CUT_CLIENT_EVERY, scene.cut_client, load.is_on),
        _kill_brokers(scene, seconds / broker_kills, broker_kills, down),
    ]
    for each in [loaded, *map(Deferred.fromCoroutine, broken)]:
        await each


async def _kill_brokers(scene: Scene, part: float, count: int, down: float) -> None:
    for number in range(count):
        await pause(part / 3 if number == 0 else part * 2 / 3)
        await scene.kill_broker(down)
