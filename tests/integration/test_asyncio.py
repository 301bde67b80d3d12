"""A program on asyncio: the example that the documentation has, run as it stands there."""

from __future__ import annotations

from textwrap import dedent

from crew_tx import blocking
from crew_tx.worker import Task
from tests.integration.support import BrokerTestCase


def example() -> str:
    """The last example of the module's documentation."""
    assert blocking.__doc__ is not None
    return dedent(blocking.__doc__.split("a future of a Deferred::\n")[1])


class AsyncioTests(BrokerTestCase):
    """On Twisted's asyncio reactor."""

    async def test_calls_are_awaited(self) -> None:
        """By ``Deferred.asFuture``, in a coroutine of asyncio's."""
        name = self.name()

        @Task(name)
        def add(req: list[int]) -> int:
            return sum(req)

        await self.worker(add)
        program = await self.run_example('"test"', f'"{name}"')
        self.assertEqual(program, (0, "3\n"))

    async def test_asyncios_own_things_work_beside_it(self) -> None:
        """Its time limits, its tasks; a call that is cancelled by them is cancelled here, too."""
        name = self.name()

        @Task(name)
        async def late(req: float) -> float:
            from twisted.internet import reactor, task

            return await task.deferLater(reactor, req, lambda: req)  # type: ignore[arg-type]

        await self.worker(late, drain=0.1)
        program = await self.run_example(
            'print(await client.call("test", [1, 2]).asFuture(loop))',
            dedent(
                f"""
                calls = [client.call("{name}", 0.01 * number).asFuture(loop) for number in range(3)]
                print(await asyncio.gather(*calls))
                try:
                    async with asyncio.timeout(0.2):
                        await client.call("{name}", 30).asFuture(loop)
                except TimeoutError:
                    print("too long", client.status().pending)
                """
            ).replace("\n", "\n    "),
        )
        self.assertEqual(program, (0, "[0.0, 0.01, 0.02]\ntoo long 0\n"))

    async def run_example(self, old: str, new: str) -> tuple[int, str]:
        """Run it with other words in a place. :returns: its exit code and its output."""
        text = example()
        self.assertIn(old, text)
        script = self.script()
        script.write_text(text.replace(old, new))
        program = self.process(script, environment={"CREW_BROKER": self.url})
        return await program.ends(), program.output
