# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""How many documents a second `predict --engine ray` reads with two workers, and two processes of `predict` without it.

    OMP_NUM_THREADS=1 python tests/measure_ray.py --documents 60 --words 1500 --passes 3

The same documents, in turns, one thread each. Start-up is measured apart: clocks run from the first row that is handed
to a loaded model to the last result on the disk. Labels must be the same, and scores to 1e-5.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from pyarrow import dataset

from hf_longformer import HfLongformerForSequenceClassification
from hf_longformer.finetune import predict as module
from hf_longformer.finetune.predict import predict
from hf_longformer.model_cards import embedded_model


def make(folder: Path, documents: int, words: int) -> None:
    """A classifier with a head at random, and documents of random words, half of them in each of two files, too."""
    torch.manual_seed(0)
    source = embedded_model("longformer-tiny-en-4096")
    HfLongformerForSequenceClassification.from_pretrained(source).save_pretrained(folder / "model")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / "model" / name).write_bytes((Path(source) / name).read_bytes())
    draw = random.Random(0)
    known = ["the", "quick", "brown", "fox", "jumps", "over", "a", "lazy", "dog", "and", "reads", "documents"]
    lines = [json.dumps({"id": n, "text": " ".join(draw.choices(known, k=words))}) + "\n" for n in range(documents)]
    (folder / "all.jsonl").write_text("".join(lines))
    for half in range(2):
        (folder / f"half-{half}.jsonl").write_text("".join(lines[half::2]))


def one(folder: Path, input: str, output: str, engine: str) -> None:
    """A run in this process; prints when rows began to be read, and when all was written."""
    began: list[float] = []
    if engine == "ray":
        from hf_longformer.finetune.ray_workers import Workers

        answers = Workers.answers

        def noted(self: Any, parts: Any) -> Any:
            while any(part is None for _, part in self._running.values()):  # all workers are there
                self._wait()
            began.append(time.time())
            return answers(self, parts)

        Workers.answers = noted  # type: ignore[method-assign]
        on_ray = {"workers": 2, "rows_per_file": 4}
    else:
        write, on_ray = module._write, {}

        def noted_write(*given: Any) -> None:
            began.append(time.time())
            write(*given)

        module._write = noted_write
    given = (str(folder / "model"), str(folder / input), folder / output)
    predict("classification", *given, engine=engine, on_ray=on_ray, overwrite=True)
    print(json.dumps([began[0], time.time()]))  # noqa: T201


def runs(folder: Path, *which: tuple[str, str, str]) -> tuple[float, float]:
    """Documents a second of runs at once, and seconds until the last of them began to read."""
    start = time.time()
    command = [sys.executable, __file__, "--one", str(folder)]
    open_ = [subprocess.Popen([*command, *words], stdout=subprocess.PIPE, text=True) for words in which]
    rate, ready = 0.0, 0.0
    for process, (input_, _, _) in zip(open_, which, strict=True):
        began, ended = json.loads(process.communicate()[0].splitlines()[-1])
        rate += len((folder / input_).read_text().splitlines()) / (ended - began)
        ready = max(ready, began - start)
    return rate, ready


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--documents", type=int, default=60)
    parser.add_argument("--words", type=int, default=1500)
    parser.add_argument("--passes", type=int, default=3)
    parser.add_argument("--one", nargs=4)
    given = parser.parse_args()
    if given.one:
        folder, *words = given.one
        one(Path(folder), *words)
        return
    os.environ |= {"OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0"}  # Ray's own 15 would lose to whatever else runs
    folder = Path(tempfile.mkdtemp())
    make(folder, given.documents, given.words)
    found: dict[str, list[tuple[float, float]]] = {"ray": [], "two processes": []}
    for number in range(given.passes):
        found["ray"].append(runs(folder, ("all.jsonl", "labels", "ray")))
        halves = [(f"half-{half}.jsonl", f"half-{half}", "local") for half in range(2)]
        found["two processes"].append(runs(folder, *halves))  # type: ignore[arg-type]
        print(number, {name: one[-1] for name, one in found.items()}, os.getloadavg(), flush=True)  # noqa: T201
    table = {row["id"]: row["scores"] for row in dataset.dataset(folder / "labels").to_table().to_pylist()}
    lines = [json.loads(line) for half in range(2) for line in (folder / f"half-{half}").read_text().splitlines()]
    far = max(abs(table[str(line["id"])][name] - score) for line in lines for name, score in line["scores"].items())
    rates = {name: [rate for rate, _ in passes] for name, passes in found.items()}
    ratios = [one / other for one, other in zip(*rates.values(), strict=True)]
    print(f"largest difference of scores {far:.1e} of {len(lines)} documents")  # noqa: T201
    for name, passes in found.items():
        median = statistics.median(rates[name])
        spread = (max(rates[name]) - min(rates[name])) / median
        ready = statistics.median(seconds for _, seconds in passes)
        print(f"{name}: {median:.3f} documents/s, apart {spread:.0%}, ready after {ready:.1f} s")  # noqa: T201
    print(f"ratio of the medians {statistics.median(rates['ray']) / statistics.median(rates['two processes']):.2f}")  # noqa: T201
    print("ratios in turns", [round(ratio, 2) for ratio in ratios])  # noqa: T201


if __name__ == "__main__":
    main()
