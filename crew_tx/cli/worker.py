"""``twistd crew-worker`` and ``twist crew-worker``."""

from __future__ import annotations

from crew_tx.cli.loading import load_services
from crew_tx.cli.options import WorkerOptions
from crew_tx.cli.program import Program, make_program
from crew_tx.cli.script import services_command
from crew_tx.cli.service import service_of

Options = WorkerOptions


def makeService(options: WorkerOptions) -> Program:
    """The worker, or the supervisor of several, that the options ask for."""
    command = services_command(options.services)
    return service_of(
        options,
        lambda reactor, ending: make_program(
            reactor, options, lambda: load_services(options.services), command, ending
        ),
    )
