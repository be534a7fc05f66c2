"""A headless Chromium to try pages in, driven over two pipes by the DevTools protocol.

It needs a Chromium of the system and nothing else: `apt-get install chromium`.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Mapping
from tempfile import TemporaryDirectory
from typing import Any

#: Seconds that anything may take; a page of the largest structures is drawn by the CPU here.
PATIENCE = 120
#: What a page may load: itself, and what it makes.
OWN = ("file:", "data:", "blob:", "about:", "http://127.0.0.1:")
KEYS = {"ArrowLeft": 37, "ArrowRight": 39, "Enter": 13, "Escape": 27, "Tab": 9}


def chromium() -> str | None:
    """The program, if there is one."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    return next(filter(None, map(shutil.which, names)), None)


class Browser:
    """One page in a browser of its own, for a `with` statement.

    Attributes
    ----------
    problems : list of str
        Errors and warnings of the console, exceptions, and whatever came from elsewhere.
    """

    def __init__(self, program: str):
        self.program = program
        self.problems: list[str] = []
        self._answers: dict[int, Mapping[str, Any]] = {}
        self._sent, self._rest, self._session, self._loaded = 0, b"", "", False

    def __enter__(self) -> Browser:
        self._folder = TemporaryDirectory(ignore_cleanup_errors=True)
        ours, theirs = [], []
        for read, write in ((0, 1), (1, 0)):  # the browser reads the first pipe and writes the second
            pipe = os.pipe()
            # Above 9, so that neither is 3 or 4, the numbers by which Chromium knows them.
            theirs.append(fcntl.fcntl(pipe[read], fcntl.F_DUPFD, 10))
            ours.append(pipe[write])
            os.close(pipe[read])
        self._to, self._from = ours
        options = ["--headless=new", "--no-sandbox", "--remote-debugging-pipe", "--hide-scrollbars"]
        options += ["--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--no-first-run"]
        options += [f"--user-data-dir={self._folder.name}", "about:blank"]
        # Not sh, which may know numbers of one digit only.
        script = f'exec "$0" "$@" 3<&{theirs[0]} 4>&{theirs[1]}'
        self._process = subprocess.Popen(
            ["bash", "-c", script, self.program, *options],
            pass_fds=theirs,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for number in theirs:
            os.close(number)
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        return self

    def __exit__(self, *_: object) -> None:
        self._session = ""
        try:
            self.call("Browser.close")
            self._process.wait(PATIENCE)
        finally:
            self._process.kill()
            self._process.wait()
            os.close(self._to)
            os.close(self._from)
            self._folder.cleanup()

    def call(self, method: str, **parameters: Any) -> Mapping[str, Any]:
        """What a method of the protocol answers."""
        self._sent += 1
        message = {"id": self._sent, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        number = self._sent
        while number not in self._answers:
            self._read()
        answer = self._answers.pop(number)
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

    def open(self, address: str, width: int, height: int = 800) -> None:
        """Show a page in a window of so many pixels; one of less than 600 is a phone's, with touch."""
        phone = width < 600
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self.call("Emulation.setTouchEmulationEnabled", enabled=phone)
        # From one address to another with the same path no page would be loaded.
        for to in ("about:blank", address):
            self._loaded = False
            self.call("Page.navigate", url=to)
            while not self._loaded:
                self._read()

    def run(self, script: str) -> Any:
        """The value of an expression, in the page; a promise is waited for."""
        answer = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{script}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait(self, condition: str) -> None:
        """Go on when an expression is true in the page."""
        end = time.monotonic() + PATIENCE
        while not self.run(condition):
            if time.monotonic() > end:
                raise TimeoutError(f"{condition} is not true after {PATIENCE} s")
            time.sleep(0.05)

    def middle(self, selector: str) -> tuple[float, float]:
        """Where an element is, in pixels of the window, after scrolling to it."""
        element = f"document.querySelector({json.dumps(selector)})"
        self.run(f"{element}.scrollIntoView({{ block: 'center', inline: 'center', behavior: 'instant' }})")
        box = self.run(f"(b => [b.x + b.width / 2, b.y + b.height / 2])({element}.getBoundingClientRect())")
        return box[0], box[1]

    def mouse(self, kind: str, x: float, y: float) -> None:
        """Move ("mouseMoved"), press ("mousePressed") or let go ("mouseReleased")."""
        held = {"button": "none"} if kind == "mouseMoved" else {"button": "left", "clickCount": 1}
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **held)

    def point(self, selector: str) -> None:
        """Move the mouse to an element."""
        self.mouse("mouseMoved", *self.middle(selector))

    def click(self, selector: str) -> None:
        """Click on an element."""
        place = self.middle(selector)
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            self.mouse(kind, *place)

    def type(self, selector: str, text: str) -> None:
        """Put text into a field in place of what is there."""
        self.click(selector)
        self.run(f"document.querySelector({json.dumps(selector)}).select()")
        self.call("Input.insertText", text=text)
        # A page may wait for a key to come up, which inserting presses none of.
        self.call("Input.dispatchKeyEvent", type="keyUp", key=text[-1])

    def key(self, name: str) -> None:
        """Press a key of `KEYS`."""
        more = {"text": "\r"} if name == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            key = {"key": name, "code": name, "windowsVirtualKeyCode": KEYS[name]}
            self.call("Input.dispatchKeyEvent", type=kind, **key, **(more if kind == "keyDown" else {}))

    def too_wide(self) -> list[str]:
        """What runs off the screen to the right, as tags; what a scrolling box holds does not."""
        return self.run(
            """(() => {
              const wide = document.documentElement.clientWidth, out = [];
              if (document.documentElement.scrollWidth > wide) out.push("page");
              const boxed = e => e && (getComputedStyle(e).overflowX !== "visible" || boxed(e.parentElement));
              for (const e of document.body.querySelectorAll("*"))
                if (e.getClientRects().length && e.getBoundingClientRect().right > wide + 1 && !boxed(e.parentElement))
                  out.push(`${e.tagName} ${e.id} ${e.className}`);
              return out;
            })()"""  # noqa: E501
        )

    def picture(self, selector: str = "") -> bytes:
        """What the window, or an element of it, shows, as a PNG."""
        clip = {}
        if selector:
            element = f"document.querySelector({json.dumps(selector)})"
            box = self.run(f"(b => [b.x, b.y, b.width, b.height])({element}.getBoundingClientRect())")
            clip = {"clip": {**dict(zip(("x", "y", "width", "height"), box, strict=True)), "scale": 1}}
        return base64.b64decode(self.call("Page.captureScreenshot", format="png", **clip)["data"])

    def _read(self) -> None:
        """Take what the browser says next: answers, and what happens in the page."""
        if not select.select([self._from], [], [], PATIENCE)[0]:
            raise TimeoutError(f"the browser says nothing for {PATIENCE} s")
        text = os.read(self._from, 1 << 20)
        if not text:
            raise RuntimeError("the browser has ended")
        *messages, self._rest = (self._rest + text).split(b"\0")
        for message in map(json.loads, messages):
            if "id" in message:
                self._answers[message["id"]] = message
            else:
                self._note(message["method"], message["params"])

    def _note(self, event: str, what: Mapping[str, Any]) -> None:
        if event == "Page.loadEventFired":
            self._loaded = True
        elif event == "Runtime.exceptionThrown":
            thrown = what["exceptionDetails"]
            self.problems.append(f"exception: {thrown.get('exception', thrown).get('description', thrown)}")
        elif event == "Runtime.consoleAPICalled" and what["type"] in ("error", "warning", "assert"):
            texts = [str(argument.get("value", argument)) for argument in what["args"]]
            self.problems.append(f"{what['type']}: {' '.join(texts)}")
        elif event == "Log.entryAdded" and what["entry"]["level"] in ("error", "warning"):
            self.problems.append(f"log: {what['entry']['text']} {what['entry'].get('url', '')}")
        elif event == "Network.requestWillBeSent" and not what["request"]["url"].startswith(OWN):
            self.problems.append(f"fetched: {what['request']['url']}")
