"""Chromium without a window, by W3C WebDriver: JSON over HTTP to Debian's chromedriver."""

from __future__ import annotations

import atexit
import json
import re
import shutil
import subprocess
import time
from base64 import b64decode
from collections.abc import Callable
from functools import cache
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

from twisted.trial.unittest import SkipTest

#: Seconds that the browser may take to do anything at all.
PATIENCE = 30.0
TAB, ENTER, ESCAPE = "\ue004", "\ue007", "\ue00c"

_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
#: As root there is no sandbox, and in containers /dev/shm may be small.
_ARGUMENTS = ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
# The machine's proxy has no say about 127.0.0.1.
_open = build_opener(ProxyHandler({})).open


@cache
def shared_browser() -> Browser:
    """
    The browser of all tests of this process; it ends with that.

    :raises SkipTest: if there is none.
    """
    folder = mkdtemp(prefix="crew-browser-")
    atexit.register(rmtree, folder, ignore_errors=True)
    browser = Browser(folder)
    atexit.register(browser.close)
    return browser


class WebDriverError(Exception):
    """The browser could not do it."""


class Browser:
    """
    A browser with one page.

    :raises SkipTest: if Chromium or its driver is not installed.
    """

    def __init__(self, folder: str) -> None:
        chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
        if chromium is None or driver is None:
            raise SkipTest("there is no browser: install the packages chromium and chromium-driver")
        with open(Path(folder, "chromedriver.log"), "wb") as log:
            self._driver = subprocess.Popen(
                [driver, "--port=0"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True
            )
        self._url = f"http://127.0.0.1:{self._port()}"
        self._session = ""
        try:
            self._begin(chromium, str(Path(folder, "profile")))
        except BaseException:
            self.close()
            raise

    def _port(self) -> int:
        assert self._driver.stdout is not None
        for line in self._driver.stdout:
            found = re.search(r"started successfully on port (\d+)", line)
            if found is not None:
                return int(found[1])
        raise WebDriverError("chromedriver did not start")

    def _begin(self, chromium: str, profile: str) -> None:
        options = {"binary": chromium, "args": [*_ARGUMENTS, f"--user-data-dir={profile}"]}
        wanted = {
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL"},
        }
        value = self._send("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
        self._session = f"/session/{value['sessionId']}"

    def close(self) -> None:
        """End the browser."""
        try:
            if self._session:
                self._send("DELETE", self._session)
        finally:
            self._driver.terminate()
            self._driver.wait(PATIENCE)
            if self._driver.stdout is not None:
                self._driver.stdout.close()

    def rest(self) -> None:
        """Leave the page, and forget what its console was told."""
        self.go("about:blank")
        self.errors()

    def go(self, url: str) -> None:
        """Load a page."""
        self._send("POST", f"{self._session}/url", {"url": url})

    def run(self, script: str, *arguments: Any) -> Any:
        """What a function with this body returns; a promise is waited for."""
        return self._send(
            "POST", f"{self._session}/execute/sync", {"script": script, "args": list(arguments)}
        )

    def text(self, selector: str = "body") -> str:
        """What is to be seen of an element; empty where there is none."""
        text = self.run("return document.querySelector(arguments[0])?.innerText ?? ''", selector)
        return str(text)

    def wait(self, what: str, is_so: Callable[[], object], seconds: float = PATIENCE) -> float:
        """
        Wait for something.

        :returns: how many seconds it took.
        :raises AssertionError: if it does not come in time.
        """
        begun = time.monotonic()
        while not is_so():
            if time.monotonic() - begun > seconds:
                raise AssertionError(f"no {what} within {seconds:g} s on the page:\n{self.text()[:3000]}")
            time.sleep(0.05)
        return time.monotonic() - begun

    def wait_for_text(self, text: str, selector: str = "body", seconds: float = PATIENCE) -> float:
        """Wait until an element has a text."""
        return self.wait(f"{text!r} in {selector}", lambda: text in self.text(selector), seconds)

    def press(self, selector: str) -> None:
        """Press the first button, or follow the first link, that can be seen."""
        self._send("POST", f"{self._session}/element/{self._element(selector)}/click", {})

    def type(self, selector: str, text: str) -> None:
        """Type into a field."""
        self._send("POST", f"{self._session}/element/{self._element(selector)}/value", {"text": text})

    def keys(self, *keys: str) -> None:
        """Press keys, wherever the focus is."""
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        sequence = {"type": "key", "id": "keyboard", "actions": actions}
        self._send("POST", f"{self._session}/actions", {"actions": [sequence]})

    def errors(self) -> list[str]:
        """What the console has been told since the last time, at its worst."""
        entries = self._send("POST", f"{self._session}/se/log", {"type": "browser"})
        return [f"{entry['level']}: {entry['message']}" for entry in entries if entry["level"] != "INFO"]

    def look(self, width: int, height: int, *, dark: bool = False) -> None:
        """Be of this size, and light or dark."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self._devtools("Emulation.setDeviceMetricsOverride", size)
        feature = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._devtools("Emulation.setEmulatedMedia", {"features": [feature]})

    def send_headers(self, **headers: str) -> None:
        """Send these with each request, from now on."""
        self._devtools("Network.enable", {})
        self._devtools("Network.setExtraHTTPHeaders", {"headers": headers})

    def screenshot(self) -> bytes:
        """What it looks like, as a PNG."""
        return b64decode(self._send("GET", f"{self._session}/screenshot"))

    def _devtools(self, command: str, parameters: dict[str, Any]) -> None:
        self._send("POST", f"{self._session}/goog/cdp/execute", {"cmd": command, "params": parameters})

    def _element(self, selector: str) -> str:
        found = self._send("POST", f"{self._session}/element", {"using": "css selector", "value": selector})
        return str(found[_ELEMENT])

    def _send(self, method: str, path: str, value: Any = None) -> Any:
        body = None if value is None else json.dumps(value).encode()
        request = Request(self._url + path, body, {"Content-Type": "application/json"}, method=method)
        try:
            with _open(request, timeout=PATIENCE) as response:
                return json.load(response)["value"]
        except HTTPError as error:
            said = json.load(error)["value"]
            raise WebDriverError(f"{said.get('error')}: {said.get('message')}") from None
