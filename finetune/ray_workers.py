# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Ray actors that answer rows, and what is done when one of them dies.

Ray can try again what an actor was doing when it died, so many times or without end, but not find out why it dies: here
an actor is never restarted, and a new one is given what the old one had, until it is known which row ends its process.
"""

import os
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import pyarrow as pa
import ray
import torch
from ray.exceptions import RayError, RayTaskError

from hf_longformer.conversion.errors import InputError

from .long_documents import LongDocumentPredictor
from .rows import Row

TRIES_TOGETHER, TRIES_ALONE = 2, 3  # of rows whose process died: then they are halved, or a single one is set aside
DEATHS = 20  # in a row, without a row that was answered in between


@dataclass
class Part:
    """Rows that are read together.

    Args:
        file: The number of the file that they belong to.
        first: The number of the first of them in the input.
        rows: The rows.
        size: How many rows the file has.
        deaths: How many processes died of them.
    """

    file: int
    first: int
    rows: list[Row]
    size: int = 0
    deaths: int = 0

    def __post_init__(self) -> None:
        self.size = self.size or len(self.rows)

    def halves(self) -> Iterator["Part"]:
        """It, in two; several rows are halved again the next time, a single one is tried as often as any."""
        middle = len(self.rows) // 2
        for begin, rows in ((0, self.rows[:middle]), (middle, self.rows[middle:])):
            yield Part(self.file, self.first + begin, rows, self.size, TRIES_TOGETHER - 1 if len(rows) > 1 else 0)


class Worker:
    """What a Ray actor is.

    Args:
        documents: What answers.
        describe: What must be alike in all workers.
        threads: To compute with.
    """

    def __init__(
        self, documents: LongDocumentPredictor, describe: Callable[[LongDocumentPredictor], Any], threads: int
    ) -> None:
        torch.set_num_threads(threads)  # Ray says so by a variable, unless that is set already
        self.documents, self._describe = documents, describe

    def describe(self) -> Any:
        """What must be alike in all workers; the model is loaded then."""
        return self._describe(self.documents)

    def answer(self, rows: list[Row]) -> pa.Table:
        """One row of results for each."""
        return self.documents.table([result for pool in self.documents.answers(rows) for _, result in pool])


class Workers:
    """Ray actors, all alike; a context manager that ends them, and Ray, if it was started here.

    Where `RAY_ADDRESS` is set, or Ray runs in this process already, they are actors of that cluster; otherwise Ray is
    started on this machine, for them alone.

    Args:
        documents: What answers.
        number: How many; None: one per GPU, or one for every `cpus` CPUs.
        cpus: Of each.
        describe: What must be alike in all of them.

    Raises:
        InputError: If the checkpoint cannot be used, or is another one elsewhere.
        RuntimeError: If they die without end.
    """

    def __init__(
        self,
        documents: LongDocumentPredictor,
        number: int | None,
        cpus: int,
        describe: Callable[[LongDocumentPredictor], Any],
    ) -> None:
        self._is_ours = not ray.is_initialized()
        if self._is_ours:
            _start_ray(number, cpus)
        there = ray.cluster_resources()
        gpus = int(there.get("GPU", 0))
        self.number = number or gpus or max(1, int(there.get("CPU", 1)) // cpus)
        options = {"num_cpus": cpus, "num_gpus": int(gpus > 0), "max_restarts": 0, "max_task_retries": 0}
        actors: Any = ray.remote(Worker)
        self._new = lambda: actors.options(**options).remote(documents, describe, cpus)
        self._running: dict[Any, tuple[Any, Part | None]] = {}  # what was asked, of whom, and for which rows
        self._idle: list[Any] = []
        self._again: deque[Part] = deque()
        self._described: Any = None
        self._deaths = 0

    def __enter__(self) -> "Workers":
        try:
            for _ in range(self.number):
                self._add()
            while self._described is None:
                self._wait()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop()

    @property
    def description(self) -> Any:
        """What they have alike."""
        return self._described

    def answers(self, parts: Iterator[Part]) -> Iterator[tuple[Part, pa.Table]]:
        """The rows of all parts, whole or in pieces, and their results, in the order in which they are ready.

        Args:
            parts: Read when somebody is there to answer them.
        """
        while True:
            while self._idle and (part := self._next(parts)) is not None:
                actor = self._idle.pop()
                self._running[actor.answer.remote(part.rows)] = actor, part
            if not self._again and all(part is None for _, part in self._running.values()) and self._idle:
                return
            found = self._wait()
            if found is not None:
                yield found

    def _next(self, parts: Iterator[Part]) -> Part | None:
        return self._again.popleft() if self._again else next(parts, None)

    def _add(self) -> None:
        actor = self._new()
        self._running[actor.describe.remote()] = actor, None

    def _wait(self) -> tuple[Part, pa.Table] | None:
        """What is ready first: rows with their results; None if it was something else."""
        (ready,), _ = ray.wait(list(self._running), num_returns=1)
        actor, part = self._running.pop(ready)
        try:
            found = ray.get(ready)
        except RayTaskError as error:  # of Python, in the actor, as if it had been here
            raise error.cause from error
        except RayError as error:
            ray.kill(actor)  # it may be out of reach alone
            self._add()
            return self._bury(part, error)
        self._idle.append(actor)
        if part is not None:
            self._deaths = 0
            return part, found
        self._compare(found)
        return None

    def _bury(self, part: Part | None, error: RayError) -> tuple[Part, pa.Table] | None:
        """Sees to it that rows are read whose process died, or, if it always does, that this is said of a row."""
        self._deaths += 1
        if self._deaths == DEATHS:
            raise RuntimeError(
                f"the last {DEATHS} workers died before they answered anything ({type(error).__name__}): there may be "
                "too little memory for so many workers, or for such documents. What was written is kept: the same "
                "command goes on"
            ) from error
        if part is None:
            return None
        part.deaths += 1
        if part.deaths < (TRIES_TOGETHER if len(part.rows) > 1 else TRIES_ALONE):
            self._again.append(part)
        elif len(part.rows) > 1:
            self._again.extend(part.halves())
        else:
            sentence = (
                f"the process that read it died each of {TRIES_ALONE} times ({type(error).__name__}): it may need more "
                "memory than there is"
            )
            blank = pa.Table.from_pylist([{"error": sentence}], schema=self._described["schema"])
            return part, blank
        return None

    def _compare(self, found: Any) -> None:
        if self._described is None:
            self._described = found
        elif different := [name for name in found if found[name] != self._described[name]]:
            raise InputError(
                f"all workers must have the same checkpoint and package, got others on some in {', '.join(different)}: "
                "copy them anew"
            )

    def _stop(self) -> None:
        for actor in [*self._idle, *(actor for actor, _ in self._running.values())]:
            ray.kill(actor)
        if self._is_ours:
            ray.shutdown()


def _start_ray(number: int | None, cpus: int) -> None:
    """Joins the cluster that `RAY_ADDRESS` names, or starts Ray here, for this process, without telling anybody."""
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if os.environ.get("RAY_ADDRESS"):
        ray.init(**quiet)
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    here: dict[str, Any] = {} if number is None else {"num_cpus": number * cpus}
    ray.init(address="local", include_dashboard=False, **here, **quiet)
