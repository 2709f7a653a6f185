# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Fine-tunes a small encoder on long documents, beside the same encoder cut off at 512 tokens: `make tasks`.

    python tests/measure_tasks.py PLACE --encoder FOLDER --reviews ZIP --squad-long FOLDER --squad FILE

Every run has a folder in PLACE; those that are done are not done again, and one that was killed goes on. Results go to
`finetune/results.json` and, as tables, into `finetune/README.md`; curves and confusion matrices beside it.
"""

import argparse
import json
import random
import re
import shutil
import statistics
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from measured import SEEDS, Run, kept, run_once, spread

from hf_longformer.benchmarks.measure import machine
from hf_longformer.benchmarks.report import put_parts
from hf_longformer.conversion import convert
from hf_longformer.conversion.files import write_json
from hf_longformer.finetune import run_classification, run_qa
from hf_longformer.finetune.metrics import QuestionAnswering

ROOT = Path(__file__).parents[1] / "finetune"
RESULTS, README, RECIPES, PICTURES = ROOT / "results.json", ROOT / "README.md", ROOT / "recipes", ROOT / "pictures"
LENGTHS = (512, 4096)  # tokens
OVERFLOWS = (("truncate", 3), ("truncate", 19), ("stride-mean", 3))  # ways of reading, and epochs
TINY = ROOT.parent / "model_cards" / "longformer-tiny-en-4096"
WORD = re.compile(r"\w+")


def write_reviews(place: Path, archive: Path) -> Path:
    """Movie reviews as JSON lines, in a folder."""
    file = place / "reviews.jsonl"
    if not file.exists():
        with zipfile.ZipFile(archive) as opened:
            names = sorted(name for name in opened.namelist() if name.endswith(".txt") and name.count("/") == 2)
            texts = [(opened.read(name).decode("utf-8", errors="replace"), name.split("/")[1]) for name in names]
        lines = [json.dumps({"text": text, "label": label}) for text, label in texts]
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return file


def measure_reviews(place: Path, archive: Path, seeds: list[int]) -> list[dict[str, Any]]:
    """A row per length and seed of movie reviews."""
    file, rows = write_reviews(place, archive), []
    for seed in seeds:
        for length in LENGTHS:
            folder = place / f"reviews-{length}-{seed}"
            options = {"train_file": file, "model_name_or_path": place / "encoder"}
            options |= {"max_seq_length": length, "seed": seed}
            found = run_once(Run(run_classification.__name__, RECIPES / "movie-reviews.yaml", folder, options))
            rows.append({"length": length, "seed": seed, **kept(found)})
    return rows


def measure_squad(place: Path, long: Path, paragraphs: Path, seeds: list[int]) -> list[dict[str, Any]]:
    """A row per length and seed of questions about long documents: first paragraphs are read, then documents."""
    titles = {article["title"] for article in json.loads((long / "train.json").read_text())["data"]}
    short = place / "paragraphs.json"
    articles = [one for one in json.loads(paragraphs.read_text())["data"] if one["title"] in titles]
    short.write_text(json.dumps({"version": "1.1", "data": articles}))
    rows = []
    for seed in seeds:
        reader = place / f"paragraphs-{seed}"
        options = {"train_file": short, "model_name_or_path": place / "encoder", "seed": seed}
        first = run_once(Run(run_qa.__name__, RECIPES / "squad-paragraphs.yaml", reader, options))
        for length in LENGTHS:
            folder = place / f"squad-{length}-{seed}"
            options = {"train_file": long / "train.json", "test_file": long / "validation.json", "seed": seed}
            options |= {"model_name_or_path": reader, "max_seq_length": length}
            options |= {"documents_beyond": "truncate"} if length < max(LENGTHS) else {}
            found = run_once(Run(run_qa.__name__, RECIPES / "squad-long.yaml", folder, options))
            rows.append({"length": length, "seed": seed, "paragraphs": first["scores"], **kept(found)})
    return rows


def measure_overflow(place: Path, archive: Path, seeds: list[int]) -> list[dict[str, Any]]:
    """A row per way of reading and seed of movie reviews beyond the limit of a model: cut off, in windows, and cut off
    with as many steps as the windows take.
    """
    lines = write_reviews(place, archive).read_text(encoding="utf-8").splitlines()
    random.Random(0).shuffle(lines)
    files = {"train_file": lines[:700], "test_file": lines[700:1300]}
    for name, part in files.items():
        (place / f"{name}.jsonl").write_text("\n".join(part) + "\n", encoding="utf-8")
    rows = []
    for seed in seeds:
        for overflow, epochs in OVERFLOWS:
            options = {name: place / f"{name}.jsonl" for name in files} | {"overflow": overflow, "seed": seed}
            options |= {"model_name_or_path": TINY, "num_train_epochs": epochs}
            folder = place / f"{overflow}-{epochs}-{seed}"
            found = run_once(Run(run_classification.__name__, RECIPES / "movie-reviews-256.yaml", folder, options))
            rows.append({"overflow": overflow, "epochs": epochs, "seed": seed, **kept(found)})
    return rows


def measure_retrieval(file: Path) -> dict[str, float]:
    """The sentence that shares most with the question, words weighted by how rare they are, taken as the answer."""
    found, gold = [], []
    for article in json.loads(file.read_text())["data"]:
        for paragraph in article["paragraphs"]:
            sentences = [one for one in re.split(r"(?<=[.!?])\s+", paragraph["context"]) if one]
            bags = [Counter(WORD.findall(sentence.lower())) for sentence in sentences]
            rarity = {word: np.log(len(bags) / sum(word in bag for bag in bags)) for bag in bags for word in bag}
            for asked in paragraph["qas"]:
                words = set(WORD.findall(asked["question"].lower()))
                shared = [sum(rarity[word] for word in words & bag.keys()) for bag in bags]
                scores = [one / (1 + sum(bag.values())) ** 0.5 for one, bag in zip(shared, bags, strict=True)]
                found.append(sentences[int(np.argmax(scores))])
                gold.append([one["text"] for one in asked["answers"]])
    scores = QuestionAnswering(keep_in_memory=True).compute(predictions=found, references=gold)
    return {name: scores[name] for name in ("exact_match", "f1")}


def tables(results: dict[str, Any]) -> dict[str, str]:
    """The README's tables by name."""
    made = {}
    for name, metric, factor in (("reviews", "accuracy", 100.0), ("squad", "f1", 1.0)):
        if name not in results:
            continue
        lines = ["| tokens read | test, mean of seeds | standard deviation | every seed | minutes of training |"]
        lines.append("|---|---|---|---|---|")
        for length in LENGTHS:
            rows = [row for row in results[name] if row["length"] == length]
            scores = [factor * row["scores"]["test"][metric] for row in rows]
            minutes = statistics.mean(row["training"]["seconds"] for row in rows) / 60
            lines.append(f"| {length:,} | {spread(scores)} | {minutes:.0f} |")
        made[name] = "\n".join(lines)
    if "overflow" in results:
        lines = [
            "| documents beyond the limit | epochs | steps | test, mean of seeds | standard deviation | every seed |"
        ]
        lines.append("|---|--:|--:|---|---|---|")
        for overflow, epochs in OVERFLOWS:
            rows = [row for row in results["overflow"] if (row["overflow"], row["epochs"]) == (overflow, epochs)]
            scores = [100 * row["scores"]["test"]["accuracy"] for row in rows]
            lines.append(f"| `{overflow}` | {epochs} | {rows[0]['training']['steps']} | {spread(scores)} |")
        made["overflow"] = "\n".join(lines)
    if "retrieval" in results:
        made["squad"] += f"\n| bag of words, the best sentence | {results['retrieval']['f1']:.1f} | | | |"
    return made


def main() -> None:
    """Measures and writes."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("place", type=Path, help="where runs are kept")
    parser.add_argument("--encoder", type=Path, required=True, help="a trained encoder for 512 tokens")
    parser.add_argument("--reviews", type=Path, help="movie_reviews.zip of NLTK's data")
    parser.add_argument("--squad-long", type=Path, help="train.json and validation.json with long documents")
    parser.add_argument("--squad", type=Path, help="SQuAD 1.1 with the same articles in paragraphs")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    given = parser.parse_args()
    given.place.mkdir(parents=True, exist_ok=True)
    if not (given.place / "encoder").exists():
        convert(given.encoder, given.place / "encoder", max_length=max(LENGTHS))
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    results |= machine()
    if given.reviews:
        results["reviews"] = measure_reviews(given.place, given.reviews, given.seeds)
        results["overflow"] = measure_overflow(given.place, given.reviews, given.seeds)
    if given.squad_long and given.squad:
        results["retrieval"] = measure_retrieval(given.squad_long / "validation.json")
        results["squad"] = measure_squad(given.place, given.squad_long, given.squad, given.seeds)
    write_json(RESULTS, results)
    README.write_text(put_parts(README.read_text(encoding="utf-8"), tables(results)), encoding="utf-8")
    PICTURES.mkdir(exist_ok=True)
    for picture in given.place.glob(f"*-{SEEDS[0]}/*.png"):
        shutil.copy(picture, PICTURES / f"{picture.parent.name}-{picture.name}")


if __name__ == "__main__":
    main()
