"""Opens the page in headless Chromium, waits until it has run its networks, and saves what it shows.

    node server.mjs &
    python browse.py http://127.0.0.1:8000/?check --screenshot page.png --numbers numbers.json

Needs Chromium (or Chrome) and Python's standard library: it talks to the browser through two pipes.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--disable-quic",
    "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--hide-scrollbars",
)  # fmt: skip
#: Becomes the browser after placing its pipes; by way of high numbers, as either may have 3 or 4 already.
_START = """
import os, sys
os.dup2(int(sys.argv[1]), 103, inheritable=False)
os.dup2(int(sys.argv[2]), 104, inheritable=False)
os.dup2(103, 3)
os.dup2(104, 4)
os.execv(sys.argv[3], sys.argv[3:])
"""


def find_browser() -> str | None:
    """The path of a browser that this file can drive."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


class Browser:
    """A headless Chromium with one page, driven by its DevTools protocol.

    Args:
        program: path of the browser.
        width, height: of the window, in pixels.
        timeout: seconds until a browser that does not answer is stopped.
    """

    def __init__(self, program: str, width: int = 900, height: int = 600, timeout: float = 60) -> None:
        self._profile = tempfile.TemporaryDirectory(prefix="browser-", ignore_cleanup_errors=True)
        self._process, self._commands, self._replies = self._start(program, width, height)
        self._watchdog = threading.Timer(timeout, self._process.kill)
        self._watchdog.start()
        self._count, self._session = 0, None
        page = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self._call("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]

    def open(self, address: str) -> None:
        self._call("Page.navigate", url=address)

    def evaluate(self, script: str) -> Any:
        """The value of a JavaScript expression in the page."""
        return self._call("Runtime.evaluate", expression=script, returnByValue=True)["result"].get("value")

    def wait_for(self, script: str, seconds: float = 30) -> Any:
        """The first value of an expression that is not empty.

        Raises:
            TimeoutError: if there is none in time.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if value := self.evaluate(script):
                return value
            time.sleep(0.05)
        raise TimeoutError(f"{script} stayed empty for {seconds:g} seconds")

    def screenshot(self, file: str | Path) -> None:
        """Writes the whole page as PNG."""
        png = self._call("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        Path(file).write_bytes(base64.b64decode(png))

    def close(self) -> None:
        self._watchdog.cancel()
        self._process.kill()
        self._process.wait()
        self._commands.close()
        self._replies.close()
        self._profile.cleanup()

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self, program: str, width: int, height: int) -> tuple:
        """Starts the browser; it reads commands from file 3 and writes replies to file 4."""
        (read, commands), (replies, write) = os.pipe(), os.pipe()
        flags = [*FLAGS, f"--user-data-dir={self._profile.name}", f"--window-size={width},{height}"]
        process = subprocess.Popen(
            [sys.executable, "-c", _START, str(read), str(write), program, *flags], pass_fds=(read, write),
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(read)
        os.close(write)
        return process, os.fdopen(commands, "wb"), os.fdopen(replies, "rb")

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Sends a command and waits for its reply; events in between are passed over."""
        self._count += 1
        command = {"id": self._count, "method": method, "params": parameters}
        if self._session:
            command["sessionId"] = self._session
        self._commands.write(json.dumps(command).encode() + b"\0")
        self._commands.flush()
        while (reply := self._read()).get("id") != self._count:
            pass
        if "error" in reply:
            raise RuntimeError(f"{method}: {reply['error']['message']}")
        return reply["result"]

    def _read(self) -> dict[str, Any]:
        """The next message; messages end with a zero byte."""
        message = bytearray()
        while (byte := self._replies.read(1)) != b"\0":
            if not byte:
                raise RuntimeError("the browser has stopped, or did not answer in time")
            message += byte
        return json.loads(message)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("address")
    parser.add_argument("--screenshot", type=Path)
    parser.add_argument("--numbers", type=Path, help="for an address with ?check")
    args = parser.parse_args()
    if (program := find_browser()) is None:
        raise SystemExit(f"found none of {', '.join(PROGRAMS)}")
    with Browser(program) as browser:
        browser.open(args.address)
        state = browser.wait_for("document.documentElement.dataset.state")
        print(f"{state}: {browser.evaluate('document.getElementById(`status`).textContent')}")
        if args.screenshot:
            browser.screenshot(args.screenshot)
        if args.numbers:
            args.numbers.write_text(browser.evaluate("document.getElementById('numbers').textContent"))
    raise SystemExit(0 if state == "ready" else 1)


if __name__ == "__main__":
    main()
