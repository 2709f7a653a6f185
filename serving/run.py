# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`hf-longformer serve`: loads a checkpoint, answers until it is told to stop, and says whether all were answered."""

import logging
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvicorn

from hf_longformer.conversion import InputError
from hf_longformer.conversion.errors import one_line

from .app import App
from .door import Protocol
from .models import load

MEGABYTE = 1_000_000
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def serve(
    checkpoint: str,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    name: str | None = None,
    tokens_per_batch: int,
    max_queue: int,
    max_body: float,
    timeout: float,
    stop_timeout: int,
    api_key: str | None = None,
    say: Callable[[str], Any] = lambda line: None,
    **options: Any,
) -> None:
    """Answers requests until SIGTERM or SIGINT, and those that were accepted by then.

    Args:
        checkpoint: A folder or a Hub name.
        host, port: Where to listen; port 0: any that is free.
        name: What clients call the model; the checkpoint's if None.
        tokens_per_batch: Tokens at once, padding included.
        max_queue: Texts that may wait.
        max_body: Megabytes of a request.
        timeout: Seconds in which a request is answered, or refused.
        stop_timeout: Seconds for the requests that were accepted, when the server stops.
        api_key: What clients must know; None: nothing.
        say: Called with sentences for the user.
        **options: For `models.load`.

    Raises:
        InputError: If the checkpoint cannot be loaded, an option cannot be used, or the port is taken.
        RuntimeError: If it stopped before all were answered.
    """
    if api_key == "":
        raise InputError("the key must not be empty")
    door = _listen(host, port)
    try:
        predictor = load(checkpoint, tokens_per_batch=tokens_per_batch, **options)
        app = App(
            predictor,
            name=name or (Path(checkpoint).resolve().name if Path(checkpoint).is_dir() else checkpoint),
            tokens_per_batch=tokens_per_batch,
            max_queue=max_queue,
            max_body=int(max_body * MEGABYTE),
            timeout=timeout,
            api_key=api_key,
        )
        if host not in LOOPBACK and api_key is None:
            say(f"anybody who reaches {host} can ask: HF_LONGFORMER_API_KEY sets a key")
        address, taken = door.getsockname()[:2]
        shown = f"[{address}]" if ":" in address else address
        say(f"{app.name}: {predictor.task} at http://{shown}:{taken}/")
        _run(app, door, stop_timeout)
    finally:
        door.close()
    if lost := app.door.lost:
        raise RuntimeError(f"stopped after {stop_timeout} seconds with {lost:,} requests not answered")
    if not app.has_ended:
        raise RuntimeError("stopped while a batch was computed")


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(place[:2], family=family, backlog=2048)
    except OSError as error:
        raise InputError(f"cannot listen at {host}, port {port}: {one_line(error)}") from error


def _run(app: App, door: socket.socket, stop_timeout: int) -> None:
    """Runs uvicorn, which raises signals again that ended it: they are heard here, and do nothing more."""
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # what goes wrong is said to clients
    config = uvicorn.Config(
        app,
        http=Protocol,
        ws="none",
        loop="asyncio",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=stop_timeout,
    )
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        uvicorn.Server(config).run(sockets=[door])
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
