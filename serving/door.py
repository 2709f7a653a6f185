# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""What a request must pass before it is read: who asks, how much, how fast; and what is said when it cannot."""

import asyncio
import hmac
from collections.abc import Awaitable
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from hf_longformer.conversion.errors import InputError, one_line

from .batching import Stopped
from .errors import Refusal, busy
from .metrics import Metrics

HEADER_SECONDS, BODY_SECONDS = 10.0, 30.0  # in which a client says what it wants
BODIES = 32  # so many of the longest requests are held at once
PATIENCE = 8  # of a request that is too long so many times the limit is read away, for its client to hear the answer
OPEN = ("/", "/health")  # without a key
GONE = 499  # as proxies write down what no client hears any more


class Door:
    """An ASGI application around another one, which gets requests whole.

    Args:
        app: The other one.
        max_body: Bytes of a request.
        api_key: What clients must know; None: nothing.
        metrics: Where answers are counted.
        routes: Paths that are counted by their name.
    """

    def __init__(
        self, app: ASGIApp, *, max_body: int, api_key: str | None, metrics: Metrics, routes: frozenset[str]
    ) -> None:
        self.app, self.max_body, self.api_key, self.metrics, self.routes = app, max_body, api_key, metrics, routes
        self.held = 0  # bytes of requests that are not answered yet
        self.lost = 0  # requests that came whole and were given up when the server stopped

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Lets a request through, or says why not."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        route = scope["path"] if scope["path"] in self.routes else "other"
        said: list[int] = []  # the status, once it is sent
        mine = [0]  # bytes held for this request

        async def heard(message: Message) -> None:
            if message["type"] == "http.response.start":
                said.append(message["status"])
            await send(message)

        begin, is_whole = asyncio.get_running_loop().time(), False
        try:
            await self._check_key(scope)
            body = await self._body(scope, receive, mine)
            begin, is_whole = asyncio.get_running_loop().time(), True
            await self.app(scope, _whole(body, receive), heard)
        except Exception as error:
            refusal = as_refusal(error)
            if not said:
                close = {"Connection": "close"} if refusal.status in (401, 408, 413, 503) else {}
                answer = JSONResponse(refusal.content, refusal.status, {**refusal.headers, **close})
                await answer(scope, receive, heard)
        except asyncio.CancelledError:  # the server stops, and has waited long enough
            self.lost += is_whole and not said
            if said:
                raise
            refusal = busy("the server stops")
            await JSONResponse(refusal.content, refusal.status, {**refusal.headers, "Connection": "close"})(
                scope, receive, heard
            )
        finally:
            self.held -= mine[0]
            self.metrics.requests.labels(route, str(said[0] if said else GONE)).inc()
            self.metrics.seconds.labels(route).observe(asyncio.get_running_loop().time() - begin)

    async def _check_key(self, scope: Scope) -> None:
        if self.api_key is None or scope["path"] in OPEN:
            return
        given = dict(scope["headers"]).get(b"authorization", b"")
        if not hmac.compare_digest(given, b"Bearer " + self.api_key.encode()):
            raise Refusal(401, "a key is needed, as the header Authorization: Bearer KEY", code="invalid_api_key")

    async def _body(self, scope: Scope, receive: Receive, mine: list[int]) -> bytes:
        """The whole body, if it comes in time and is not too long."""
        said = dict(scope["headers"]).get(b"content-length", b"")
        length = int(said) if said.isdigit() else 0
        chunks, size = [], 0
        try:
            async with asyncio.timeout(BODY_SECONDS):
                while length <= PATIENCE * self.max_body and size <= PATIENCE * self.max_body:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise Refusal(GONE, "the client is gone")
                    chunk = message.get("body", b"")
                    size += len(chunk)
                    if size <= self.max_body:
                        self._hold(len(chunk), mine)
                        chunks.append(chunk)
                    if not message.get("more_body"):
                        break
        except TimeoutError as error:
            raise Refusal(408, f"a request must come within {BODY_SECONDS:.0f} seconds: {size:,} bytes came") from error
        if max(size, length) > self.max_body:
            raise Refusal(413, f"a request must have at most {self.max_body:,} bytes, got {max(size, length):,}")
        return b"".join(chunks)

    def _hold(self, size: int, mine: list[int]) -> None:
        if self.held + size > BODIES * self.max_body:
            raise busy(f"{self.held:,} bytes of requests are waiting, and at most {BODIES * self.max_body:,} may")
        self.held, mine[0] = self.held + size, mine[0] + size


def as_refusal(error: Exception) -> Refusal:
    """What a client is told of an error."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, InputError):
        return Refusal(400, str(error))
    if isinstance(error, Stopped):
        return busy("the server stops")
    return Refusal(500, f"unexpected {type(error).__name__}: {one_line(error)[:300]}", code="failed")


def _whole(body: bytes, receive: Receive) -> Receive:
    """What gives a body that was read already, and then what else comes."""
    given = False

    async def next_message() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return next_message


async def while_wanted(receive: Receive, work: Awaitable[Any], seconds: float) -> Any:
    """What some work gives, unless it takes too long or the client goes away; it is given up then.

    Args:
        receive: Of the request, whose body was read.
        work: To be done.
        seconds: That it may take.

    Raises:
        Refusal: If it is given up.
    """
    task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_gone(receive))
    try:
        done, _ = await asyncio.wait({task, gone}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if task in done:
            return task.result()
        if gone in done:
            raise Refusal(GONE, "the client is gone")
        raise Refusal(
            504, f"no answer within {seconds:g} seconds: send less at once, or try again later", code="timeout"
        )
    finally:
        task.cancel()
        gone.cancel()


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class Protocol(H11Protocol):
    """uvicorn's, which waits for ever for the first line and the headers of a request; this one does not."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begins to wait."""
        super().connection_made(transport)
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Goes on waiting, if there is no request yet."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends."""
        self._forget()
        super().connection_lost(exc)

    @property
    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _watch(self) -> None:
        if not self._is_idle:
            self._forget()
        elif self._timer is None:
            self._timer = self.loop.call_later(HEADER_SECONDS, self._give_up)

    def _forget(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        self._timer = None
        if self._is_idle and not self.transport.is_closing():
            self.transport.close()
