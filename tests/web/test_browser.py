"""The status page in a browser, with a real gateway, broker and workers."""

from __future__ import annotations

import os
import signal
import time
from base64 import b64encode

from tests.cli.programs import TWISTD, Program, ProgramTestCase, twisted_script
from tests.web.webdriver import ENTER, ESCAPE, TAB, shared_browser

SECRET = "follow-the-white-rabbit"
#: Seconds within which the page has to show what is new.
SOON = 3.0
SIGN_IN = "#sign-in button[type=submit]"
LISTENS = r"the gateway listens: (http://\S+)/"
BROKER_LISTENS = r"the broker listens: (amqp://\S+)"
#: Where no broker is.
NOWHERE = "amqp://127.0.0.1:1/"
ANYWHERE = "--listen=tcp:0:interface=127.0.0.1"

#: The elements that reach out of the page.
TOO_WIDE = """
const width = document.documentElement.clientWidth;
const all = [...document.querySelectorAll("body *")];
const wide = all.filter((each) => each.getBoundingClientRect().right > width + 0.5);
return wide.map((each) => each.outerHTML.slice(0, 100));
"""

TASKS = """
import time
from crew_tx.worker import Task

@Task("{task}")
def answer(request):
    return request

@Task("{task}.stuck", timeout=0.5)
def stuck(request):
    wait_for_ever()

@Task("<img src=x onerror=alert(1)>.{task}")
def hostile(request):
    raise ValueError("<script>alert(2)</script>")

def wait_for_ever():
    while True:
        try:
            time.sleep(3600)
        except BaseException:
            pass
"""


class PageTestCase(ProgramTestCase):
    """
    A browser, which all tests share, and a gateway for it.

    :ivar name: of the workers here: others may be on the same broker.
    """

    def setUp(self) -> None:
        super().setUp()
        self.browser = shared_browser()
        self.browser.look(1280, 900)
        self.addCleanup(self.browser.rest)
        self.name = f"here{self.task[-6:]}"
        self.module = self.write("tasks.py", TASKS.format(task=self.task))
        self.tokens = self.write("tokens", f"op:{SECRET}\n")
        os.chmod(self.tokens, 0o600)

    def gateway(self, *arguments: str, listen: str = ANYWHERE, **environment: str) -> Program:
        """A gateway that listens; ``place`` is where."""
        command = twisted_script("twistd", "-n", "--pidfile=", "crew-gateway", listen, *arguments)
        gateway = self.start(*command, **environment)
        [self.place] = gateway.wait_for(LISTENS)
        return gateway

    def operated_gateway(self) -> Program:
        return self.gateway("--tokens", self.tokens, "--operator", "op")

    def worker(self, **environment: str) -> Program:
        """A worker that consumes."""
        worker = self.start(*TWISTD, "--name", self.name, self.module, **environment)
        worker.wait_for(f"{self.name}-[0-9a-f]{{32}} answers")
        return worker

    def sign_in(self, state: str = "Live") -> None:
        """Load the page as an operator."""
        self.browser.go(f"{self.place}/status")
        self.browser.wait_for_text("An operator's token")
        self.browser.type("#token", SECRET)
        self.browser.press(SIGN_IN)
        self.browser.wait_for_text(state, "#state")

    def workers(self) -> int:
        """How many of ours are on the page."""
        return self.browser.text("#workers").count(f"{self.name}-")

    def open_worker(self) -> None:
        """Show the one worker's own view."""
        self.browser.wait("worker", lambda: self.workers() == 1)
        self.browser.press(f"#workers a[href*='{self.name}-']")
        self.browser.wait_for_text(f"{self.name}-", "#worker-title")

    def assert_no_errors(self) -> None:
        self.assertEqual([], self.browser.errors())


class WorkersTests(PageTestCase):
    """What the page shows of workers."""

    def test_workers_come_and_go_within_three_seconds(self) -> None:
        """One that joins, and one that is killed."""
        self.operated_gateway()
        self.worker()
        self.sign_in()
        self.browser.wait("worker", lambda: self.workers() == 1)
        joining = self.worker()
        self.browser.wait("worker that joins", lambda: self.workers() == 2, SOON)
        joining.signal(signal.SIGKILL)
        self.browser.wait("worker less", lambda: self.workers() == 1, SOON)
        self.assert_no_errors()

    def test_a_stuck_task_is_shown_with_its_stack(self) -> None:
        """In the view of its worker."""
        self.operated_gateway()
        self.worker()
        self.sign_in()
        self.call(f"{self.task}.stuck")
        self.browser.wait_for_text("stuck", "#active")
        self.open_worker()
        self.browser.wait_for_text("in wait_for_ever: time.sleep(3600)", "#stacks")
        self.browser.wait_for_text("1 stuck", "#worker-words")
        self.assert_no_errors()

    def test_names_are_texts_whatever_is_in_them(self) -> None:
        """No element comes of them."""
        self.operated_gateway()
        self.worker()
        hostile = f"<img src=x onerror=alert(1)>.{self.task}"
        self.sign_in()
        self.call(hostile)
        self.browser.wait_for_text(hostile, "#errors")
        self.assertIn("<script>alert(2)</script>", self.browser.text("#errors"))
        self.browser.wait_for_text(hostile, "#queues")
        self.open_worker()
        self.browser.wait_for_text(hostile, "#tasks")
        self.assertEqual(0, self.browser.run("return document.querySelectorAll('img, body script').length"))
        self.assert_no_errors()

    def test_it_fits_a_phone(self) -> None:
        """Nothing is wider than that, in either view."""
        self.operated_gateway()
        self.worker()
        self.sign_in()
        self.call(f"{self.task}.stuck")
        self.call(f"<img src=x onerror=alert(1)>.{self.task}")
        self.browser.wait_for_text("stuck", "#active")
        self.browser.wait_for_text("ValueError", "#errors")
        for width in (1280, 800, 360):
            self.browser.look(width, 800)
            self.assertEqual([], self.browser.run(TOO_WIDE))
            self.assertLess(self.browser.run("return document.querySelector('header').offsetHeight"), 120)
        self.open_worker()
        self.browser.wait_for_text("wait_for_ever", "#stacks")
        self.assertEqual([], self.browser.run(TOO_WIDE))


class ButtonTests(PageTestCase):
    """What buttons do."""

    def test_a_button_without_the_token_is_refused_and_with_it_obeyed(self) -> None:
        """The page says what the gateway says."""
        self.operated_gateway()
        worker = self.worker()
        self.sign_in()
        self.open_worker()
        self.assert_no_errors()
        self.browser.run(
            "window.kept = window.fetch;"
            "window.fetch = (url, options) => {"
            "  delete options.headers['Crew-Token'];"
            "  return kept(url, options);"
            "}"
        )
        self.browser.press("#worker-pause")
        self.browser.wait_for_text("an order has the overview's token", "#message")
        self.assertIn("403", "".join(self.browser.errors()))
        self.browser.run("window.fetch = window.kept")
        self.assertNotIn("command pause", worker.out + worker.err)
        self.browser.press("#worker-pause")
        self.browser.wait_for_text("takes no more calls", "#message")
        self.browser.wait_for_text("paused", "#worker-words")
        self.browser.press("#worker-resume")
        self.browser.wait_for_text("idle", "#worker-words")
        self.assert_no_errors()

    def test_a_drain_is_confirmed(self) -> None:
        """Then the worker ends, and leaves."""
        self.operated_gateway()
        worker = self.worker()
        self.sign_in()
        self.open_worker()
        self.browser.wait_for_text("idle", "#worker-words")
        self.browser.press("#worker-drain")
        self.browser.keys(ESCAPE)
        self.browser.press("#worker-drain")
        self.browser.press("#confirm-yes")
        self.assertEqual(0, worker.ended())
        self.assertEqual(1, (worker.out + worker.err).count("asked to end"))
        self.browser.wait_for_text("it has left", "#worker-words")
        self.assert_no_errors()

    def test_all_can_be_done_by_keyboard(self) -> None:
        """Signing in, going to a worker, and an order."""
        self.operated_gateway()
        self.worker()
        self.browser.go(f"{self.place}/status")
        self.browser.wait_for_text("An operator's token")
        self.browser.keys(*SECRET, ENTER)
        self.browser.wait("worker", lambda: self.workers() == 1)
        self.tab_to(f"href*='{self.name}-'")
        self.browser.keys(ENTER)
        self.browser.wait_for_text("idle", "#worker-words")
        self.assertEqual("worker-title", self.browser.run("return document.activeElement.id"))
        self.tab_to("id=worker-pause")
        self.browser.keys(ENTER)
        self.browser.wait_for_text("paused", "#worker-words")
        self.tab_to("id=worker-resume")
        self.browser.keys(ENTER)
        self.browser.wait_for_text("idle", "#worker-words")
        self.assert_no_errors()

    def tab_to(self, attribute: str) -> None:
        """Press the tabulator until it is there; what has the focus is seen to have it."""
        script = "return document.activeElement.matches(arguments[0])"
        for _ in range(30):
            self.browser.keys(TAB)
            if self.browser.run(script, f"[{attribute}]"):
                outline = "return getComputedStyle(document.activeElement).outlineStyle"
                self.assertEqual("solid", self.browser.run(outline))
                return
        raise AssertionError(f"the tabulator does not come to {attribute}")

    def test_without_credentials_there_are_no_buttons(self) -> None:
        """And the page says why."""
        self.gateway()
        self.worker()
        self.browser.go(f"{self.place}/")
        self.browser.wait_for_text("You may look only")
        self.open_worker()
        self.assertNotIn("Drain", self.browser.text())
        self.assert_no_errors()

    def test_a_wrong_token_is_asked_for_again(self) -> None:
        """And is not kept."""
        self.operated_gateway()
        self.browser.go(f"{self.place}/status")
        self.browser.wait_for_text("An operator's token")
        self.browser.type("#token", "knock-knock-neo-0000")
        self.browser.press(SIGN_IN)
        self.browser.wait_for_text("show a credential that is known here", "#message")
        self.assertIsNone(self.browser.run("return sessionStorage.getItem('crew-token')"))
        self.browser.type("#token", SECRET)
        self.browser.press(SIGN_IN)
        self.browser.wait_for_text("Live", "#state")

    def test_a_name_and_a_password_do_as_well(self) -> None:
        """The browser adds them by itself, once it was told; orders need the token all the same."""
        self.gateway("--tokens", self.tokens, "--users", self.tokens, "--operator", "op")
        self.worker()
        self.browser.go(f"{self.place}/status")
        self.browser.wait_for_text("Sign in with a name and a password")
        self.browser.send_headers(Authorization=f"Basic {b64encode(f'op:{SECRET}'.encode()).decode()}")
        self.addCleanup(self.browser.send_headers)
        self.browser.press("#use-password")
        self.browser.wait_for_text("Live", "#state")
        self.open_worker()
        self.browser.press("#worker-pause")
        self.browser.wait_for_text("paused", "#worker-words")
        self.assert_no_errors()


