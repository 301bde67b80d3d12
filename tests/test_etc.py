"""What etc/ has for operators, held against what the programs take."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from configparser import RawConfigParser
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from crew_tx.cli.brokers import broker_urls
from crew_tx.cli.crew.told import brokers_of
from crew_tx.cli.ending import LONGEST_END, REFUSED, USAGE
from crew_tx.cli.gateway_options import GatewayOptions
from crew_tx.cli.gateway_settings import GATEWAY_OPTIONS
from crew_tx.cli.options import WorkerOptions
from crew_tx.cli.precedence import gather, values_of
from crew_tx.cli.settings import BROKER_SETTINGS, CONFIG, SETTINGS, Setting, by_name
from crew_tx.cli.supervisor import _SPARE_KILL_TIME
from crew_tx.topology import control_key
from crew_tx.web.metrics import CallMetrics, Exposition
from crew_tx.web.traffic import GatewayStatus, Traffic
from tests.web.test_metrics import CLIENT, WORKER

ETC = Path(__file__).resolve().parent.parent / "etc"
#: A line that shows a setting: its name, and its value in TOML.
SHOWN = re.compile(r"^#([a-z-]+) = (.+)$", re.MULTILINE)
FILES = ("password-file", "tls-ca", "tls-cert", "tls-key", "signing-keys", "tokens", "users")


class EtcTestCase(SynchronousTestCase):
    """Tests of the files in the repository; a package of crew_tx does not have them."""

    def setUp(self) -> None:
        if not ETC.is_dir():
            raise SkipTest("the tests do not run from the repository")
        self.patch(os, "environ", {"PATH": os.environ["PATH"]})
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        return path


class SampleFileTests(EtcTestCase):
    """The TOML files: every setting, with its default and some words on it."""

    samples = (
        ("crew-worker.toml", "worker", SETTINGS),
        ("crew-gateway.toml", "gateway", by_name(GATEWAY_OPTIONS)),
        ("crew.toml", "crew", BROKER_SETTINGS),
    )

    def shown(self, name: str) -> dict[str, Any]:
        """The settings that a file shows, and their values."""
        found = SHOWN.findall((ETC / name).read_text())
        values = tomllib.loads("\n".join(f"{key} = {value}" for key, value in found))
        self.assertEqual([key for key, _ in found], list(values), "one is shown twice")
        return values

    def test_each_setting_is_shown_and_nothing_else(self) -> None:
        """But for that which says where the file is."""
        for name, _, settings in self.samples:
            self.assertEqual(sorted(settings.keys() - {CONFIG.name}), sorted(self.shown(name)))

    def test_what_is_shown_is_the_default(self) -> None:
        """Where there is one; else the words above say that there is none."""
        for name, table, known in self.samples:
            for key, value in self.shown(name).items():
                if key == "broker":
                    continue
                default = self.effective(table, known, {})[key]
                if default is None or default == ():
                    self.assertIn("No default", self.words_above(name, key), key)
                else:
                    self.assertEqual(default, self.effective(table, known, {key: value})[key], key)
                    self.assertNotIn("No default", self.words_above(name, key), key)

    def test_the_broker_that_is_shown_is_the_default(self) -> None:
        """Its default is made elsewhere."""
        for name, _, _ in self.samples:
            given = gather({}, {}, {"broker": self.shown(name)["broker"]})
            self.assertEqual(broker_urls({}, values_of({})), broker_urls(given, values_of(given)))

    def test_examples_can_be_read(self) -> None:
        """But for files, which are not there."""
        for name, table, known in self.samples:
            for key, value in self.shown(name).items():
                if key not in FILES:
                    self.effective(table, known, {key: value})

    def test_as_they_are_they_change_nothing(self) -> None:
        """Each is a file that its program takes."""
        options = WorkerOptions()
        options.parseOptions([f"--config={ETC / 'crew-worker.toml'}", "a.py"])
        plain = WorkerOptions()
        plain.parseOptions(["a.py"])
        self.assertEqual(plain.settings, options.settings | {"config": None})
        gateway, bare = GatewayOptions(), GatewayOptions()
        gateway.parseOptions([f"--config={ETC / 'crew-gateway.toml'}"])
        bare.parseOptions([])
        self.assertEqual(bare.settings, gateway.settings | {"config": None})
        self.assertEqual(brokers_of({}), brokers_of({"config": str(ETC / "crew.toml")}))

    def effective(self, table: str, known: dict[str, Setting], given: dict[str, Any]) -> dict[str, Any]:
        """All settings, where a file says so much."""
        return values_of(gather({}, {}, given, table=table, settings=known), {**SETTINGS, **known})

    def words_above(self, name: str, key: str) -> str:
        """The comment over a setting, or over the group that it stands in."""
        before = (ETC / name).read_text().partition(f"\n#{key} = ")[0]
        return before.rpartition("\n\n")[2]


class UnitTests(EtcTestCase):
    """The systemd units."""

    worker = ETC / "systemd" / "crew-worker@.service"
    broker = ETC / "systemd" / "crew-broker.service"
    gateway = ETC / "systemd" / "crew-gateway.service"

    def unit(self, path: Path) -> RawConfigParser:
        # A unit may say some things again.
        unit = RawConfigParser(strict=path is not self.gateway)
        # Else names are made lower case.
        unit.optionxform = str  # type: ignore[assignment,method-assign]
        unit.read(path)
        return unit

    def test_systemd_has_nothing_to_say_against_them(self) -> None:
        """With our own twistd in the place of that which they expect."""
        program = shutil.which("systemd-analyze")
        if program is None:
            raise SkipTest("there is no systemd-analyze")
        units = {
            "crew-worker@reports.service": self.worker,
            "crew-broker.service": self.broker,
            "crew-gateway.service": self.gateway,
        }
        for name, source in units.items():
            text = source.read_text().replace("/opt/crew/bin", str(Path(sys.executable).parent))
            self.assertEqual((0, ""), self.verified(program, self.write(name, text)), name)
            wrong = self.write(f"wrong-{name}", text.replace("Type=notify", "Type=notifi"))
            self.assertIn("notifi", self.verified(program, wrong)[1], "it does not look")

    def verified(self, program: str, path: Path) -> tuple[int, str]:
        done = subprocess.run(
            [program, "verify", "--man=no", str(path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
        )
        return done.returncode, done.stdout

    def test_the_workers_command_line_is_taken(self) -> None:
        """With the instance's file, and the password from its credential."""
        config = self.write("reports.toml", '[worker]\nservices = ["a.b"]\nusername = "worker"\n')
        self.write("password", "secret\n").chmod(0o400)
        words = self.unit(self.worker)["Service"]["ExecStart"].split()
        self.assertEqual(["/opt/crew/bin/twistd", "--nodaemon", "--pidfile=", "crew-worker"], words[:4])
        options = WorkerOptions()
        options.parseOptions([self.expanded(word, config) for word in words[4:]])
        [broker] = options.brokers
        self.assertEqual(("worker", "secret", ("a.b",)), (broker.username, broker.password, options.services))

    def test_the_gateways_command_line_is_taken(self) -> None:
        """With its file, its password and its clients' tokens."""
        config = self.write("gateway.toml", '[gateway]\nallow-task = ["a"]\nlisten = "tcp:8080"\n')
        self.write("password", "secret\n").chmod(0o400)
        self.write("tokens", "neo:follow-the-white-rabbit\n").chmod(0o400)
        words = self.unit(self.gateway)["Service"]["ExecStart"].split()
        self.assertEqual(["/opt/crew/bin/twistd", "--nodaemon", "--pidfile=", "crew-gateway"], words[:4])
        options = GatewayOptions()
        options.parseOptions(
            [self.expanded(word.replace("/etc/crew/gateway.toml", str(config)), config) for word in words[4:]]
        )
        [broker] = options.brokers
        self.assertEqual(("secret", ("a",)), (broker.password, options.exposed.tasks))
        self.assertIn("neo", options.credentials.tokens)
        for name in ("password", "tokens"):
            self.assertIn(f"LoadCredential={name}:/etc/crew/gateway.{name}\n", self.gateway.read_text())
        drain: Any = options.settings["drain"]
        self.assertLess(drain + LONGEST_END, int(self.unit(self.gateway)["Service"]["TimeoutStopSec"]))

    def expanded(self, word: str, config: Path) -> str:
        """As systemd does it."""
        word = word.replace("/etc/crew/%i.toml", str(config))
        return word.replace("${CREDENTIALS_DIRECTORY}", str(self.folder))

    def test_the_password_is_a_credential(self) -> None:
        """The one that the command line reads."""
        service = self.unit(self.worker)["Service"]
        name, _, source = service["LoadCredential"].partition(":")
        self.assertIn(f"--password-file=${{CREDENTIALS_DIRECTORY}}/{name}", service["ExecStart"])
        self.assertEqual("/etc/crew/%i.password", source)

    def test_a_drain_has_the_time_it_takes(self) -> None:
        """Also one of a supervisor."""
        drain: Any = SETTINGS["drain"].default
        longest = drain + _SPARE_KILL_TIME + LONGEST_END
        self.assertLess(longest, int(self.unit(self.worker)["Service"]["TimeoutStopSec"]))

    def test_neither_is_started_again_in_vain(self) -> None:
        """What is wrong stays wrong."""
        for path in (self.worker, self.broker, self.gateway):
            codes = self.unit(path)["Service"]["RestartPreventExitStatus"].split()
            self.assertEqual([USAGE, REFUSED], [int(code) for code in codes])

    def test_a_supervisor_alone_is_told_to_stop(self) -> None:
        """Its workers would take it for a second signal."""
        self.assertEqual("mixed", self.unit(self.worker)["Service"]["KillMode"])


