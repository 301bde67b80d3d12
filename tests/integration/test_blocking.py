"""
Programs that have no reactor, or have one besides their threads, on a real broker.

Each is a process of its own. The long form of the WSGI test, 20,000 calls, runs
with ``CREW_TEST_CALLS=20000``.
"""

from __future__ import annotations

import os
from textwrap import dedent
from typing import Any

from twisted.internet.defer import Deferred

from crew_tx.worker import Task
from tests.integration.support import BrokerTestCase, Program

CALLS = int(os.environ.get("CREW_TEST_CALLS", "400"))

#: A WSGI server that makes CALLS_A_REQUEST calls for each request, each in a thread of its own.
WSGI = """
    import sys
    from concurrent.futures import ThreadPoolExecutor
    from socketserver import ThreadingMixIn
    from threading import Thread, enumerate as threads
    from urllib.request import urlopen
    from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

    from crew_tx.blocking import Client

    task, requests, calls = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    client = Client()
    most = set()

    class Server(ThreadingMixIn, WSGIServer):
        daemon_threads = True
        request_queue_size = 100

    class Silent(WSGIRequestHandler):
        def log_message(self, *args):
            pass

    def application(environ, start_response):
        base = int(environ["PATH_INFO"][1:])
        answers = [client.call(task, [base, number]) for number in range(calls)]
        most.add(len(threads()))
        start_response("200 OK", [("Content-Type", "text/plain")])
        right = answers == [base + number for number in range(calls)]
        return [b"right" if right else repr(answers).encode()]

    server = make_server("127.0.0.1", 0, application, Server, Silent)
    Thread(target=server.serve_forever, daemon=True).start()

    def get(number):
        with urlopen(f"http://127.0.0.1:{server.server_port}/{number * 1000}", timeout=60) as answer:
            return answer.read()

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(get, range(requests)))
    print("answers", len(answers), set(answers))
    server.shutdown()
"""


