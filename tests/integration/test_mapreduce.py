"""One task for many items, with workers that are processes."""

from __future__ import annotations

import importlib.util
import operator
import re
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from types import ModuleType
from typing import Any

from tests.integration.mapping_memory import MIB, MemoryTestCase
from tests.integration.support import ROOT, BrokerTestCase, Program

RUN = """\
import runpy
from crew_tx.worker import Task, run
service = runpy.run_path({service!r})

@Task({task!r})
def count(text):
    return service["count"](text)

run()
"""


def wordcount() -> ModuleType:
    """services/wordcount.py."""
    spec = importlib.util.spec_from_file_location("crew_wordcount", ROOT / "services" / "wordcount.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def counted_directly(paths: list[Path]) -> Counter[str]:
    """The words of whole texts, in one go."""
    texts = (path.read_text(encoding="utf-8", errors="replace") for path in paths)
    return Counter(word for text in texts for word in re.findall(r"[^\W\d_]+", text.lower()))


class WordCountTests(BrokerTestCase):
    """The words of Python's own library, while workers come and go."""

    timeout = 120

    async def counter(self, name: str) -> Program:
        worker = self.process(self.file, "--name", name, environment={"CREW_BROKER": self.url})
        await worker.says("answers")
        return worker

    async def test_words_are_counted_while_workers_come_and_go(self) -> None:
        """One is killed in the middle, two join then: it is what a Counter of the same texts has."""
        service = wordcount()
        task = self.name("wordcount")
        self.file = self.script()
        self.file.write_text(RUN.format(service=str(ROOT / "services" / "wordcount.py"), task=task))
        pieces = list(service.pieces(service.library(), 16 * 1024))
        killed = await self.counter("killed")
        await self.counter("stays")
        done: list[tuple[int, int]] = []

        async def coming() -> AsyncIterator[str]:
            for number, piece in enumerate(pieces):
                if number == len(pieces) // 2:
                    killed.signal("KILL")
                    self.out_then = done[-1][1] - done[-1][0]
                    await killed.ends()
                    await self.counter("joins")
                    await self.counter("joins-too")
                yield piece

        client = await self.client()
        counted: Any = await client.map_reduce_by_key(
            task,
            operator.add,
            coming(),
            window=60,
            retries=2,
            stragglers=4,
            progress=lambda *counts: done.append(counts),
        )
        self.assertEqual(counted_directly(service.library()), counted)
        self.assertEqual((len(pieces), len(pieces)), done[-1])
        self.assertGreater(self.out_then, 0)
        self.assertGreater(len(pieces), 100)
        processed = {
            each["wid"]: each["processed"]
            for each in await client.control("stats", task, timeout=10, expect=3)
        }
        self.assertEqual(3, len(processed))
        for number in processed.values():
            self.assertGreater(number, 0)

    async def test_the_example_counts_files(self) -> None:
        """Its worker under twistd, its program beside it."""
        self.delete_later("crew.tasks.wordcount.count")
        service = ROOT / "services" / "wordcount.py"
        texts = self.script()
        texts.write_text("to be or\nnot\n to be\nto\n")
        environment = {"CREW_BROKER": self.url}
        twistd = ("-c", "from twisted.scripts.twistd import run; run()", "-n", "--pidfile=", "crew-worker")
        await self.process(*twistd, service, environment=environment).says("answers wordcount.count")
        counting = self.process(service, texts, environment=environment)
        self.assertEqual(0, await counting.ends())
        self.assertEqual(
            ["3 to", "2 be", "1 or", "1 not"], [line.strip() for line in counting.output.splitlines()]
        )


class MemoryTests(MemoryTestCase):
    """However many items there are."""

    async def test_a_hundred_thousand_pieces(self) -> None:
        """As much memory as ten thousand take, of 100 MiB of items and as much of results."""
        early, peak = await self.peaks(100_000)
        self.assertLess(peak - early, 10 * MIB)
