"""One round of each fuzzer, by its seed."""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase

from tests.fuzz import inputs
from tests.fuzz.inputs import BROKER_CONVERSATION, CLIENT_CONVERSATIONS, HANDSHAKE, Inputs
from tests.fuzz.targets import BrokerTarget, ClientTarget, first_error

#: Bytes of the input that a failure shows; its seed makes all of it.
_SHOWN = 600


class FuzzTestCase(SynchronousTestCase):
    """Rounds that tell the seed when they fail."""

    def attack_broker(self, target: BrokerTarget, seed: int) -> None:
        """A changed conversation, most often behind a good handshake."""
        random = Random(seed)
        made = Inputs(random)
        good = random.choice(CLIENT_CONVERSATIONS)
        if random.random() < 0.2:
            data = made.conversation([*HANDSHAKE, *good])
        else:
            data = b"".join(HANDSHAKE) + made.conversation(good)
        self._attack(target, seed, made.chunks(data))

    def attack_client(self, seed: int) -> None:
        """The same from a broker."""
        random = Random(seed)
        made = Inputs(random)
        logged_in = random.random() < 0.8
        good = BROKER_CONVERSATION if logged_in else [*inputs.GREETING, *BROKER_CONVERSATION]
        self._attack(ClientTarget(logged_in), seed, made.chunks(made.conversation(good)))

    def _attack(self, target: BrokerTarget | ClientTarget, seed: int, chunks: list[bytes]) -> None:
        try:
            target.attack(chunks)
        except Exception as error:
            logged = first_error(self.flushLoggedErrors())
            self.fail(f"seed {seed}: {error!r}\n{logged}\nafter {b''.join(chunks)[-_SHOWN:]!r}")
        failures = self.flushLoggedErrors()
        if failures:
            self.fail(f"seed {seed}: {first_error(failures)}\nafter {b''.join(chunks)[-_SHOWN:]!r}")
