# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""A page in a headless Chromium, which is spoken to as developer tools do: JSON through pipes, a zero behind each."""

import base64
import contextlib
import fcntl
import json
import os
import select
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run")
OFFLINE = ("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--disable-background-networking")
PATIENCE = 60.0  # seconds
BROWSER = next(filter(None, map(shutil.which, NAMES)), None)


class Page:
    """A tab of a browser.

    Args:
        read, write: Pipes from and to the browser.
    """

    def __init__(self, read: int, write: int) -> None:
        self._read, self._write, self._rest, self._number = read, write, b"", 0
        self._session: dict[str, str] = {}
        self.events: list[dict[str, Any]] = []  # what the browser said of itself
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        self._session = {"sessionId": self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]}
        for domain in ("Page", "Runtime", "Log", "Network"):
            self._call(f"{domain}.enable")

    def open(self, place: Path | str) -> None:
        """A file, or an address."""
        self.events.clear()
        self._call("Page.navigate", url=place if isinstance(place, str) else place.as_uri())
        self._until(lambda: any(one["method"] == "Page.loadEventFired" for one in self.events))

    def __call__(self, code: str) -> Any:
        """What an expression of JavaScript is, also where it is awaited."""
        found = self._call("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in found:
            raise RuntimeError(found["exceptionDetails"]["exception"].get("description", code))
        return found["result"].get("value")

    def press(self, key: str) -> None:
        """A key, as a person presses it; nothing on a page can tell the difference."""
        text = {"text": key} if len(key) == 1 else {}
        for kind in ("keyDown", "keyUp"):
            self._call("Input.dispatchKeyEvent", type=kind, key=key, **(text if kind == "keyDown" else {}))

    def click(self, code: str) -> None:
        """The middle of what an expression of JavaScript is, once it is in view."""
        self(
            f"({code}).scrollIntoView({{ block: 'center', behavior: 'instant' }}), new Promise((done) => "
            "requestAnimationFrame(() => requestAnimationFrame(done)))"
        )  # what is clicked is what was painted
        left, top, width, height = self(
            f"(() => {{ const b = ({code}).getClientRects()[0]; return [b.left, b.top, b.width, b.height]; }})()"
        )
        place = {"x": left + width / 2, "y": top + height / 2, "button": "left", "clickCount": 1}
        for kind in ("mousePressed", "mouseReleased"):
            self._call("Input.dispatchMouseEvent", type=kind, **place)

    def show(self, width: int, height: int, scheme: str = "light") -> None:
        """Sets the size of the window, and whether it is dark."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self._call("Emulation.setDeviceMetricsOverride", **size)
        self._call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def picture(self) -> bytes:
        """What is seen, as a PNG."""
        return base64.b64decode(self._call("Page.captureScreenshot", format="png")["data"])

    def complaints(self) -> list[str]:
        """Errors and warnings, of the page's code and of its Content-Security-Policy."""
        found = [one for one in self.events if one["method"] in ("Runtime.exceptionThrown", "Log.entryAdded")]
        return [json.dumps(one["params"]) for one in found]

    def requested(self) -> list[str]:
        """What was asked for from anywhere."""
        sent = [one for one in self.events if one["method"] == "Network.requestWillBeSent"]
        return [one["params"]["request"]["url"] for one in sent]

    def _call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": parameters, **self._session}
        os.write(self._write, json.dumps(message).encode() + b"\0")
        found: list[dict[str, Any]] = []
        self._until(lambda: bool(found), lambda said: said.get("id") == number and found.append(said))
        if "error" in found[0]:
            raise RuntimeError(f"{method}: {found[0]['error']}")
        return found[0]["result"]

    def _until(self, done: Any, see: Any = lambda said: None) -> None:
        while not done():
            while b"\0" not in self._rest:
                if not select.select([self._read], [], [], PATIENCE)[0]:
                    raise TimeoutError(f"the browser said nothing for {PATIENCE:.0f} s")
                if not (part := os.read(self._read, 2**20)):
                    raise RuntimeError("the browser ended")
                self._rest += part
            line, _, self._rest = self._rest.partition(b"\0")
            said = json.loads(line)
            see(said)
            if "method" in said:
                self.events.append(said)


@contextlib.contextmanager
def browser() -> Iterator[Page]:
    """A page of a browser that reaches no network but this machine, and keeps nothing."""
    (theirs_in, ours_out), (ours_in, theirs_out) = _pipe(), _pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        process = subprocess.Popen(
            [str(BROWSER), *FLAGS, *OFFLINE, f"--user-data-dir={folder}", "--remote-debugging-pipe"],
            close_fds=False,
            preexec_fn=lambda: (os.dup2(theirs_in, 3), os.dup2(theirs_out, 4)),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in), os.close(theirs_out)
        try:
            yield Page(ours_in, ours_out)
        finally:
            os.close(ours_out), os.close(ours_in)  # whereupon it ends, with all its processes
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE)
            process.kill()
            process.wait()


def _pipe() -> list[int]:
    """A pipe whose numbers are none that the browser's own ends get."""
    ends = os.pipe()
    moved = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in ends]
    for end in ends:
        os.close(end)
    return moved
