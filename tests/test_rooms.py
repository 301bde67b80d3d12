"""No file of the package imports from a higher floor than its own."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import crew_tx
from tests._rooms import faults, read_tree


class OurRoomsTests(SynchronousTestCase):
    """The package as it is."""

    def test_no_import_climbs(self) -> None:
        """Every import of every file keeps the rules."""
        assert crew_tx.__file__ is not None
        tree = read_tree(Path(crew_tx.__file__).parent)
        self.assertIn("errors.py", tree)
        self.assertEqual([], faults(tree))


class RulesTests(SynchronousTestCase):
    """Trees that are made up, to see the check fail."""

    def allowed(self, path: str, source: str) -> None:
        """Assert that a file may be so."""
        self.assertEqual([], faults({path: source}))

    def refused(self, path: str, source: str, why: str) -> None:
        """Assert that a file may not be so, for one reason."""
        found = faults({path: source})
        self.assertEqual(1, len(found), found)
        self.assertIn(why, found[0])

    def test_lower_floors_and_the_own_room_are_allowed(self) -> None:
        """Whatever the form of the import."""
        self.allowed("client.py", "import crew_tx.errors")
        self.allowed("client.py", "from crew_tx import rpc, message")
        self.allowed("client.py", "from crew_tx.control import Control")
        self.allowed("amqp/frames.py", "from . import methods\nfrom ..errors import CrewError")
        self.allowed("__init__.py", "from crew_tx.client import Client")

    def test_higher_floors_are_refused(self) -> None:
        """Whatever the form of the import."""
        self.refused("errors.py", "import crew_tx.message", "floor 1 is not below floor 0")
        self.refused("rpc/pending.py", "from crew_tx import client", "floor 4 is not below rpc")
        self.refused("rpc/pending.py", "from ..client import Client", "floor 4 is not below rpc")
        self.refused("tasks/pool.py", "from crew_tx.cli import main", "cli is not below tasks")

    def test_functions_are_no_hiding_place(self) -> None:
        """An import inside a function counts as one at the top."""
        hidden = "class A:\n  async def run(self):\n    if self:\n      from crew_tx.client import Client"
        self.refused("rpc/pending.py", hidden, "rpc/pending.py:4")

    def test_rooms_of_one_floor_are_apart(self) -> None:
        """They meet on a higher floor."""
        self.refused("rpc/pending.py", "from crew_tx.tasks import Task", "tasks is not below rpc")
        self.refused(
            "amqp/channel.py", "from crew_tx.timer import DeadlineTimer", "floor 2 is not below amqp"
        )

    def test_the_door_is_for_users(self) -> None:
        """Nothing inside takes a name from the package itself."""
        self.refused("rpc/pending.py", "from crew_tx import Client", "the door is not below rpc")
        self.refused("cli/call.py", "import crew_tx", "the door is not below cli")

    def test_only_the_workers_run_may_import_the_cli(self) -> None:
        """Where programs are put together: inside that function, and nowhere else."""
        self.allowed("worker.py", "def run():\n  from crew_tx.cli import main")
        self.refused("worker.py", "from crew_tx.cli import main", "cli is not below floor 4")
        self.refused("worker.py", "def walk():\n  from crew_tx.cli import main", "cli is not below floor 4")
        self.refused("client.py", "def run():\n  from crew_tx.cli import main", "cli is not below floor 4")

    def test_testing_is_imported_by_no_other_room(self) -> None:
        """It imports all but the edges itself."""
        self.allowed("testing/harness.py", "from crew_tx import client, broker, amqp")
        self.refused("testing/harness.py", "from crew_tx import cli", "cli is not below testing")
        self.refused("cli/call.py", "from crew_tx.testing import CrewHarness", "testing is not below cli")
        self.refused(
            "broker/shell.py", "from crew_tx.testing import CrewHarness", "testing is not below broker"
        )

    def test_the_broker_stands_on_the_wire_alone(self) -> None:
        """The roles do not know of it."""
        self.allowed("broker/_session.py", "from crew_tx.amqp.frames import FrameParser")
        self.allowed("cli/broker.py", "from crew_tx.broker import Broker")
        self.refused("broker/_session.py", "from crew_tx.rpc import Pending", "rpc is not below broker")
        self.refused("client.py", "from crew_tx.broker import Broker", "broker is not below floor 4")

    def test_the_gateway_is_put_together_by_the_cli(self) -> None:
        """It knows nothing of it."""
        self.allowed("cli/gateway.py", "from crew_tx.web.service import Gateway")
        self.refused("web/service.py", "from crew_tx.cli import ending", "cli is not below web")
        self.refused("testing/harness.py", "from crew_tx.web import site", "web is not below testing")

    def test_what_decides_has_no_reactor_deferred_or_clock(self) -> None:
        """The two lowest floors, and the pure files above them."""
        self.refused("message.py", "from twisted.internet.defer import Deferred", "only decides")
        self.refused("codec/_json.py", "import time", "only decides")
        self.refused("amqp/frames.py", "def now():\n  from time import monotonic", "only decides")
        self.refused("broker/_model.py", "import twisted", "only decides")
        self.allowed("timer.py", "from twisted.internet.defer import Deferred")

    def test_txamqp_is_for_the_amqp_room(self) -> None:
        """The broker takes its codec from there."""
        self.allowed("amqp/spec.py", "import txamqp.spec")
        self.refused("client.py", "from txamqp.client import Closed", "only amqp may")
        self.refused("broker/_session.py", "import txamqp", "only amqp may")

    def test_the_global_reactor_is_for_the_cli(self) -> None:
        """All others are given a clock or a reactor."""
        self.allowed("cli/call.py", "from twisted.internet import reactor")
        self.allowed("client.py", "from twisted.internet import defer")
        self.refused("client.py", "def run():\n  from twisted.internet import defer, reactor", "only cli may")
        self.refused("testing/a.py", "import twisted.internet.reactor as clock", "only cli may")

    def test_programs_without_a_reactor_have_one_made(self) -> None:
        """By one function, which nothing else may hide in."""
        text = "def {}():\n  from twisted.internet import reactor"
        self.allowed("reactor_thread.py", text.format("import_reactor"))
        self.refused("reactor_thread.py", text.format("other"), "only cli may")
        self.refused("blocking.py", text.format("import_reactor"), "only cli may")

    def test_cbor2_and_ctypes_have_one_importer_each(self) -> None:
        """One file is the door of a foreign thing."""
        for module in ("cbor2", "ctypes"):
            one = {"codec/_a.py": f"import {module}"}
            self.assertEqual([], faults(one))
            two = {**one, "tasks/b.py": f"def f():\n  from {module} import x"}
            self.assertEqual(
                [f"{module} is imported by codec/_a.py, tasks/b.py: only one file may"], faults(two)
            )

    def test_what_setup_does_not_require_is_refused(self) -> None:
        """Not even where it happens to be installed."""
        self.refused("client.py", "import attrs", "setup.py does not require it")
        self.allowed("client.py", "import json\nfrom twisted.internet import defer")

    def test_a_file_without_a_floor_is_a_fault(self) -> None:
        """A new file is given its place before anything else."""
        self.refused("utils.py", "", "utils.py is in no room")
        self.refused("core/engine.py", "", "core/engine.py is in no room")
