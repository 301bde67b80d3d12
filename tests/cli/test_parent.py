"""Noticing that the supervisor is gone."""

from __future__ import annotations

import os

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from crew_tx.cli.parent import ParentWatch


class ParentWatchTests(SynchronousTestCase):
    """A pipe, and what is at its end."""

    def setUp(self) -> None:
        self.gone: list[bool] = []
        ours, self.theirs = os.pipe()
        self.addCleanup(os.close, ours)
        self.watch = ParentWatch(lambda: self.gone.append(True), ours)

    def test_it_can_be_given_to_a_reactor(self) -> None:
        """It is what a reactor reads from."""
        self.addCleanup(os.close, self.theirs)
        verifyObject(IReadDescriptor, self.watch)

    def test_what_comes_means_nothing(self) -> None:
        """It is read, and that is all."""
        self.addCleanup(os.close, self.theirs)
        os.write(self.theirs, b"x")
        self.assertIsNone(self.watch.doRead())
        self.assertEqual([], self.gone)

    def test_the_end_of_the_pipe_is_the_supervisors(self) -> None:
        """The reactor is told that the connection is lost, and tells us."""
        os.close(self.theirs)
        reason = self.watch.doRead()
        self.assertIsInstance(reason, ConnectionDone)
        self.watch.connectionLost(Failure(reason))
        self.assertEqual([True], self.gone)
