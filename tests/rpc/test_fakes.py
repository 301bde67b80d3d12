"""The fake channel takes what the real one takes."""

from __future__ import annotations

import inspect

from twisted.trial.unittest import SynchronousTestCase

from crew_tx.amqp.channel import AMQChannel
from tests.rpc.fakes import Channel

_METHODS = ("publish", "ack", "nack", "consume", "cancel")
_ATTRIBUTES = ("closed", "published", "on_confirm", "on_return", "on_closed", "client")


class ChannelTests(SynchronousTestCase):
    """What other tests rely on."""

    def test_its_methods_have_the_same_arguments(self) -> None:
        """With the same names, kinds and defaults."""
        for name in _METHODS:
            self.assertEqual(_arguments(Channel, name), _arguments(AMQChannel, name), name)

    def test_its_attributes_are_there_in_the_real_one(self) -> None:
        """Under these names."""
        source = inspect.getsource(AMQChannel.__init__)
        for name in _ATTRIBUTES:
            self.assertIn(f"self.{name}", source)
            self.assertTrue(hasattr(Channel(), name))


def _arguments(kind: type, name: str) -> list[tuple[str, object, object]]:
    parameters = inspect.signature(getattr(kind, name)).parameters.values()
    return [(parameter.name, parameter.kind, parameter.default) for parameter in parameters]
