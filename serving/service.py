# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""From rows to results: cut by threads, computed in batches with others', and put together again."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import asynccontextmanager
from typing import Any

from hf_longformer.conversion.errors import one_line
from hf_longformer.finetune.long_documents import ERRORS, LONGEST_ERROR, complaint_of, name_of_id
from hf_longformer.finetune.prediction import Predictor

from .batching import Batcher, Stopped
from .errors import Refusal, busy
from .metrics import Metrics
from .models import Threads

# Texts are cut by threads. Those with much to do have their own: a text of a million tokens takes seconds, and a
# summary of summaries waits for the model in between.
CUTTERS, HEAVY_CUTTERS = 2, 2
HEAVY = 200_000  # bytes of a request
GLANCE = 0.2  # seconds between two looks whether somebody still waits
NAMES: dict[str, str] = {}  # rows call their entries as predictors do


class _Complaint(Exception):  # noqa: N818
    """What is wrong with a row, as `hf-longformer predict` says it."""


class Service:
    """A predictor for many clients at once.

    Args:
        predictor: An `Embedder` or a `Predictor`.
        tokens_per_batch: Tokens at once, padding included.
        max_queue: Texts that may wait.
    """

    def __init__(self, predictor: Any, *, tokens_per_batch: int, max_queue: int) -> None:
        self.predictor, self.max_queue, self.metrics = predictor, max_queue, Metrics()
        self.waiting = 0
        computed, dropped = self.metrics.computed, self.metrics.dropped.inc
        self.batcher = Batcher(predictor.outputs, tokens_per_batch, computed, dropped)
        self._threads = Threads(predictor, self._outputs)
        self._pools = [ThreadPoolExecutor(number) for number in (CUTTERS, HEAVY_CUTTERS)]
        self._request = threading.local()

    @property
    def is_well(self) -> bool:
        """Whether it can answer."""
        return self.batcher.is_alive

    def stop(self, timeout: float) -> bool:
        """Ends; what is not done by then is not done. Whether the thread has ended after so many seconds."""
        for pool in self._pools:
            pool.shutdown(wait=False, cancel_futures=True)
        return self.batcher.stop(timeout)

    @asynccontextmanager
    async def place(self, texts: int) -> AsyncIterator[None]:
        """A place for texts among those that wait.

        Raises:
            Refusal: If there are too many.
        """
        if texts > self.max_queue:
            raise Refusal(400, f"a request must have at most {self.max_queue:,} texts, got {texts:,}: send several")
        if self.waiting + texts > self.max_queue:
            raise busy(f"{self.waiting:,} texts are waiting, and at most {self.max_queue:,} may")
        self._count(texts)
        try:
            yield
        finally:
            self._count(-texts)

    def _count(self, texts: int) -> None:
        self.waiting += texts
        self.metrics.waiting.set(self.waiting)

    async def rows(self, rows: list[Any], is_heavy: bool = False) -> list[dict[str, Any]]:
        """One result per row, as `hf-longformer predict` writes them; with `error` where there is none.

        Args:
            rows: As they came.
            is_heavy: Whether there is much to read.
        """
        return await _all([self._row(row, is_heavy) for row in rows])

    async def _row(self, row: Any, is_heavy: bool) -> dict[str, Any]:
        row = row if isinstance(row, dict) else f"a JSON object is needed, got {type(row).__name__}"
        name = name_of_id(row)
        own = {} if name is None else {"id": row[name]}
        try:
            result = (await self._answer([row], is_heavy))[0]
        except Stopped:
            raise
        except _Complaint as error:
            result = {"error": str(error)}
        except ERRORS as error:
            result = {"error": one_line(error)[:LONGEST_ERROR]}
        except Exception as error:  # others' rows are answered
            result = {"error": f"unexpected {type(error).__name__}: {one_line(error)}"[:LONGEST_ERROR]}
        self.metrics.failed.inc("error" in result)
        return {**own, **result}

    async def embed(self, rows: list[dict[str, Any]], is_heavy: bool = False) -> list[dict[str, Any]]:
        """What `Embedder.finish` says of every row.

        Args:
            rows: As `Embedder.prepare` takes them.
            is_heavy: Whether there is much to read.

        Raises:
            InputError: If one of them cannot be read.
        """
        return await self._answer(rows, is_heavy)

    async def _answer(self, rows: list[dict[str, Any]], is_heavy: bool) -> list[dict[str, Any]]:
        gone = threading.Event()
        try:
            read, windows = await self.in_thread(is_heavy, lambda: self._prepare(rows))
            outputs = await asyncio.wrap_future(self._submit(windows))
            again = getattr(self.predictor, "options", {}).get("overflow") == "hierarchical"
            results = await self.in_thread(is_heavy or again, lambda: self._finish(read, windows, outputs, gone))
        finally:
            gone.set()
        self.metrics.texts.inc(len(rows))
        self.metrics.tokens.inc(sum(len(window["input_ids"]) for window in windows))
        self.metrics.cut.inc(sum(result.get("tokens_cut", 0) for result in results))
        return results

    def _prepare(self, rows: list[dict[str, Any]]) -> Any:
        mine = self._threads.mine
        if isinstance(mine, Predictor):
            for complaint in (complaint_of(mine, row, NAMES) for row in rows):
                if complaint is not None:
                    raise _Complaint(complaint)
        return mine.prepare(rows)

    def _finish(self, rows: Any, windows: Any, outputs: Any, gone: threading.Event) -> Any:
        self._request.gone = gone
        return self._threads.mine.finish(rows, windows, outputs)

    def _outputs(self, windows: list[Any]) -> list[Any]:
        """What the model says of windows that a predictor makes of what it said of others; waits in its thread."""
        work = self._submit(windows)
        while not wait([work], GLANCE).done:
            if self._request.gone.is_set():
                work.cancel()
        return work.result()

    async def in_thread(self, is_heavy: bool, what: Callable[[], Any]) -> Any:
        """What a function gives, which is called where nobody has to wait for it but who wants it."""
        return await asyncio.get_running_loop().run_in_executor(self._pools[is_heavy], what)

    def _submit(self, windows: list[dict[str, Any]]) -> Any:
        return self.batcher.submit(windows, [len(window["input_ids"]) for window in windows])


async def _all(waited: list[Any]) -> list[Any]:
    """What all of them give; if one fails or nobody waits any more, none goes on."""
    tasks = [asyncio.ensure_future(one) for one in waited]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
