"""What ``twistd`` and ``twist`` find of crew_tx."""

from __future__ import annotations

from twisted.application.service import ServiceMaker

worker = ServiceMaker(
    "crew_tx worker",
    "crew_tx.cli.worker",
    "Answers remote calls to the tasks of Python modules.",
    "crew-worker",
)

broker = ServiceMaker(
    "crew_tx broker",
    "crew_tx.cli.broker",
    "An AMQP broker for development, tests and demonstrations.",
    "crew-broker",
)

gateway = ServiceMaker(
    "crew_tx gateway",
    "crew_tx.cli.gateway",
    "Calls, results and events over HTTP.",
    "crew-gateway",
)
