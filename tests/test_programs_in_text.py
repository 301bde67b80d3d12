"""Texts in Markdown, as tests read them."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.programs_in_text import Command, Program, matches, page_of

TEXT = """# A page

`Client` has it; ``` is no fence here.

```python
# one.py
import two
print("x")
```

```text
x
```

```python
# two.py
from crew_tx.worker import Task
```

In between.

```text
not what two.py prints
```

```console
$ crew ping
WID
$ crew send x
```

```sh
crew top
```

```python
nameless
```
"""


class PageTests(SynchronousTestCase):
    """What is found in a page."""

    def setUp(self) -> None:
        self.page = page_of(TEXT)

    def test_programs_and_commands_come_in_their_order(self) -> None:
        """With what they print, where it stands right below them."""
        one = Program("one.py", 'import two\nprint("x")\n', "x\n")
        two = Program("two.py", "from crew_tx.worker import Task\n")
        self.assertEqual([one, two, Command("crew ping", "WID"), Command("crew send x", "")], self.page.steps)

    def test_commands_to_be_read_are_commands_too(self) -> None:
        """But none at a prompt."""
        self.assertEqual(["crew ping", "crew send x"], self.page.prompted)
        self.assertEqual(["crew ping", "crew send x", "crew top"], self.page.command_lines)

    def test_every_fence_is_there(self) -> None:
        """Those without a name as well."""
        self.assertEqual(
            [None, "one.py", "two.py"],
            sorted((f.name for f in self.page.fences if f.language == "python"), key=str),
        )
        self.assertEqual(7, len(self.page.fences))

    def test_spans_are_outside_of_fences(self) -> None:
        """They are what the text names."""
        self.assertIn("Client", self.page.spans)

    def test_programs_have_their_parts(self) -> None:
        """A module is imported, a module of tasks is a worker's."""
        one, two = self.page.programs
        self.assertEqual((False, True), (one.is_imported([one, two]), two.is_imported([one, two])))
        self.assertEqual((False, True), (one.is_of_tasks, two.is_of_tasks))
        self.assertTrue(Program("web.py", "    await Deferred()\n").is_server)
        self.assertTrue(Program("app.py", "application = Application('x')\n").is_application)

    def test_they_are_written_without_their_names(self) -> None:
        """Into a folder."""
        folder = Path(self.mktemp())
        folder.mkdir()
        self.page.write(folder)
        self.assertEqual('import two\nprint("x")\n', (folder / "one.py").read_text())
        self.assertEqual(["one.py", "two.py"], sorted(path.name for path in folder.iterdir()))


class MatchesTests(SynchronousTestCase):
    """An output, and what a text says of it."""

    def test_it_is_the_same(self) -> None:
        """But for spaces at the ends."""
        self.assertTrue(matches("a\nb\n", "a  \nb\n\n"))
        self.assertFalse(matches("a\nb\n", "a\n"))
        self.assertFalse(matches("a\n", "a\nb\n"))

    def test_dots_stand_for_anything(self) -> None:
        """Of one line or several."""
        self.assertTrue(matches("worker-... 1\n...\nend", "worker-0f 1\nx\ny\nend\n"))
        self.assertFalse(matches("worker-... 1\n", "worker-0f 2\n"))

    def test_nothing_else_is_a_pattern(self) -> None:
        """Of regular expressions."""
        self.assertTrue(matches("[1.5] (a|b)", "[1.5] (a|b)"))
        self.assertFalse(matches("1.5", "1x5"))
