"""The gateway and the example site as people start them, asked by curl and by sockets."""

from __future__ import annotations

import json
import re
import signal
import socket
import sys
import time
from typing import Any
from urllib.parse import urlsplit

from tests.cli.programs import ROOT, Program, twisted_script
from tests.web.programs import ANYWHERE, WebProgramTestCase, curl, curling

JSON = ("-H", "Content-Type: application/json")
FIELD = r'"task-id":\s*"([\w-]+)"'

#: The article's worker, with its import line changed.
ARTICLE = """
# encoding: utf-8
from crew_tx.worker import run, context, Task

@Task('test')
def long_task(req):
    context.settings.counter += 1
    return 'Wake up Neo.\\n'

@Task('dead')
def infinite_loop_task(req):
    while True:
        pass

@Task('stat')
def get_counter(req):
    context.settings.counter += 1
    return 'I\\'m worker "%s". And I serve %s tasks' % (context.settings.uuid, context.settings.counter)

@Task('publish')
def publish(req):
    context.pubsub.publish('test', req)

run(
    counter=0,      # This is a part of this worker context
)
"""
CELERY_TASKS = """
import time
from crew_tx.worker import Task

@Task("examples.tasks.echo")
def echo(text):
    return text

@Task("examples.tasks.add")
def add(numbers):
    return sum(numbers)

@Task("examples.tasks.sleep")
def sleep(seconds):
    time.sleep(seconds)
"""


class ArticleTests(WebProgramTestCase):
    """Every path of crew's article, by curl."""

    def test_every_path_is_served_as_the_article_has_it(self) -> None:
        """With the worker that the article has."""
        self.worker(self.write("worker.py", ARTICLE))
        site = self.start(sys.executable, str(ROOT / "services/site.py"), "0", CREW_BROKER=self.url)
        [place] = site.wait_for(r"(http://127\.0\.0\.1:\d+)/")
        self.assertEqual("str: Wake up Neo.\n", curl(f"{place}/"))
        stat = r"I'm worker \"[\w-]+\"\. And I serve (\d+) tasks"
        self.assertRegex(curl(f"{place}/stat"), rf"\Astr: {stat}\Z")
        self.assertRegex(curl(f"{place}/parallel"), rf"\ATest result: Wake up Neo\.\n\nStat result: {stat}\Z")
        for path, published in (("publish", "None"), ("publish2", "published")):
            waiting = curling(f"{place}/subscribe")
            # It has to hang there first.
            time.sleep(0.5)
            self.assertEqual(published, curl(f"{place}/{path}", "--data", "Follow the white rabbit."))
            self.assertEqual("Follow the white rabbit.", waiting.communicate(timeout=20)[0])
        began = time.monotonic()
        self.assertEqual("Timeout", curl(f"{place}/fast"))
        self.assertGreater(time.monotonic() - began, 2.9)

    def test_without_workers_it_says_so(self) -> None:
        """As the article does, where there was one once."""
        worker = self.worker(self.write("worker.py", ARTICLE))
        worker.signal()
        worker.ended()
        site = self.start(sys.executable, str(ROOT / "services/site.py"), "0", CREW_BROKER=self.url)
        [place] = site.wait_for(r"(http://127\.0\.0\.1:\d+)/")
        self.assertEqual("All workers are gone", curl(f"{place}/fast"))


class CeleryTests(WebProgramTestCase):
    """The commands of tornado-celery's README."""

    def test_its_commands_have_the_documented_answers(self) -> None:
        """With a token as they are, and without one with the content type that they mean."""
        self.worker(self.write("tasks.py", CELERY_TASKS))
        tokens = self.write("tokens", "neo:follow-the-white-rabbit\n")
        allowed = ("--allow-task", "examples.tasks.*", "--allow-task", "examples.tasks.add")
        token = ("-H", "Authorization: Bearer follow-the-white-rabbit")
        for given, options in ((token, ("--tokens", tokens)), (JSON, ())):
            _, place = self.gateway(*allowed, *options)
            self.check(place, given)

    def check(self, place: str, options: tuple[str, ...]) -> None:
        applied = curl(
            *options, "-X", "POST", "-d", '{"args":["hello"]}', f"{place}/apply-async/examples.tasks.echo/"
        )
        [task_id] = re.findall(FIELD, applied)
        self.assertEqual({"task-id": task_id, "state": "PENDING"}, json.loads(applied))
        result = {"task-id": task_id, "state": "SUCCESS", "result": "hello"}
        self.assertEqual(result, self.until_done(f"{place}/tasks/result/{task_id}/", *options))
        applied = curl(*options, "-X", "POST", "-d", '{"args":[1,2]}', f"{place}/apply/examples.tasks.add/")
        self.assertEqual(("SUCCESS", 3), (json.loads(applied)["state"], json.loads(applied)["result"]))
        body = '{"args":[5],"timeout":1}'
        applied = json.loads(curl(*options, "-X", "POST", "-d", body, f"{place}/apply/examples.tasks.sleep/"))
        self.assertEqual(({"task-id", "state"}, "REVOKED"), (set(applied), applied["state"]))
        applied = curl(
            *options, "-X", "POST", "-d", '{"args":[5]}', f"{place}/apply-async/examples.tasks.sleep/"
        )
        [task_id] = re.findall(FIELD, applied)
        revoked = curl(*options, "-X", "DELETE", f"{place}/tasks/revoke/{task_id}/")
        self.assertEqual({"task-id": task_id}, json.loads(revoked))
        self.assertEqual({"tasks": ["examples.tasks.add"]}, json.loads(curl(*options, f"{place}/")))

    def until_done(self, place: str, *options: str) -> Any:
        limit = time.monotonic() + 20
        while (answer := json.loads(curl(*options, place)))["state"] == "PENDING":
            self.assertLess(time.monotonic(), limit)
        return answer


