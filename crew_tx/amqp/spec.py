"""
The protocol as data: AMQP 0-9-1 with RabbitMQ's extensions, read by txamqp.

txamqp's wheel has no specification in it, and those of its repository lack
what RabbitMQ added; ``amqp0-9-1.xml`` beside this file has all of it.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from typing import Any

from txamqp import spec as txamqp_spec

_FILE = files(__package__) / "amqp0-9-1.xml"

#: Where the file is, for those who call ``txamqp.spec.load`` themselves.
SPEC_PATH = str(_FILE)


@lru_cache(maxsize=1)
def load() -> Any:
    """
    The specification.

    :returns: a ``txamqp.spec.Spec``; everybody shares the one.
    """
    return txamqp_spec.load_string(_FILE.read_bytes(), SPEC_PATH)


@lru_cache(maxsize=1)
def methods() -> dict[int, Any]:
    """Every method, a ``txamqp.spec.Method``, by its class's id and its own: ``class << 16 | method``."""
    return {klass.id << 16 | method.id: method for klass in load().classes for method in klass.methods}


@lru_cache(maxsize=1)
def method_names() -> dict[int, str]:
    """AMQP's names of the methods, such as ``basic.deliver``, by the same ids."""
    return {number: f"{method.klass.name}.{method.name}" for number, method in methods().items()}
