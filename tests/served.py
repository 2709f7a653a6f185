# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Servers for tests: one in a thread, around what answers as slowly as is wanted, and one in a process of its own."""

import contextlib
import http.client
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import uvicorn

from hf_longformer.serving.app import App
from hf_longformer.serving.door import Protocol

LIMITS: dict[str, Any] = {
    "name": "model",
    "tokens_per_batch": 1000,
    "max_queue": 500,
    "max_body": 1_000_000,
    "timeout": 20.0,
}
PATIENCE = 30.0  # seconds


class Counter:
    """Answers rows with how many words their `text` has, a window per 100 words; `bad` makes it fail.

    Args:
        seconds: Per word.
    """

    task, columns, tokenizer = "classification", ("text",), None

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds, self.options, self.batches = seconds, {}, []
        self.may_go_on = threading.Event()
        self.may_go_on.set()

    def prepare(self, rows: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        words = [row["text"].split() for row in rows]
        parts = [(one[at : at + 100], number) for number, one in enumerate(words) for at in range(0, len(one), 100)]
        return rows, [{"input_ids": part, "text": number} for part, number in parts]

    def outputs(self, windows: list[dict[str, Any]]) -> list[int]:
        self.may_go_on.wait(PATIENCE)
        self.batches.append([len(window["input_ids"]) for window in windows])
        time.sleep(self.seconds * sum(self.batches[-1]))
        if any("bad" in window["input_ids"] for window in windows):
            raise RuntimeError("bad words")
        return [len(window["input_ids"]) for window in windows]

    def finish(self, rows: list[Any], windows: list[Any], outputs: list[int]) -> list[dict[str, Any]]:
        return [{"words": sum(outputs)} for _ in rows]


@contextlib.contextmanager
def running(predictor: Any, stop_timeout: int = 5, **limits: Any) -> Iterator[tuple[App, int]]:
    """An application and the port at which it answers."""
    app = App(predictor, **{**LIMITS, **limits})
    door = socket.create_server(("127.0.0.1", 0), backlog=512)
    config = uvicorn.Config(
        app, http=Protocol, ws="none", log_config=None, access_log=False, timeout_graceful_shutdown=stop_timeout
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [door]})
    thread.start()
    try:
        yield app, door.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(PATIENCE)
        door.close()


@contextlib.contextmanager
def process(*words: Any) -> Iterator[tuple[subprocess.Popen, int]]:
    """`hf-longformer serve` with some words, and its port."""
    code = "from hf_longformer_cli import main; main()"
    arguments = [sys.executable, "-c", code, "serve", *map(str, words), "--port", "0"]
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True) as server:
        try:
            lines = iter(server.stderr.readline, "")
            said = next(line for line in lines if " at http://" in line)
            yield server, int(said.rstrip("/\n").rpartition(":")[2])
        finally:
            server.kill()


def ask(port: int, path: str, content: Any = None, timeout: float = PATIENCE) -> tuple[int, Any]:
    """Status and answer, over a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        body = None if content is None else json.dumps(content)
        headers = {"Content-Type": "application/json"}
        connection.request("GET" if body is None else "POST", path, body, headers)
        response = connection.getresponse()
        text = response.read()
        return response.status, json.loads(text) if text[:1] in b"[{" else text.decode()
    finally:
        connection.close()
