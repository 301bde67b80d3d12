"""A worker's part in running a task, without a worker."""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from twisted.trial.unittest import SkipTest, SynchronousTestCase
from zope.interface import implementer

from crew_tx import worker
from crew_tx.codec import Codec
from crew_tx.message import Call, Headers
from crew_tx.tasks.context import AttemptContext, Settings
from crew_tx.tasks.execution import perform
from crew_tx.tasks.interfaces import IPublisher
from crew_tx.tasks.registry import Registry, collect

SERVICES = Path(__file__).resolve().parents[2] / "services"


class Answered(NamedTuple):
    """
    What a task comes to.

    :ivar error: None, or why there is an error; ``value`` is its map then.
    """

    value: Any
    error: str | None
    headers: Headers


@implementer(IPublisher)
class _Publisher:
    """Keeps what is published."""

    def __init__(self, published: list[tuple[str, Any]]) -> None:
        self._published = published

    def publish(self, channel: str, data: Any) -> None:
        self._published.append((channel, data))


class ServiceTestCase(SynchronousTestCase):
    """
    A test of one module of tasks.

    :ivar published: channel and data of each event.
    """

    def load(self, name: str) -> ModuleType:
        """Load a module by its file; ``run()`` in it sets our ``settings``, and returns."""
        path = SERVICES / f"{name}.py"
        if not path.exists():
            raise SkipTest("the tests do not run from the repository")
        self.settings: dict[str, Any] = {"uuid": "worker-1"}
        self.published: list[tuple[str, Any]] = []
        self.patch(worker, "run", self.settings.update)
        spec = spec_from_file_location(f"crew_service_{name}", path)
        assert spec is not None and spec.loader is not None
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
        self.use(vars(module))
        return module

    def use(self, namespace: dict[str, Any]) -> None:
        """Perform the tasks of this namespace from now on."""
        self.registry = Registry(collect(namespace))
        self.shared = Settings(**self.settings)

    def perform(
        self, task_id: str, request: object = None, *, cancelled: bool = False, headers: Headers | None = None
    ) -> Answered:
        """Perform a task in this thread; request and answer go through the codec."""
        codec = Codec()
        definition = self.registry.get(task_id)
        assert definition is not None, f"{task_id} is none of {self.registry.task_ids}"
        body, content_type, content_encoding = codec.encode(request)
        call = Call(task_id, "call-1", body, content_type, content_encoding, headers=headers or {})
        entered = AttemptContext(call, self.shared, 10.0, lambda: 4.0, _Publisher(self.published))
        entered.cancelled = cancelled
        answer = perform(definition, call, codec, entered, "worker-1", lambda: 4.0)
        value = codec.decode(answer.body, answer.content_type, answer.content_encoding)
        return Answered(value, answer.error, answer.headers)
