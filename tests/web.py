# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""transformers.js in Node, and the page of examples/browser/ served from a folder of its own."""

import contextlib
import functools
import http.server
import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browser import BROWSER, Page, browser

EXAMPLE = Path(__file__).parents[1] / "examples" / "browser"
PACKAGES = EXAMPLE / "node_modules" / "@huggingface" / "transformers"
STATUS = "document.getElementById('status').textContent"

has_packages = pytest.mark.skipif(not PACKAGES.exists(), reason="needs `npm install` in examples/browser/")
has_node = pytest.mark.skipif(shutil.which("node") is None, reason="needs Node")
has_browser = pytest.mark.skipif(BROWSER is None, reason="needs Chromium or Chrome")


def in_node(**given: Any) -> Any:
    """What `tests/read_in_node.mjs` answers."""
    given = {name: str(value) if isinstance(value, Path) else value for name, value in given.items()}
    done = subprocess.run(
        ["node", str(Path(__file__).with_name("read_in_node.mjs"))],  # noqa: S607
        input=json.dumps(given),
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@contextlib.contextmanager
def served(place: Path, model: Path) -> Iterator[str]:
    """The address of the page with a model, in a folder of its own."""
    folder = place / "page"
    shutil.copytree(
        EXAMPLE,
        folder,
        ignore=lambda _, names: [name for name in names if "node_modules" in name or name.startswith("model")],
    )
    os.symlink((EXAMPLE / "node_modules").resolve(), folder / "node_modules")
    os.symlink(model.resolve(), folder / "model")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()


@contextlib.contextmanager
def reader_page(address: str, options: str = "") -> Iterator[Page]:
    """The page in a browser, its model loaded."""
    with browser() as page:
        page.show(1280, 800)
        page.open(f"{address}{options}")
        until(page, f"{STATUS}.startsWith('ready')")
        yield page


def until(page: Page, code: str, limit: float = 240.0) -> None:
    """Waits until an expression holds; the page may load anew meanwhile."""
    end = time.monotonic() + limit
    while time.monotonic() < end:
        with contextlib.suppress(RuntimeError):
            if page(code):
                return
            assert not page("document.getElementById('status').classList.contains('bad')"), page(STATUS)
        time.sleep(0.05)
    raise TimeoutError(f"{code} did not come to hold: {page(STATUS)}")


def read(page: Page, text: str) -> str:
    """Pastes a document, presses the button, and waits: what the page says then."""
    given = f"Object.assign(document.getElementById('source'), {{ value: {json.dumps(text)} }})"
    page(f"{given}.dispatchEvent(new Event('input')); null")
    page.click("document.getElementById('read')")
    until(page, f"{STATUS}.startsWith('read ')")
    return page(STATUS)


def ask(page: Page, question: str) -> None:
    """Types a question, presses Enter and waits."""
    page("document.getElementById('question').focus(); null")
    page(f"document.getElementById('question').value = {json.dumps(question)}; null")
    page("document.getElementById('ask').requestSubmit(); null")
    until(page, f"{STATUS}.startsWith('found ')")
