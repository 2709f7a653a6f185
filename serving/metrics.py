# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""What a server counts, as Prometheus reads it."""

from functools import partial
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
TOKENS = tuple(2**power for power in range(6, 18))


class Metrics:
    """Counters of one server, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        at: dict[str, Any] = {"namespace": "hf_longformer", "registry": self.registry}
        counter: Any = partial(Counter, **at)
        gauge: Any = partial(Gauge, **at)
        histogram: Any = partial(Histogram, **at)
        self.requests = counter("requests", "Requests by what they were answered with.", ["route", "status"])
        self.seconds = histogram("request_seconds", "From request to answer.", ["route"], buckets=SECONDS)
        self.texts = counter("texts", "Texts that were answered.")
        self.tokens = counter("tokens", "Tokens of texts that were answered.")
        self.cut = counter("tokens_cut", "Tokens that were left out of answered texts.")
        self.failed = counter("rows_failed", "Rows with an error instead of a result.")
        self.dropped = counter("windows_dropped", "Windows not computed, since nobody waited for them any more.")
        self.batches = histogram("batch_tokens", "Tokens of a batch, padding included.", buckets=TOKENS)
        self.batched = counter("windows", "Windows that were computed.")
        self.waiting = gauge("texts_waiting", "Texts that were accepted and not answered yet.")

    def computed(self, windows: int, tokens: int) -> None:
        """Counts a batch."""
        self.batched.inc(windows)
        self.batches.observe(tokens)

    def text(self) -> tuple[bytes, str]:
        """All of it, and its type."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST
