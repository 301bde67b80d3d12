"""What ``twistd`` and ``twist`` find of crew_tx."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from twisted.application.service import IServiceMaker
from twisted.plugin import getPlugins
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

import crew_tx
from crew_tx.cli.broker_options import BrokerOptions
from crew_tx.cli.gateway_options import GatewayOptions
from crew_tx.cli.options import WorkerOptions

ROOT = Path(crew_tx.__file__ or "").parent.parent


class PluginTests(SynchronousTestCase):
    """The plugin file."""

    def test_the_worker_is_found(self) -> None:
        """By its name, with its options."""
        makers = {maker.tapname: maker for maker in getPlugins(IServiceMaker)}
        maker = makers["crew-worker"]
        verifyObject(IServiceMaker, maker)
        self.assertIsInstance(maker.options(), WorkerOptions)
        self.assertTrue(callable(maker.makeService))

    def test_the_broker_and_the_gateway_are_found(self) -> None:
        """Each with its options."""
        makers = {maker.tapname: maker for maker in getPlugins(IServiceMaker)}
        for name, options in (("crew-broker", BrokerOptions), ("crew-gateway", GatewayOptions)):
            self.assertIsInstance(makers[name].options(), options)
            self.assertTrue(callable(makers[name].makeService))

    def test_the_folders_are_twisteds_own(self) -> None:
        """A file __init__.py would hide Twisted's."""
        for folder in ("twisted", "twisted/plugins"):
            self.assertFalse((ROOT / folder / "__init__.py").exists(), folder)

    def test_naming_it_imports_nothing_of_ours(self) -> None:
        """Every start of twistd reads it, whatever is started."""
        code = (
            "import sys, runpy; runpy.run_path(sys.argv[1]); "
            "print([name for name in sys.modules if name.startswith('crew_tx')])"
        )
        path = str(ROOT / "twisted/plugins/crew_tx_plugins.py")
        done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
        self.assertEqual("[]", done.stdout.strip())