class ProgramTests(BrokerTestCase):
    """Programs, and a worker that runs here."""

    timeout = 240

    async def sums(self, **options: Any) -> str:
        """A worker's task that adds numbers up."""
        name = self.name("sum")

        @Task(name)
        def add(req: list[int]) -> int:
            return sum(req)

        await self.worker(add, **options)
        return name

    def run_program(self, text: str, *arguments: object) -> Program:
        """A program that knows its broker by the environment."""
        script = self.script()
        script.write_text(dedent(text))
        # Newer Pythons warn of any fork of a process that has threads.
        options = ("-W", "ignore::DeprecationWarning")
        return self.process(*options, script, *map(str, arguments), environment={"CREW_BROKER": self.url})

    async def output(self, text: str, *arguments: object) -> str:
        """What a program that ends well prints."""
        program = self.run_program(text, *arguments)
        ended: Deferred[int] = Deferred()
        program._ended.append(ended)
        code = await ended
        self.assertEqual(code, 0, program.output)
        return program.output

    async def test_a_script_of_five_lines(self) -> None:
        """It ends by itself, without a word on the error stream."""
        output = await self.output(
            """
            import sys
            from crew_tx.blocking import Client

            client = Client()
            print(client.call(sys.argv[1], [1, 2]))
            """,
            await self.sums(),
        )
        self.assertEqual(output, "3\n")

    async def test_twenty_threads_of_a_wsgi_server(self) -> None:
        """Each call gets its own answer, by one client and one connection."""
        requests = CALLS // 20
        output = await self.output(WSGI, await self.sums(), requests, 20)
        self.assertEqual(output, f"answers {requests} {{b'right'}}\n")

    async def test_large_bodies(self) -> None:
        """They are coded in threads, which do not keep the program from its end."""
        output = await self.output(
            """
            import sys
            from crew_tx.blocking import Client

            print(Client().call(sys.argv[1], [1] * 300_000))
            """,
            await self.sums(),
        )
        self.assertEqual(output, "300000\n")

    async def test_threads_go_on_after_the_main_thread(self) -> None:
        """The client serves them until they have ended, too."""
        output = await self.output(
            """
            import sys
            from threading import Thread, main_thread
            from crew_tx.blocking import Client

            client = Client()

            def work():
                main_thread().join()
                print(client.call(sys.argv[1], [1, 2]))

            Thread(target=work).start()
            client.connect()
            """,
            await self.sums(),
        )
        self.assertEqual(output, "3\n")

    async def test_ctrl_c(self) -> None:
        """It ends the wait at once, and the client is of use after it."""
        name = self.name("slow")
        begun: Deferred[None] = Deferred()

        @Task(name)
        async def slow(req: Any) -> Any:
            if req:
                return req
            begun.callback(None)
            return await Deferred()

        await self.worker(slow)
        program = self.run_program(
            """
            import sys
            from crew_tx.blocking import Client

            with Client() as client:
                try:
                    client.call(sys.argv[1])
                except KeyboardInterrupt:
                    print("interrupted", client.call(sys.argv[1], "again"))
            """,
            name,
        )
        await begun
        program.signal("INT")
        self.assertEqual(await program.ends(), 0, program.output)
        self.assertIn("interrupted again", program.output)

    async def test_forks(self) -> None:
        """A child refuses the parent's, and has its own; the parent's goes on."""
        output = await self.output(
            """
            import os, sys
            from crew_tx.blocking import Client
            from crew_tx.errors import ForkedError

            task = sys.argv[1]
            unused, client = Client(), Client()
            client.connect()
            child = os.fork()
            if child == 0:
                try:
                    client.call(task, [1])
                except ForkedError as error:
                    print("post_fork" in str(error), unused.call(task, [1, 2]), flush=True)
                unused.close()
                os._exit(0)
            os.waitpid(child, 0)
            print(client.call(task, [3, 4]))
            """,
            await self.sums(),
        )
        self.assertEqual(output, "True 3\n7\n")

    async def test_a_pool_of_processes(self) -> None:
        """Each has a client of its own, though the parent's is in use."""
        output = await self.output(
            """
            import sys
            from multiprocessing import get_context
            from crew_tx.blocking import Client

            def work(number):
                with Client() as client:
                    return client.call(sys.argv[1], [number, 1])

            Client().connect()
            with get_context("fork").Pool(3) as pool:
                print(pool.map(work, range(6), chunksize=1))
            """,
            await self.sums(),
        )
        self.assertEqual(output, "[1, 2, 3, 4, 5, 6]\n")

    async def test_a_reactor_that_was_there_before_the_fork(self) -> None:
        """It is the program's, and can't be made anew: the error says what to do."""
        output = await self.output(
            """
            import os
            from twisted.internet import reactor
            from crew_tx.blocking import Client
            from crew_tx.errors import ForkedError

            child = os.fork()
            if child == 0:
                try:
                    Client().connect()
                except ForkedError as error:
                    print("lazy-apps" in str(error), flush=True)
                os._exit(0)
            os.waitpid(child, 0)
            """
        )
        self.assertEqual(output, "True\n")

    async def test_a_twisted_program(self) -> None:
        """Its own reactor serves; in that thread calls are refused; its end ends what waits."""
        output = await self.output(
            """
            import sys
            from threading import enumerate as threads
            from twisted.internet import reactor
            from twisted.internet.threads import deferToThread
            from crew_tx.blocking import Client
            from crew_tx.errors import ClientStoppedError, WrongThreadError

            client = Client()

            def work():
                print(client.call(sys.argv[1], [1, 2]))
                print([each.name for each in threads() if each.name.startswith("crew")])
                waiting = client.lazy(sys.argv[1] + ".nobody", require_worker=False)
                reactor.callFromThread(reactor.stop)
                try:
                    client.call(sys.argv[2])
                except ClientStoppedError:
                    print("stopped")

            def begin():
                try:
                    client.call("any")
                except WrongThreadError:
                    print("refused")
                deferToThread(work)

            reactor.callWhenRunning(begin)
            reactor.run()
            """,
            await self.sums(),
            await self.hanging(),
        )
        self.assertEqual(output, "refused\n3\n[]\nstopped\n")

    async def hanging(self) -> str:
        """A task that has no end."""
        name = self.name("hang")

        @Task(name)
        async def hang(req: Any) -> None:
            await Deferred()

        await self.worker(hang, drain=0.1)
        return name

    async def test_an_error_shows_the_callers_line(self) -> None:
        """And what the program does not catch ends it, as any other error."""
        program = self.run_program(
            """
            import sys
            from crew_tx.blocking import Client

            Client().call(sys.argv[1])  # this line
            """,
            "nobody.has.it",
        )
        self.assertEqual(await program.ends(), 1, program.output)
        self.assertIn("Client().call(sys.argv[1])  # this line", program.output)
        self.assertIn("crew_tx.errors.UnroutableError: no worker", program.output)