class GatewayProcessTests(WebProgramTestCase):
    """``twistd crew-gateway``."""

    def setUp(self) -> None:
        super().setUp()
        self.demo = self.worker(str(ROOT / "services/demo.py"))
        options = ("--allow-task", "test", "--allow-task", "sleep", "--allow-channel", "news")
        limits = ("--read-timeout", "2", "--max-body", "2000", "--max-connections", "50")
        self.process, self.place = self.gateway(*options, *limits)

    def test_calls_results_and_events_by_curl(self) -> None:
        """As docs/gateway.md shows them."""
        place = self.place
        self.assertEqual('"Wake up Neo.\\n"', curl(*JSON, "-X", "POST", f"{place}/call/test"))
        accepted = json.loads(curl(*JSON, "-H", "Prefer: respond-async", "-d", "0.3", f"{place}/call/sleep"))
        self.assertEqual("0.3", curl("-H", "Prefer: wait=5", f"{place}{accepted['location']}"))
        stream = curling("-H", "Accept: text/event-stream", "--max-time", "3", f"{place}/subscribe/news")
        poll = curling(f"{place}/subscribe/news")
        time.sleep(1)
        curl(*JSON, "-d", '{"a":1}', f"{place}/publish/news")
        (event,) = json.loads(poll.communicate(timeout=20)[0])["events"]
        self.assertEqual({"a": 1}, event["data"])
        self.assertIn(f"id: {event['id']}\ndata: ", stream.communicate(timeout=20)[0])

    def test_hostile_http_is_refused_and_the_gateway_goes_on(self) -> None:
        """By real sockets."""
        post = b"POST /call/test HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        for data, status in (
            (post + b"Content-Length: 99999999999\r\n\r\n" + b"x" * 1_000_000, b"413"),
            (post + b"Transfer-Encoding: chunked\r\n\r\n" + b"fff\r\n" + b"1" * 4095 + b"\r\n", b"413"),
            (post + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n12", b"400"),
            (b"GET /" + b"x" * 100_000, b"431"),
            (b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n", b"421"),
            (b"GET /%2e%2e/%00 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", b"404"),
            (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", b"400"),
            (post + b"X: a\r\n Set-Cookie: b\r\nContent-Length: 5\r\n", b"408"),
            (post + b"Content-Length: 5\r\n\r\n1", b"408"),
        ):
            answer = self.exchange(data)
            self.assertEqual(b"HTTP/1.1 " + status, answer[:12], data[:80])
            self.assertEqual(1, answer.count(b"HTTP/1.1 "), data[:80])
            self.assertEqual('"Wake up Neo.\\n"', curl(*JSON, "-X", "POST", f"{self.place}/call/test"))

    def test_a_pipeline_is_answered_in_order(self) -> None:
        """All of it."""
        post = b"POST /call/sleep HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        requests = [post + b"Content-Length: 4\r\n\r\n0.%02d" % (9 - number) for number in range(9)]
        last = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        answer = self.exchange(b"".join(requests) + last)
        values = [float(value) for value in re.findall(rb"\r\n\r\n(0\.0\d)", answer)]
        self.assertEqual([number / 100 for number in range(9, 0, -1)], values)

    def test_connections_that_say_nothing_make_room_again(self) -> None:
        """When their time is over."""
        address = (urlsplit(self.place).hostname, urlsplit(self.place).port)
        silent = [socket.create_connection(address) for _ in range(60)]
        for each in silent:
            self.addCleanup(each.close)
        time.sleep(3)
        self.assertEqual('"Wake up Neo.\\n"', curl(*JSON, "-X", "POST", f"{self.place}/call/test"))
        self.process.wait_for("connections are there, which is the limit")

    def test_a_stop_lets_requests_end(self) -> None:
        """Nobody is let in any more, and the exit code is 0."""
        waiting = curling(*JSON, "-d", "1.5", f"{self.place}/call/sleep")
        time.sleep(0.7)
        self.process.signal(signal.SIGTERM)
        self.assertEqual("1.5", waiting.communicate(timeout=20)[0])
        self.ends(self.process, 0)

    def test_a_port_that_is_taken_is_said(self) -> None:
        """With the remedy, and an exit code."""
        listen = f"--listen=tcp:{urlsplit(self.place).port}:interface=127.0.0.1"
        command = twisted_script("twistd", "-n", "--pidfile=", "crew-gateway", listen)
        other = self.start(*command, CREW_BROKER=self.url)
        self.ends(other, 1)
        self.assertIn("Address already in use; another program is there: end it", other.err)

    def test_a_broker_that_refuses_it_for_good_is_said(self) -> None:
        """It does not go on without one."""
        url = self.url.replace("amqp://", "amqp://smith:wrong@")
        command = twisted_script("twistd", "-n", "--pidfile=", "crew-gateway", ANYWHERE)
        other = self.start(*command, CREW_BROKER=url)
        self.ends(other, 78)
        self.assertIn("refused the user 'smith'", other.err)

    def ends(self, program: Program, code: int) -> None:
        self.assertEqual(code, program.ended(), program.out + program.err)

    def exchange(self, data: bytes) -> bytes:
        """Send bytes by a connection, and read until it ends."""
        address = (urlsplit(self.place).hostname, urlsplit(self.place).port)
        answer = b""
        with socket.create_connection(address, 20) as connection:
            try:
                connection.sendall(data)
                while got := connection.recv(65_536):
                    answer += got
            except ConnectionError:
                # It was cut while we still wrote; what it said before is there.
                return answer
        return answer