class AwayTests(PageTestCase):
    """What is stale says so."""

    def test_what_nobody_has_looked_at_is_not_said_to_be_none(self) -> None:
        """Where there is no broker from the start."""
        self.gateway("--tokens", self.tokens, "--operator", "op", CREW_BROKER=NOWHERE)
        self.sign_in("Stale: there is no connection to the broker")
        self.browser.wait_for_text("Nothing was seen yet.", "#workers")
        figures = self.browser.run("return [...document.querySelectorAll('dd')].map(each => each.innerText)")
        nothing = "\u2013"
        self.assertEqual(
            [nothing, f"{nothing} of {nothing}", *[nothing] * 4], [each.strip() for each in figures]
        )
        self.assert_no_errors()

    def test_when_the_broker_is_away_and_when_it_is_back(self) -> None:
        """With how old it is, and why."""
        broker = self.broker(ANYWHERE)
        [url] = broker.wait_for(BROKER_LISTENS)
        self.gateway("--tokens", self.tokens, "--operator", "op", CREW_BROKER=url)
        self.worker(CREW_BROKER=url)
        self.sign_in()
        self.browser.wait("worker", lambda: self.workers() == 1)
        broker.close()
        self.browser.wait_for_text("Stale: there is no connection to the broker", "#state", 10)
        self.browser.wait_for_text("What is here was seen 3 s ago", "#state")
        self.assertEqual(1, self.workers())
        port = url.split("/")[2].rpartition(":")[2]
        self.broker(f"--listen=tcp:{port}:interface=127.0.0.1").wait_for(BROKER_LISTENS)
        self.browser.wait_for_text("Live", "#state")
        self.browser.wait("worker", lambda: self.workers() == 1)
        self.assert_no_errors()

    def broker(self, listen: str) -> Program:
        """A broker that can be ended without harm to other tests."""
        return self.start(*twisted_script("twistd", "-n", "--pidfile=", "crew-broker", listen))

    def test_when_the_gateway_hangs_and_when_it_goes_on(self) -> None:
        """The page looks at its own clock."""
        gateway = self.operated_gateway()
        self.worker()
        self.sign_in()
        self.browser.wait("worker", lambda: self.workers() == 1)
        gateway.signal(signal.SIGSTOP)
        begun = time.monotonic()
        self.browser.wait_for_text("Stale", "#state", 10)
        self.assertGreater(time.monotonic() - begun, 3)
        self.assertEqual(1, self.workers())
        gateway.signal(signal.SIGCONT)
        self.browser.wait_for_text("Live", "#state")

    def test_a_gateway_that_starts_again_gives_a_new_token(self) -> None:
        """Buttons work again, without a new load of the page."""
        gateway = self.operated_gateway()
        self.worker()
        self.sign_in()
        self.open_worker()
        gateway.close()
        self.browser.wait_for_text("Stale: the gateway does not answer", "#state", 10)
        port = self.place.rpartition(":")[2]
        self.gateway(
            "--tokens", self.tokens, "--operator", "op", listen=f"--listen=tcp:{port}:interface=127.0.0.1"
        )
        self.browser.wait_for_text("Live", "#state")
        self.browser.press("#worker-pause")
        self.browser.wait_for_text("paused", "#worker-words")
