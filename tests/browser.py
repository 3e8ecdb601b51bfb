"""A headless Chromium, driven over its DevTools protocol with what viser already brings along."""
from __future__ import annotations

import base64
import json
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Iterator, Tuple

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ("--headless", "--no-sandbox", "--enable-unsafe-swiftshader", "--use-angle=swiftshader", "--disable-quic", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
         "--remote-debugging-port=0", "--window-size=1100,740")


class Tab:
    """A page that is open."""

    def __init__(self, socket: Any) -> None:
        self._socket, self._count = socket, 0

    def call(self, method: str, **params: Any) -> dict:
        self._count += 1
        self._socket.send(json.dumps({"id": self._count, "method": method, "params": params}))
        while True:
            answer = json.loads(self._socket.recv(timeout=300))
            if answer.get("id") == self._count:
                assert "error" not in answer, answer
                return answer["result"]

    def value(self, expression: str) -> Any:
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def text(self) -> str:
        return self.value("document.body.innerText") or ""

    def wait_for(self, words: str, seconds: float = 300.0) -> None:
        end = time.monotonic() + seconds
        while words not in self.text():
            assert time.monotonic() < end, f"no {words!r} in {self.text()!r}"
            time.sleep(0.2)

    def click(self, words: str) -> None:
        """Presses the button with these words."""
        buttons = f"[...document.querySelectorAll('button')].filter(b => b.innerText.trim() == {words!r})"
        assert self.value(f"{buttons}.map(b => b.click()).length") == 1

    def tick(self, words: str) -> None:
        """Presses the checkbox with this label."""
        labels = f"[...document.querySelectorAll('label')].filter(l => l.innerText.trim() == {words!r})"
        assert self.value(f"{labels}.map(l => document.getElementById(l.htmlFor).click()).length") == 1

    def drag(self, start: Tuple[float, float], end: Tuple[float, float], steps: int = 8) -> None:
        """Moves the mouse from start to end with its button down, px."""
        def mouse(kind: str, x: float, y: float, buttons: int) -> None:
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left" if kind != "mouseMoved" or buttons else "none",
                      buttons=buttons, clickCount=1)
            time.sleep(0.15)

        mouse("mouseMoved", *start, 0)
        mouse("mousePressed", *start, 1)
        for i in range(1, steps + 1):
            mouse("mouseMoved", *(a + (b - a) * i / steps for a, b in zip(start, end)), 1)
        mouse("mouseReleased", *end, 0)

    def screenshot(self) -> bytes:
        """A PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot")["data"])


@contextmanager
def opened(url: str, profile: Path) -> Iterator[Tab]:
    """The page at ``url`` in a browser of its own with an empty profile."""
    from websockets.sync.client import connect

    with open(str(profile) + ".log", "w") as log:
        browser = subprocess.Popen([CHROMIUM, *FLAGS, f"--user-data-dir={profile}", url], stdout=log, stderr=log)
    try:
        port_file, end = profile / "DevToolsActivePort", time.monotonic() + 300
        while not port_file.is_file() or not port_file.read_text():
            assert time.monotonic() < end and browser.poll() is None, "Chromium does not start"
            time.sleep(0.1)
        port = port_file.read_text().split()[0]
        pages = json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list"))
        target = next(page for page in pages if page["type"] == "page")
        with connect(target["webSocketDebuggerUrl"], max_size=None) as socket:
            yield Tab(socket)
    finally:
        browser.terminate()
        browser.wait()


def main(url: str, path: str, words: str) -> None:
    """Takes a picture of the viewer's page, paused as soon as its text has these words."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, opened(url, Path(folder) / "profile") as tab:
        tab.wait_for("box to goal")
        tab.value("document.querySelectorAll('.mantine-Notification-closeButton').forEach(b => b.click())")
        tab.wait_for(words, 600.0)
        tab.tick("pause")
        time.sleep(20.0)  # a processor draws slowly
        Path(path).write_bytes(tab.screenshot())


if __name__ == "__main__":
    main(*sys.argv[1:])
