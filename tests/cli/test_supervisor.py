"""Several worker processes under one."""

from __future__ import annotations

from typing import Any

from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.interfaces import IReactorProcess, IReactorTime
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from crew_tx.cli.supervisor import Spawner, Supervisor


class FakeProcess:
    """A process that does what the test says."""

    def __init__(self, protocol: Any, command: list[str], environment: dict[str, str]) -> None:
        self.protocol = protocol
        self.command = command
        self.environment = environment
        self.log: list[str] = []
        self.is_running = True
        protocol.makeConnection(self)

    def closeStdin(self) -> None:
        self.log.append("close stdin")

    def signalProcess(self, name: str) -> None:
        if not self.is_running:
            raise ProcessExitedAlready
        self.log.append(name)

    def exit(self, code: int | None = 0, signal: int | None = None) -> Failure:
        """It dies, and its output stays open."""
        self.is_running = False
        reason = Failure(ProcessDone(0) if code == 0 else ProcessTerminated(code, signal))
        self.protocol.processExited(reason)
        return reason

    def end(self, code: int | None = 0, signal: int | None = None) -> None:
        """It dies, and its output ends."""
        self.protocol.processEnded(self.exit(code, signal))


class ProcessReactor(Clock):
    """A clock that spawns fake processes."""

    def __init__(self) -> None:
        super().__init__()
        self.processes: list[FakeProcess] = []

    def spawnProcess(
        self, protocol: Any, executable: str, args: list[str], env: dict[str, str], **more: object
    ) -> FakeProcess:
        assert executable == args[0]
        self.processes.append(FakeProcess(protocol, args, env))
        return self.processes[-1]


class FakeEnding:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.log: list[Any] = []

    def mark(self, code: int) -> None:
        self.log.append(code)

    def fail(self, code: int, message: str) -> None:
        self.log.append((code, message))

    def stop(self) -> None:
        self.log.append("stop")