class ScriptTests(EtcTestCase):
    """What the scripts for RabbitMQ do with wrong use, and which commands they give."""

    def setUp(self) -> None:
        super().setUp()
        self.log = self.folder / "log"
        self.ctl = self.write(
            "ctl",
            f'#!/bin/sh\necho "$*" >> {self.log}\n'
            'case "$*" in *list_users) printf "guest\\t[administrator]\\nx-caller\\t[]\\n";; '
            f"*add_user*) cat >> {self.log}; echo >> {self.log};; esac\n",
        )
        self.ctl.chmod(0o755)

    def run_script(self, name: str, *arguments: str, **environment: str) -> tuple[int, str]:
        done = subprocess.run(
            [str(ETC / "rabbitmq" / name), *arguments],
            env={"PATH": os.environ["PATH"], "RABBITMQCTL": f"{self.ctl} --node n@h", **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
        )
        return done.returncode, done.stdout

    def commands(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []

    def test_wrong_use_changes_nothing(self) -> None:
        """Not even for the roles before the wrong one."""
        for name, arguments, words in (
            ("roles", ["caller", "boss"], "there is no role boss"),
            ("roles", ["-x"], "takes -p VHOST"),
            ("roles", ["-d", "/nowhere"], "there is no folder /nowhere"),
            ("policies", ["-x"], "takes -p VHOST"),
        ):
            code, output = self.run_script(name, *arguments)
            self.assertEqual(2, code, output)
            self.assertIn(words, output)
        self.assertEqual([], self.commands())

    def test_a_new_user_has_a_password_that_nobody_sees(self) -> None:
        """It goes by the standard input, and into a file for its owner alone."""
        self.assertEqual(0, self.run_script("roles", "-n", "x-", "-d", str(self.folder), "worker")[0])
        file = self.folder / "x-worker.password"
        password = file.read_text()
        self.assertRegex(password, r"\A[0-9a-f]{48}\Z")
        self.assertEqual(0o600, file.stat().st_mode & 0o777)
        self.assertEqual(
            ["--node n@h --silent list_users", "--node n@h --quiet add_user x-worker", password],
            self.commands()[:3],
        )
        self.assertEqual(1, self.log.read_text().count(password))

    def test_a_user_who_exists_keeps_the_password(self) -> None:
        """Only the permissions are set, in the one virtual host."""
        self.assertEqual(
            (0, "x-caller has the role caller in shop\n"),
            self.run_script("roles", "-p", "shop", "-n", "x-", "-d", str(self.folder), "caller"),
        )
        cleared, given = [line for line in self.commands() if "list_users" not in line]
        self.assertEqual("--node n@h --quiet clear_topic_permissions -p shop x-caller crew.control", cleared)
        self.assertTrue(given.startswith("--node n@h --quiet set_permissions -p shop x-caller ^crew"))
        self.assertFalse((self.folder / "x-caller.password").exists())

    def test_a_password_that_is_there_is_not_written_over(self) -> None:
        """It may be another broker's."""
        self.write("worker.password", "old")
        code, output = self.run_script("roles", "-d", str(self.folder), "worker")
        self.assertEqual(2, code)
        self.assertIn("worker.password exists", output)
        self.assertEqual("old", (self.folder / "worker.password").read_text())

    def test_a_user_who_can_not_be_added_leaves_no_password(self) -> None:
        """Else the next try would stumble over it."""
        self.ctl.write_text('#!/bin/sh\ncase "$*" in *add_user*) exit 70;; esac\n')
        code, output = self.run_script("roles", "-d", str(self.folder), "worker")
        self.assertEqual((2, "roles: the user worker could not be added\n"), (code, output))
        self.assertEqual([], list(self.folder.glob("*.password")))

    def test_a_monitor_may_write_to_the_keys_for_looking_alone(self) -> None:
        """It is told so before it may write at all; others have all keys."""
        self.run_script("roles", "-p", "shop", "-d", str(self.folder))
        permissions = [line.split() for line in self.commands() if "permissions" in line]
        verbs = {
            user: [words[3] for words in permissions if words[6] == user] for user in ("monitor", "manager")
        }
        self.assertEqual(["set_topic_permissions", "set_permissions"], verbs["monitor"])
        self.assertEqual(["clear_topic_permissions", "set_permissions"], verbs["manager"])
        [given] = [words[4:] for words in permissions if words[3] == "set_topic_permissions"]
        *place, keys, read = given
        self.assertEqual(["-p", "shop", "monitor", "crew.control"], place)
        self.assertEqual("^$", read)
        for key in (control_key(None, True), control_key("a.mgt", True)):
            self.assertIsNotNone(re.search(keys, key), key)
        for key in (control_key(None), control_key("look"), "looks", "xlook.a", ""):
            self.assertIsNone(re.search(keys, key), key)

    def test_nobody_may_use_the_default_exchange(self) -> None:
        """Nor all exchanges and queues: by it, or them, every queue is reached."""
        self.run_script("roles", "-d", str(self.folder))
        patterns = [
            pattern for line in self.commands() if " set_perm" in line for pattern in line.split()[-3:]
        ]
        self.assertEqual(12, len(patterns))
        for pattern in patterns:
            for name in ("amq.default", "", "another", "xcrew.tasks.a", "crewXtasks.a"):
                self.assertIsNone(re.search(pattern, name), pattern)

    def test_limits_are_taken_from_the_environment(self) -> None:
        """Beside which they have defaults."""
        self.assertEqual(0, self.run_script("policies", "-p", "shop", TASK_LENGTH="7")[0])
        tasks, replies = self.commands()
        self.assertIn(
            '-p shop --apply-to queues --priority 0 crew-tasks ^crew\\.tasks\\. {"max-length": 7,', tasks
        )
        self.assertIn('{"max-length": 100000,', replies)
        self.assertTrue(all(line.endswith('"overflow": "reject-publish"}') for line in (tasks, replies)))


class MonitoringFileTests(EtcTestCase):
    """Alert rules, and a dashboard."""

    def names(self, file: str) -> set[str]:
        """The metrics of ours that a file speaks of, without what histograms add."""
        found = re.findall(r"crew_(?:worker|client|gateway)_[a-z_]+", (ETC / "monitoring" / file).read_text())
        return {re.sub("_(bucket|sum|count)$", "", name) for name in found}

    def test_they_name_metrics_that_are_there(self) -> None:
        """Each of them."""
        exposition = Exposition()
        exposition.add_worker(lambda: WORKER)
        exposition.add_client(lambda: CLIENT)
        exposition.add_gateway(lambda: GatewayStatus(1, 0, 0, 0, Traffic()))
        CallMetrics(exposition.registry, ["a"]).answered("a", "ok", 0.0, 0.0)
        families = re.findall("^# TYPE ([a-z_]+) ", exposition.text().decode(), re.MULTILINE)
        for file in ("alerts.yml", "grafana-dashboard.json"):
            names = self.names(file)
            self.assertTrue(names, file)
            self.assertEqual(set(), names - set(families), file)

    def test_the_dashboard_can_be_imported(self) -> None:
        """Its panels have places of their own."""
        dashboard = json.loads((ETC / "monitoring" / "grafana-dashboard.json").read_text())
        places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in dashboard["panels"]]
        self.assertEqual(len(places), len(set(places)))
        self.assertEqual(len(places), len({panel["id"] for panel in dashboard["panels"]}))
