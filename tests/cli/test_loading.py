"""Loading the modules that a worker is given."""

from __future__ import annotations

import os
import sys
from textwrap import dedent
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from crew_tx.cli.loading import load_for_process, load_services, take_run
from crew_tx.errors import ConfigurationError
from crew_tx.tasks.registry import collect_imported

TASK = """
from crew_tx.worker import Task
@Task("{0}")
def {0}(req):
    pass
"""


ISOLATED = TASK.replace(")\ndef", ", isolation='process')\ndef")


class ModulesTestCase(SynchronousTestCase):
    """Modules in a folder of the test's own."""

    def setUp(self) -> None:
        self.folder = os.path.abspath(self.mktemp())
        os.mkdir(self.folder)
        self.patch(sys, "path", list(sys.path))
        self.patch(sys, "dont_write_bytecode", True)
        before = set(sys.modules)
        self.addCleanup(lambda: [sys.modules.pop(name) for name in set(sys.modules) - before])

    def write(self, name: str, text: str) -> str:
        path = os.path.join(self.folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(dedent(text))
        return path

    def loaded(self, *services: str) -> tuple[list[str], dict[str, Any]]:
        loaded = load_services(services)
        return [definition.task_id for definition in loaded.definitions], loaded.settings

    def refused(self, *services: str) -> str:
        return str(self.assertRaises(ConfigurationError, load_services, services))


class LoadingTests(ModulesTestCase):
    """What a worker is made of."""

    def test_commands_are_found_beside_tasks(self) -> None:
        """Also those that a task's own module has, where another module only imports the task."""
        home = TASK.format("g") + (
            "from crew_tx.control import command\n"
            "@command('reload', right='steer')\n"
            "def reload(request): pass\n"
        )
        self.write("crew_g.py", home)
        path = self.write("crew_h.py", "from crew_g import g")
        (found,) = load_services([path]).commands
        self.assertEqual(("reload", "steer"), (found.name, found.right))
        self.assertEqual([found], load_services([path, os.path.join(self.folder, "crew_g.py")]).commands)

    def test_a_command_of_a_taken_name_is_refused(self) -> None:
        """By another module, or by what every worker knows."""
        command = "from crew_tx.control import command\n@command('{0}')\ndef c_{1}(request): pass\n"
        one = self.write("crew_i.py", TASK.format("i") + command.format("reload", "i"))
        two = self.write("crew_j.py", TASK.format("j") + command.format("reload", "j"))
        self.assertIn("the control command 'reload' is taken; give the one of crew_", self.refused(one, two))
        three = self.write("crew_k.py", TASK.format("k") + command.format("kill", "k"))
        self.assertIn("the control command 'kill' is taken", self.refused(three))

    def test_a_file_is_loaded_by_its_path(self) -> None:
        """Its tasks and services are found."""
        path = self.write(
            "crew_a.py",
            """
            from crew_tx.worker import Service, Task
            @Task("one")
            def one(req): pass
            class Example:
                def c_add(self, req): pass
            example = Service("example", Example())
            """,
        )
        self.assertEqual((["one", "example", "example.add"], {}), self.loaded(path))

    def test_its_folder_is_on_the_path(self) -> None:
        """As for a script: it may import its neighbours."""
        self.write("crew_neighbour.py", TASK.format("neighbour"))
        path = self.write("crew_b.py", "from crew_neighbour import neighbour")
        self.assertEqual((["neighbour"], {}), self.loaded(path))
        self.assertEqual(self.folder, sys.path[0])

    def test_a_relative_path_is_one_from_the_working_folder(self) -> None:
        """As everywhere."""
        path = self.write("crew_c.py", TASK.format("c"))
        self.assertEqual(["c"], self.loaded(os.path.relpath(path))[0])

    def test_a_dotted_module_is_imported(self) -> None:
        """From the working folder, as python -m would."""
        self.write("crew_d/__init__.py", "")
        self.write("crew_d/tasks.py", TASK.format("d"))
        self.patch(os, "getcwd", lambda: self.folder)
        self.assertEqual(["d"], self.loaded("crew_d.tasks")[0])

    def test_two_files_of_one_name_are_two_modules(self) -> None:
        """Neither hides the other."""
        one = self.write("one/crew_e.py", TASK.format("one"))
        two = self.write("two/crew_e.py", TASK.format("two"))
        self.assertEqual(["one", "two"], self.loaded(one, two)[0])

    def test_a_file_does_not_take_the_name_of_a_module_that_is_there(self) -> None:
        """Else the module would be gone for all others."""
        path = self.write("signal.py", TASK.format("s"))
        signal = sys.modules["signal"]
        self.assertEqual(["s"], self.loaded(path)[0])
        self.assertIs(signal, sys.modules["signal"])

    def test_a_file_that_others_import_is_one_module(self) -> None:
        """So its tasks are not there twice."""
        one = self.write("crew_f.py", TASK.format("f"))
        two = self.write("crew_g.py", "from crew_f import f")
        self.assertEqual(["f"], self.loaded(one, two)[0])
        self.assertEqual(["f"], self.loaded(one, one)[0])

    def test_run_gives_its_settings_and_all_imported_tasks(self) -> None:
        """A worker script can be a SERVICE: its run() starts nothing."""
        self.write("crew_imported.py", TASK.format("imported"))
        path = self.write(
            "crew_h.py",
            "import crew_imported\nfrom crew_tx.worker import run\n"
            + TASK.format("h")
            + "run(counter=0, db='x')\nafter = True",
        )
        task_ids, settings = self.loaded(path)
        self.assertEqual({"counter": 0, "db": "x"}, settings)
        # Those of other tests' modules are there, too.
        self.assertEqual([1, 1], [task_ids.count(task_id) for task_id in ("h", "imported")])

    def test_run_in_a_module_that_is_imported_counts_as_well(self) -> None:
        """It is loaded on the way."""
        self.write("crew_inner.py", TASK.format("inner") + "from crew_tx.worker import run\nrun(a=1)")
        path = self.write("crew_i.py", "from crew_inner import inner")
        self.assertEqual({"a": 1}, self.loaded(path)[1])

    def test_one_setting_of_two_runs_is_refused(self) -> None:
        """One would get the other's."""
        paths = [
            self.write(name, TASK.format(name[:-3]) + "from crew_tx.worker import run\nrun(db=1)")
            for name in ("crew_j.py", "crew_k.py")
        ]
        self.assertIn("crew_k.py gives run() the setting 'db', which another SERVICE", self.refused(*paths))

    def test_after_loading_run_is_not_taken_any_more(self) -> None:
        """It would be a script's own."""
        self.assertFalse(take_run({"a": 1}))
        self.refused(self.write("crew_l.py", "1/0"))
        self.assertFalse(take_run({"a": 1}))

    def test_a_missing_file_is_refused(self) -> None:
        """With what a SERVICE can be."""
        self.assertEqual(
            "there is no file /nowhere/a.py; give the path of a .py file, or a dotted module",
            self.refused("/nowhere/a.py"),
        )

    def test_a_missing_module_is_refused(self) -> None:
        """Also a missing package, and what is no name at all."""
        self.assertIn("there is no module crew_nowhere;", self.refused("crew_nowhere.tasks"))
        self.assertIn("there is no module crew_tx.nowhere;", self.refused("crew_tx.nowhere"))
        self.assertIn("'./worker' is no module's name;", self.refused("./worker"))

    def test_a_failing_import_is_shown_with_its_traceback(self) -> None:
        """From the module's own frame on."""
        path = self.write("crew_m.py", "def f():\n    raise KeyError('x')\nf()")
        first, *rest = self.refused(path).split("\n")
        self.assertEqual(f"{path} can't be imported; mend what its traceback says:", first)
        self.assertEqual("Traceback (most recent call last):", rest[0])
        self.assertEqual(f'  File "{path}", line 3, in <module>', rest[1])
        self.assertEqual("KeyError: 'x'", rest[-1])
        self.assertNotIn("loading.py", "\n".join(rest))
        self.assertNotIn("crew_m", sys.modules)

    def test_what_an_import_lacks_is_no_missing_service(self) -> None:
        """The traceback says which import it was."""
        self.write("crew_n.py", "import crew_nowhere")
        self.patch(os, "getcwd", lambda: self.folder)
        text = self.refused("crew_n")
        self.assertIn("No module named 'crew_nowhere'", text)
        self.assertIn("line 1, in <module>", text)
        self.assertNotIn("importlib", text)

    def test_a_syntax_error_is_shown_where_it_is(self) -> None:
        """It has no frame."""
        text = self.refused(self.write("crew_o.py", "def f(:\n"))
        self.assertIn('crew_o.py", line 1', text)
        self.assertIn("SyntaxError", text)

    def test_a_module_that_ends_the_program_is_refused(self) -> None:
        """The worker's process is not its own."""
        self.assertIn("SystemExit: 3", self.refused(self.write("crew_p.py", "raise SystemExit(3)")))

    def test_a_wrong_declaration_is_told_in_one_line(self) -> None:
        """It says where it is."""
        text = self.refused(
            self.write("crew_q.py", TASK.format("q") + TASK.format("q").replace("def q", "def r"))
        )
        self.assertIn("the task id 'q' is taken", text)
        self.assertEqual(1, len(text.splitlines()))

    def test_a_module_without_tasks_is_refused(self) -> None:
        """It is most likely the wrong one."""
        path = self.write("crew_r.py", "x = 1")
        self.assertIn(f"{path} has no tasks; put @Task('name') above a function", self.refused(path))


class ProcessTests(ModulesTestCase):
    """The same modules, in a process of a worker."""

    def in_process(self, *services: str) -> tuple[list[str], dict[str, Any]]:
        others = {definition.task_id for definition in collect_imported()}
        definitions, settings = load_for_process(services)
        return [each.task_id for each in definitions if each.task_id not in others], settings

    def test_tasks_in_processes_are_found_and_no_others(self) -> None:
        """Those of services, too."""
        service = """
            from crew_tx.worker import Service
            class Methods:
                def c_add(self, req): pass
            hosted = Service("crew_hosted", Methods(), isolation="process")
            """
        path = self.write(
            "crew_p.py", TASK.format("p_thread") + ISOLATED.format("p_process") + dedent(service)
        )
        self.assertEqual((["p_process", "crew_hosted", "crew_hosted.add"], {}), self.in_process(path))

    def test_a_script_is_loaded_whether_its_run_is_reached_or_not(self) -> None:
        """And what it imports; it need not be called .py."""
        self.write("crew_q_other.py", ISOLATED.format("q_other"))
        script = "import crew_q_other\nfrom crew_tx.worker import run\n" + ISOLATED.format("q_{0}")
        guarded = self.write(
            "crew_q", script.format("guarded") + "if __name__ == '__main__':\n    run(a=1)\n"
        )
        self.assertEqual((["q_guarded", "q_other"], {}), self.in_process(guarded))
        open_ = self.write("crew_q_open.py", script.format("open") + "run(a=1)\n")
        found, settings = self.in_process(open_)
        self.assertEqual((["q_open"], {"a": 1}), (found, settings))

    def test_where_modules_are_is_told_for_every_folder(self) -> None:
        """Files by their whole path, modules by their names."""
        self.write("crew_r.py", TASK.format("r"))
        self.write("crew_s.py", TASK.format("s"))
        self.patch(sys, "path", [self.folder, *sys.path])
        here = os.getcwd()
        self.addCleanup(os.chdir, here)
        os.chdir(self.folder)
        modules = load_services(["crew_r.py", "crew_s"]).modules
        self.assertEqual([os.path.join(self.folder, "crew_r.py"), "crew_s"], modules)