class SupervisorTests(SynchronousTestCase):
    """A supervisor of two, whose drain takes 10 s at most."""

    def setUp(self) -> None:
        self.reactor = ProcessReactor()
        self.ending: Any = FakeEnding()
        self.supervisor = Supervisor(
            self.reactor, ["python", "w.py"], {"A": "b"}, forks=2, drain=10.0, ending=self.ending
        )
        self.supervisor.startService()
        self.processes = self.reactor.processes

    def tearDown(self) -> None:
        self.assertEqual([], self.reactor.getDelayedCalls())

    def stop(self) -> list[None]:
        """Stop it; the list is filled when it has stopped."""
        stopped: list[None] = []
        self.supervisor.stopService().addCallback(stopped.append)
        return stopped

    def end_all(self) -> None:
        self.stop()
        for process in self.processes:
            if process.is_running:
                process.end()

    def test_each_process_has_its_name_and_the_environment(self) -> None:
        """And all run one command."""
        self.assertEqual(
            [
                (["python", "w.py"], {"A": "b", "CREW_CHILD": "fork-1"}),
                (["python", "w.py"], {"A": "b", "CREW_CHILD": "fork-2"}),
            ],
            [(process.command, process.environment) for process in self.processes],
        )
        self.end_all()

    def test_one_that_dies_is_started_again(self) -> None:
        """At once, if it had run for a while."""
        self.reactor.advance(11)
        self.processes[0].end(None, 9)
        self.reactor.advance(0)
        self.assertEqual("fork-1", self.processes[2].environment["CREW_CHILD"])
        self.end_all()

    def test_one_that_dies_early_waits_longer_each_time(self) -> None:
        """Within 10 s of its start, but not longer than 30 s."""
        self.reactor.advance(9)
        waits = []
        for _ in range(7):
            self.processes[-1].end(1)
            count, waited = len(self.processes), 0
            while len(self.processes) == count:
                self.reactor.advance(1)
                waited += 1
            waits.append(waited)
        self.assertEqual([1, 2, 4, 8, 16, 30, 30], waits)
        self.end_all()

    def test_one_that_held_its_output_open_is_started_again_all_the_same(self) -> None:
        """Its own children may do that for ever."""
        self.reactor.advance(11)
        reason = self.processes[0].exit(1)
        self.reactor.advance(1)
        self.reactor.advance(0)
        self.assertEqual(3, len(self.processes))
        self.processes[0].protocol.processEnded(reason)
        self.reactor.advance(100)
        self.assertEqual(3, len(self.processes))
        self.end_all()

    def test_processes_are_stopped_by_the_end_of_their_input(self) -> None:
        """And waited for."""
        stopped = self.stop()
        self.assertEqual([["close stdin"]] * 2, [process.log for process in self.processes])
        self.processes[0].end()
        self.assertEqual([], stopped)
        self.processes[1].end()
        self.assertEqual([None], stopped)
        self.assertEqual([], self.ending.log)
        self.assertEqual(2, len(self.processes))

    def test_one_that_does_not_drain_is_killed_after_drain_and_5_s(self) -> None:
        """The exit code tells of it."""
        stopped = self.stop()
        self.processes[0].end()
        self.reactor.advance(14.9)
        self.assertEqual(["close stdin"], self.processes[1].log)
        self.reactor.advance(0.1)
        self.assertEqual(["close stdin", "KILL"], self.processes[1].log)
        self.processes[1].end(None, 9)
        self.assertEqual([None], stopped)
        self.assertEqual([1], self.ending.log)

    def test_one_that_is_told_to_stop_twice_is_killed_once(self) -> None:
        """The time that it has begins with the first."""
        self.supervisor.stopProcess("fork-1")
        self.reactor.advance(10)
        self.supervisor.stopProcess("fork-1")
        self.reactor.advance(100)
        self.assertEqual(["close stdin", "KILL"], self.processes[0].log)
        self.end_all()

    def test_a_supervisor_with_nothing_running_stops_at_once(self) -> None:
        """Also while one waits for its next start."""
        for process in self.processes:
            process.end(1)
        self.assertEqual([None], self.stop())

    def test_a_fatal_exit_code_stops_the_supervisor_with_it(self) -> None:
        """The process's last critical message is why; it is not started again."""
        line = b'{"level": "critical", "logger": "a", "message": "mend the password"}'
        self.processes[0].protocol.outReceived(line)
        self.processes[0].end(78)
        self.assertEqual([(78, "mend the password")], self.ending.log)
        self.reactor.advance(100)
        self.assertEqual(2, len(self.processes))
        self.end_all()

    def test_wrong_use_is_fatal_as_well(self) -> None:
        """Without words of its own, the log says why."""
        self.processes[0].protocol.errReceived(b"no such file\n")
        self.processes[0].end(2)
        self.assertEqual([(2, "fork-1 ended with exit code 2; its lines say why")], self.ending.log)
        self.end_all()

    def test_a_fatal_exit_code_while_stopping_is_none(self) -> None:
        """It ends anyway."""
        stopped = self.stop()
        for process in self.processes:
            process.end(78)
        self.assertEqual(([None], []), (stopped, self.ending.log))

    def test_one_that_a_command_drained_is_not_started_again(self) -> None:
        """The others go on."""
        self.reactor.advance(11)
        self.processes[0].end(76)
        self.reactor.advance(100)
        self.assertEqual((2, []), (len(self.processes), self.ending.log))
        self.end_all()

    def test_when_a_command_drained_all_the_supervisor_ends(self) -> None:
        """Nothing is left for it to do."""
        self.processes[0].end(76)
        self.processes[1].end(76)
        self.assertEqual(["stop"], self.ending.log)
        self.assertEqual([None], self.stop())

    def test_one_that_was_drained_does_not_come_back_with_another(self) -> None:
        """One that crashed meanwhile does."""
        self.reactor.advance(11)
        self.processes[0].end(76)
        self.processes[1].end(1)
        self.reactor.advance(100)
        self.assertEqual(["fork-2"], [each.environment["CREW_CHILD"] for each in self.processes[2:]])
        self.assertEqual([], self.ending.log)
        self.end_all()

    def test_all_can_be_killed_at_once(self) -> None:
        """Also those that have ended just now."""
        self.stop()
        self.processes[0].is_running = False
        self.supervisor.kill()
        self.assertEqual(["close stdin", "KILL"], self.processes[1].log)
        self.assertEqual([1], self.ending.log)
        for process in self.processes:
            process.end(None, 9)


class SpawnerTests(SynchronousTestCase):
    """What the monitor takes for a reactor."""

    def test_it_is_one(self) -> None:
        """For processes and for time."""
        spawner = Spawner(ProcessReactor(), lambda *arguments: None, lambda *arguments: None)
        verifyObject(IReactorTime, spawner)
        verifyObject(IReactorProcess, spawner, tentative=True)
