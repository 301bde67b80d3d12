"""
arpc's example: an object whose ``c_`` methods are called from elsewhere.

They are called by their own names, or arpc's way, by the service's name and
``c`` in the request::

    client.call("example.add", {"x": 4, "y": 8})
    client.call("example", {"c": "add", "x": 4, "y": 8})
"""

from __future__ import annotations

from typing import Any

from crew_tx.worker import Service, context

Request = dict[str, Any]


class ExampleService:
    """Calculates."""

    def c_add(self, req: Request) -> Request:
        """The sum of x and y."""
        return {"res": req["x"] + req["y"]}

    def c_divide(self, req: Request) -> Request:
        """x by y. With a y of 0 the caller gets a ``RemoteError``, and sees this line in its traceback."""
        return {"res": req["x"] / req["y"]}

    def c_describe(self, req: Request) -> Request:
        """What a task knows of its call; the reply carries a header beside."""
        request = context.request
        context.headers["served-by"] = context.settings.uuid
        return {
            "id": request.id,
            "task": request.task_id,
            "priority": request.priority,
            "attempt": request.attempt,
            "headers": request.headers,
            "time_left": request.time_left,
        }


service = Service("example", ExampleService())
