# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Table 10 of the paper in spirit: what length, pretraining and the parts of global attention are worth.

    python tests/measure_ablation.py PLACE --squad-long FOLDER

The task: articles of 2,048 tokens, in which one paragraph, anywhere, names a man, and the last one calls him by a
mask. PLACE has the models of `tests/make_tiny.py`. Results go to `finetune/ablation.json`, run by run, and, as a table,
into `finetune/README.md`. What stands there already is kept, unless `--anew` is said.
"""

import json
import math
import random
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from measured import in_processes, read_arguments, read_known, spread, wanted
from transformers import AutoTokenizer, PreTrainedModel

from hf_longformer.benchmarks.demo_names import (
    logits_of_last_mask,
    name_words,
    row_of_text,
    story_paragraphs,
    train_on_masks,
)
from hf_longformer.benchmarks.measure import machine
from hf_longformer.benchmarks.report import put_parts
from hf_longformer.conversion.files import write_json

ROOT = Path(__file__).parents[1] / "finetune"
RESULTS, README = ROOT / "ablation.json", ROOT / "README.md"
LENGTH = 2048  # tokens of every text
STEPS, BATCH = 80, 4
NAMES = 100  # that are asked for, each in one text, and not trained with
SHARED = {"global_projections": "shared"}
# Rows: the model of make_tiny.py, the last tokens that it reads, options of the model, whether masks are global, and
# the accuracy that the paper measured on WikiHop, with 4,096 tokens where we have 2,048.
ROWS: dict[str, tuple[str, int, dict[str, Any], bool, float | None]] = {
    "2,048 tokens, trained further": ("tiny-long-0", LENGTH, {}, True, 73.8),
    "1,024 tokens": ("tiny-long-0", LENGTH // 2, {}, True, 73.1),
    "512 tokens": ("tiny-long-0", LENGTH // 4, {}, True, None),
    "not trained further": ("copy-0", LENGTH, {}, True, 73.2),
    "only positions trained further": ("tiny-positions-0", LENGTH, {}, True, 73.5),
    "no separate global projections": ("tiny-long-0", LENGTH, SHARED, True, 72.2),
    "no global attention either": ("tiny-long-0", LENGTH, SHARED, False, 65.5),
}


@dataclass(frozen=True)
class Job:
    """A row and a seed, and where models and articles are."""

    row: str
    seed: int
    place: Path
    articles: Path


class Texts:
    """Articles with a name in them, as tokens.

    Args:
        tokenizer: Of the model.
        file: A file of squad-long: documents as the contexts of their questions.
        generator: Of articles, and of places in them.
    """

    def __init__(self, tokenizer: Any, file: Path, generator: random.Random) -> None:
        content = json.loads(file.read_text(encoding="utf-8"))["data"]
        contexts = [paragraph["context"] for article in content for paragraph in article["paragraphs"]]
        self.tokenizer, self.generator = tokenizer, generator
        self.articles = [ids for ids in map(self._ids, contexts) if len(ids) > LENGTH]
        self.opening, *_, self.ending = story_paragraphs()

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]

    def make(self, name: str) -> torch.Tensor:
        """`(LENGTH,)`: a part of an article, somewhere in it who is called `name`, and at its end masks."""
        named = self._ids(self.opening.format(name=name))
        asked = self._ids(self.ending.format(mask=self.tokenizer.mask_token))
        room = LENGTH - 2 - len(named) - len(asked)
        article = self.generator.choice(self.articles)
        start, place = self.generator.randrange(len(article) - room), self.generator.randrange(room)
        part = article[start : start + room]
        text = [*part[:place], *named, *part[place:], *asked]
        return torch.tensor([self.tokenizer.cls_token_id, *text, self.tokenizer.sep_token_id])

    def row(self, name: str, tokens: int, is_global: bool) -> dict[str, torch.Tensor]:
        """What a model reads of such a text, its last tokens."""
        return row_of_text(self.tokenizer, self.make(name), name, tokens, is_global=is_global)


def run(job: Job) -> dict[str, Any]:
    """Trains, and says how often the last mask of a text is filled with the right name."""
    folder, tokens, options, is_global, _ = ROWS[job.row]
    checkpoint = job.place / folder
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    names = name_words(tokenizer)
    random.Random(1).shuffle(names)
    asked, trained = names[:NAMES], names[NAMES:]
    generator = random.Random(job.seed)
    texts = Texts(tokenizer, job.articles / "train.json", generator)
    rows = [texts.row(generator.choice(trained), tokens, is_global) for _ in range(STEPS * BATCH)]
    with tempfile.TemporaryDirectory() as work:
        model = train_on_masks(checkpoint, Path(work), rows, job.seed, steps=STEPS, **options)
    texts = Texts(tokenizer, job.articles / "validation.json", random.Random(0))
    ids = torch.tensor([tokenizer.convert_tokens_to_ids(f"Ġ{name}") for name in asked])
    right = [_is_right(model, texts.row(name, tokens, is_global), ids) for name in asked]
    accuracy = {"among_names": statistics.mean(one for one, _ in right)}
    accuracy["among_all"] = statistics.mean(other for _, other in right)
    return {"row": job.row, "seed": job.seed, "accuracy": accuracy}


def _is_right(model: PreTrainedModel, row: dict[str, torch.Tensor], names: torch.Tensor) -> tuple[bool, bool]:
    """Whether the right name is the likeliest of the names, and of the whole vocabulary."""
    logits, name = logits_of_last_mask(model, row), row["labels"].max()
    return bool(names[logits[names].argmax()] == name), bool(logits.argmax() == name)


def measure(place: Path, articles: Path, seeds: list[int], processes: int, results: dict[str, Any]) -> None:
    """A line per row and seed, one by one into the file of results; those that are there stay as they are."""
    jobs = [Job(name, seed, place, articles) for name, seed in wanted(results["rows"], "row", ROWS, seeds)]
    for found in in_processes(run, jobs, processes):
        results["rows"].append(found)
        write_json(RESULTS, results)


def tables(results: dict[str, Any]) -> dict[str, str]:
    """The README's table: names found in percent, and the differences to the first row, seed by seed: mean and its
    standard error.
    """
    heads = ("names found, mean of seeds", "standard deviation", "every seed", "beside the first row")
    lines = [f"| | {' | '.join(heads)} | paper, WikiHop |", "|---|---|---|---|---|---|"]
    scores: dict[str, dict[int, float]] = {name: {} for name in ROWS}
    for row in results["rows"]:
        scores[row["row"]][row["seed"]] = 100 * row["accuracy"]["among_names"]
    first = next(iter(scores.values()))
    for name, (*_, paper) in ROWS.items():
        differences = [score - first[seed] for seed, score in scores[name].items()]
        error = statistics.stdev(differences) / math.sqrt(len(differences))
        beside = "" if scores[name] is first else f"{statistics.mean(differences):+.1f} ± {error:.1f}"
        cells = f"{spread(scores[name].values())} | {beside} | {'' if paper is None else paper}"
        lines.append(f"| {name} | {cells} |")
    return {"table 10": "\n".join(lines)}


def main() -> None:
    """Measures and writes."""
    given = read_arguments(main.__doc__, "--squad-long", "a folder with train.json and validation.json")
    results = {**machine(), "rows": read_known(RESULTS, given.anew).get("rows", [])}
    measure(given.place, given.squad_long, given.seeds, given.processes, results)
    made = tables(json.loads(RESULTS.read_text(encoding="utf-8")))
    README.write_text(put_parts(README.read_text(encoding="utf-8"), made), encoding="utf-8")


if __name__ == "__main__":
    main()
