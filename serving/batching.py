# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Batches across requests: one thread computes, whoever waits longest for its share goes first."""

import heapq
import itertools
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from typing import Any

# Deadlines decide who comes first. The clock counts computed tokens, and the n-th token of a request is due when
# SHARE × n tokens were computed since it came. Short texts go before a document of a thousand windows, which has an
# eighth of the machine while they keep coming: nobody waits for ever.
SHARE = 8
AHEAD = 512  # windows, the next ones by deadline, of which those of about the same length make a batch
RATIO = 2  # between lengths in a batch: the shorter ones wait for the longest


class Stopped(RuntimeError):  # noqa: N818 - said to whoever waits
    """The work was not done: the server stops."""


class _Work:
    """Windows of a request, and what was found of them."""

    def __init__(self, windows: Sequence[Any]) -> None:
        self.windows, self.outputs, self.left = windows, [None] * len(windows), len(windows)
        self.future: Future[list[Any]] = Future()

    def put(self, index: int, output: Any) -> None:
        self.outputs[index], self.left = output, self.left - 1
        if not self.left:
            self.end(self.outputs)

    def end(self, outputs: list[Any] | BaseException) -> None:
        """Says it to whoever waits; who does not wait any more is not told."""
        try:
            if isinstance(outputs, BaseException):
                self.future.set_exception(outputs)
            else:
                self.future.set_result(outputs)
        except InvalidStateError:
            pass


class Batcher:
    """Computes windows of many requests in batches of tokens, in a thread of its own.

    Args:
        compute: Gives an output for each of some windows. If it fails, each of them is tried alone.
        tokens_per_batch: Tokens at once, padding included; at least one window.
        computed: Called behind every batch with its windows and tokens, padding included.
        dropped: Called with the number of windows that nobody waited for any more.
    """

    def __init__(
        self,
        compute: Callable[[list[Any]], list[Any]],
        tokens_per_batch: int,
        computed: Callable[[int, int], Any] = lambda windows, tokens: None,
        dropped: Callable[[int], Any] = lambda windows: None,
    ) -> None:
        self._compute, self._tokens_per_batch = compute, tokens_per_batch
        self._computed, self._dropped = computed, dropped
        self._queue: list[tuple[int, int, int, int, _Work]] = []  # deadline, number, length, index, work
        self._numbers, self._clock, self._is_stopping = itertools.count(), 0, False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="batches", daemon=True)
        self._thread.start()

    def submit(self, windows: Sequence[Any], lengths: Sequence[int]) -> "Future[list[Any]]":
        """A promise of an output for every window. Who cancels it, or fails, is not computed any further.

        Args:
            windows: For `compute`.
            lengths: Of each, in tokens.
        """
        work = _Work(windows)
        if not windows:
            work.end([])
        with self._changed:
            if self._is_stopping:
                work.end(Stopped("the server stops"))
                return work.future
            ends = itertools.accumulate(lengths)
            for index, (length, end) in enumerate(zip(lengths, ends, strict=True)):
                entry = (self._clock + SHARE * end, next(self._numbers), length, index, work)
                heapq.heappush(self._queue, entry)
            self._changed.notify()
        return work.future

    @property
    def waiting(self) -> int:
        """How many windows wait."""
        return len(self._queue)

    @property
    def is_alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def stop(self, timeout: float) -> bool:
        """Ends behind the batch at work, and tells all who wait that it was not done.

        Args:
            timeout: Seconds to wait for it.

        Returns:
            Whether it has ended.
        """
        with self._changed:
            self._is_stopping = True
            self._changed.notify()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while batch := self._next_batch():
            windows = [work.windows[index] for _, _, _, index, work in batch]
            outputs = self._outputs(windows)
            self._clock += sum(entry[2] for entry in batch)
            self._computed(len(batch), len(batch) * max(entry[2] for entry in batch))
            for (_, _, _, index, work), output in zip(batch, outputs, strict=True):
                if isinstance(output, Exception):
                    work.end(output)
                else:
                    work.put(index, output)
        for *_, work in self._queue:
            work.end(Stopped("the server stops"))

    def _outputs(self, windows: list[Any]) -> list[Any]:
        """What is computed of windows, or an error in its place."""
        try:
            return self._compute(windows)
        except Exception as error:  # whatever a model makes of a text: the thread must go on
            if len(windows) == 1:
                return [error]
        return [output for window in windows for output in self._outputs([window])]

    def _next_batch(self) -> list[tuple[int, int, int, int, _Work]]:
        """Waits for windows, and takes those that are due first; none when it stops."""
        with self._changed:
            while True:
                self._changed.wait_for(lambda: self._queue or self._is_stopping)
                if self._is_stopping:
                    return []
                ahead: list[tuple[int, int, int, int, _Work]] = []
                gone = 0
                while self._queue and len(ahead) < AHEAD:
                    entry = heapq.heappop(self._queue)
                    if entry[4].future.done():  # cancelled, or failed
                        gone += 1
                    else:
                        ahead.append(entry)
                if gone:
                    self._dropped(gone)
                if ahead:
                    chosen = choose([entry[2] for entry in ahead], self._tokens_per_batch)
                    for index in set(range(len(ahead))) - set(chosen):
                        heapq.heappush(self._queue, ahead[index])
                    return [ahead[index] for index in chosen]


def choose(lengths: list[int], tokens: int) -> list[int]:
    """The first window, and those that are nearest to it in length, as many as fit.

    Args:
        lengths: Of windows, the one that is due first in front.
        tokens: Of a batch, padding included.

    Returns:
        Indices of one window, or of several that need no more tokens.
    """
    first = lengths[0]
    near = [index for index, length in enumerate(lengths) if first <= RATIO * length and length <= RATIO * first]
    near.sort(key=lambda index: (index != 0, abs(lengths[index] - first), index))
    longest = 0
    chosen: list[int] = []
    for index in near:
        longest = max(longest, lengths[index])
        if chosen and longest * (len(chosen) + 1) > tokens:
            break
        chosen.append(index)
    return chosen
