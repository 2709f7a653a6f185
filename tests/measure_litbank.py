# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Coreference and entities in LitBank, whole documents beside windows of 512 tokens, and clusters beside those of equal
heads: `make litbank`.

Coreference is trained in windows first, of which a step holds many; then further, on whole documents or in windows as
before. Validation documents decide above which logit mentions are linked. Entities are trained in windows or on whole
documents, and what was trained in windows reads whole documents, too.

    python tests/measure_litbank.py PLACE --encoder FOLDER --litbank ZIP

Every run has a folder in PLACE; those that are done are not done again, and one that was killed goes on. Results go to
`finetune/litbank.json` and, as tables, into `finetune/README.md`.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time
import zipfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from measured import SEEDS, Run, kept, run_all, spread

from hf_longformer import HfLongformerForCoreference
from hf_longformer.benchmarks.measure import machine
from hf_longformer.benchmarks.report import put_parts
from hf_longformer.conversion import convert
from hf_longformer.conversion.files import write_json
from hf_longformer.finetune import run_coref, run_token_classification
from hf_longformer.finetune.coref.documents import checked, read_documents
from hf_longformer.finetune.coref.scores import coreference_scores

ROOT = Path(__file__).parents[1] / "finetune"
RESULTS, README, RECIPES = ROOT / "litbank.json", ROOT / "README.md", ROOT / "recipes"
TINY = ROOT.parent / "model_cards" / "longformer-tiny-en-4096"
SMALL = "all-MiniLM-L6-v2"
ENDINGS = {"coref": ".conll", "entities": ".tsv"}
RUNS = {
    "coref": (run_coref.__name__, "litbank-coref.yaml"),
    "entities": (run_token_classification.__name__, "litbank-entities.yaml"),
}
LENGTHS = {512: 8, 4096: 1}  # tokens at once, and windows per step: about as many tokens
KEY = ("encoder", "trained_at", "length", "seed")  # of a row: tokens at once in training and in reading
RATES = {TINY.name: (5e-4, 3e-4), SMALL: (3e-4, 2e-4)}  # of coreference, at first and then
FURTHER_EPOCHS = 6
SIZES = (5_000, 10_000, 20_000)  # words
SHOWN = {
    "coref": {"conll_f1": "CoNLL F1", "conll_f1_without_singletons": "without singletons"},
    "entities": {"f1": "micro-F1"},
}
FACTORS = {"coref": 1.0, "entities": 100.0}  # of scores, so that they are in percent
BASELINES = {"found": "equal heads of the mentions found", "gold": "equal heads of the gold mentions"}
SHARES = {"test": 18, "validation": 9, "train": 63}  # documents, each of another book
PRONOUNS = (
    *("i me my mine myself", "you your yours yourself thou thee thy thine", "he him his himself"),
    *("she her hers herself", "it its itself", "we us our ours ourselves", "they them their theirs themselves"),
)
PERSONS = {word: words for words in PRONOUNS for word in words.split()}
BEHIND_HEADS = "of in on at by to for from with about who whom whose which that where and or as , ; ( -- — 's"


def write_split(place: Path, archive: Path) -> dict[str, dict[str, Path]]:
    """LitBank's documents in folders, split by book, as they fall with the seed 0; the same books for both tasks."""
    folders = {kind: {split: place / kind / split for split in SHARES} for kind in ENDINGS}
    with zipfile.ZipFile(archive) as opened:
        names = sorted(Path(name).stem for name in opened.namelist() if name.endswith(ENDINGS["coref"]))
        random.Random(0).shuffle(names)
        where = {Path(name).name: name for name in opened.namelist()}
        for split, number in SHARES.items():
            taken, names = names[:number], names[number:]
            for kind, ending in ENDINGS.items():
                folders[kind][split].mkdir(parents=True, exist_ok=True)
                for name in taken:
                    file = folders[kind][split] / f"{name}{ending}"
                    file.write_bytes(opened.read(where[file.name]))
    return folders


def head_of(words: Sequence[str]) -> str:
    """The last word before what follows a head in English; of pronouns, all forms of the person."""
    words = [word.lower() for word in words]
    ends = [place for place, word in enumerate(words) if place and word in BEHIND_HEADS.split()]
    head = words[ends[0] - 1] if ends else words[-1]
    return PERSONS.get(head, head)


def match_heads(words: Sequence[str], mentions: Sequence[Sequence[int]]) -> list[list[Sequence[int]]]:
    """The baseline: mentions with the same head speak of the same."""
    clusters = defaultdict(list)
    for first, last in mentions:
        clusters[head_of(words[first : last + 1])].append([first, last])
    return list(clusters.values())


def baseline(folder: Path, test: Path) -> dict[str, dict[str, float]]:
    """Scores of matching heads, of the mentions that a run found in the test, and of the gold ones."""
    words = {row["name"]: row["tokens"] for row in checked(read_documents(str(test))).rows}
    lines = [json.loads(line) for line in (folder / "test-predictions.jsonl").read_text(encoding="utf-8").splitlines()]
    gold = [line["gold"] for line in lines]
    found = {}
    for name, column in (("found", "clusters"), ("gold", "gold")):
        mentions = [[mention for cluster in line[column] for mention in cluster] for line in lines]
        matched = [match_heads(words[line["name"]], one) for line, one in zip(lines, mentions, strict=True)]
        found[name] = coreference_scores(matched, gold)
    return found


def run_of(
    place: Path, folders: dict[str, Path], kind: str, name: str, encoder: Path, what: object, length: int, seed: int,
    **more: Any,
) -> Run:  # fmt: skip
    """A run of one encoder, with so many tokens at once."""
    script, recipe = RUNS[kind]
    options: dict[str, Any] = {f"{split}_file": folder for split, folder in folders.items()}
    options |= {"model_name_or_path": encoder, "max_seq_length": length, "seed": seed, **more}
    options |= {f"per_device_{phase}_batch_size": LENGTHS[length] for phase in ("train", "eval")}
    return Run(script, RECIPES / recipe, place / f"{kind}-{name}-{what}-{seed}", options)


def measure(
    place: Path, folders: dict[str, Path], kind: str, encoders: dict[str, Path], seeds: list[int], processes: int
) -> tuple[list[dict[str, Any]], list[Path]]:
    """A row per encoder, tokens at once and seed, and the folders of the runs."""
    first_seconds: dict[tuple[str, int], float] = {}
    make = partial(run_of, place, folders, kind)
    pairs = [(name, seed) for seed in seeds for name in encoders]
    starts = {pair: (encoders[pair[0]], dict[str, Any]()) for pair in pairs}
    if kind == "coref":
        firsts = [
            make(name, encoders[name], "first", min(LENGTHS), seed, learning_rate=RATES[name][0])
            for name, seed in pairs
        ]
        for pair, first, found in zip(pairs, firsts, run_all(firsts, processes), strict=True):
            more = {"learning_rate": RATES[pair[0]][1], "num_train_epochs": FURTHER_EPOCHS}
            starts[pair] = (first.folder, more)
            first_seconds[pair] = found["training"]["seconds"]
    keys = [(*pair, length) for pair in pairs for length in LENGTHS]
    runs = [
        make(name, starts[name, seed][0], length, length, seed, **starts[name, seed][1]) for name, seed, length in keys
    ]
    rows = []
    for (name, seed, length), found in zip(keys, run_all(runs, processes), strict=True):
        seconds = found["training"]["seconds"] + first_seconds.get((name, seed), 0.0)
        facts = {"encoder": name, "trained_at": length, "length": length, "seed": seed, "seconds": seconds}
        rows.append({**facts, **kept(found)})
    return rows, [one.folder for one in runs]


def read_whole(
    place: Path, folders: dict[str, Path], kind: str, encoders: Iterable[str], seeds: list[int], processes: int
) -> list[dict[str, Any]]:
    """A row per encoder and seed: what was trained in windows reads whole documents."""
    short, long = min(LENGTHS), max(LENGTHS)
    pairs = [(name, seed) for seed in seeds for name in encoders]
    runs = []
    for name, seed in pairs:
        trained = place / f"{kind}-{name}-{short}-{seed}"
        what = f"{short}-read-{long}"
        runs.append(run_of(place, folders, kind, name, trained, what, long, seed, do_train=False))
    return [
        {"encoder": name, "trained_at": short, "length": long, "seed": seed, "seconds": None, **kept(found)}
        for (name, seed), found in zip(pairs, run_all(runs, processes), strict=True)
    ]


def measure_sizes(place: Path, model: Path, documents: Path) -> dict[str, Any]:
    """Parameters of a model, and seconds and peak memory of `predict coref` for documents of several sizes."""
    loaded = HfLongformerForCoreference.from_pretrained(model)
    own = sum(one.numel() for name, one in loaded.named_parameters() if "longformer." not in name)
    words = [word for row in checked(read_documents(str(documents))).rows for word in row["tokens"]]
    rows = []
    for size in SIZES:
        file, output = place / f"{size}.jsonl", place / f"{size}-clusters.jsonl"
        file.write_text(json.dumps({"tokens": words[:size]}) + "\n", encoding="utf-8")
        output.unlink(missing_ok=True)
        command = ["hf-longformer", "predict", "coref", str(model), str(file), "--output", str(output)]
        began = time.perf_counter()
        child = subprocess.Popen([str(Path(sys.executable).parent / command[0]), *command[1:]])
        _, status, used = os.wait4(child.pid, 0)
        if status:
            raise SystemExit(f"{' '.join(command)} failed")
        rows.append({"words": size, "seconds": time.perf_counter() - began, "peak_bytes": used.ru_maxrss * 1024})
    return {"parameters": loaded.num_parameters(), "of_scorers": own, "documents": rows}


def tables(results: dict[str, Any]) -> dict[str, str]:
    """The README's tables by name."""
    made = {}
    for kind, metrics in SHOWN.items():
        if kind not in results:
            continue
        lines = [
            "| encoder | tokens at once |"
            + "".join(f" {title} | every seed |" for title in metrics.values())
            + " minutes |"
        ]
        lines.append("|---|--:|" + "---|---|" * len(metrics) + "--:|")
        for encoder, trained_at, length in dict.fromkeys(tuple(row[one] for one in KEY[:3]) for row in results[kind]):
            rows = [row for row in results[kind] if tuple(row[one] for one in KEY[:3]) == (encoder, trained_at, length)]
            cells = [_cells(FACTORS[kind] * row["scores"]["test"][metric] for row in rows) for metric in metrics]
            is_read = trained_at != length
            minutes = "" if is_read else f"{statistics.mean(row['seconds'] for row in rows) / 60:.0f}"
            at_once = f"{length:,}, trained with {trained_at:,}" if is_read else f"{length:,}"
            lines.append(f"| {encoder} | {at_once} | {' | '.join(cells)} | {minutes} |")
            for name, of_baseline in BASELINES.items() if kind == "coref" else ():
                cells = [_cells(row["baseline"][name][metric] for row in rows) for metric in metrics]
                lines.append(f"| {of_baseline} | {length:,} | {' | '.join(cells)} | |")
        made[f"litbank {kind}"] = "\n".join(lines)
    return made


def _cells(scores: Iterable[float]) -> str:
    """Mean and standard deviation, and every score."""
    mean, deviation, every = (cell.strip() for cell in spread(scores).split("|"))
    return f"{mean} ± {deviation} | {every}"


def main() -> None:
    """Measures and writes."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("place", type=Path, help="where runs are kept")
    parser.add_argument("--encoder", type=Path, required=True, help="all-MiniLM-L6-v2, for 512 tokens")
    parser.add_argument(
        "--litbank", type=Path, required=True, help="LitBank's coref and entities folders in an archive"
    )
    parser.add_argument("--kinds", nargs="+", choices=RUNS, default=[*RUNS])
    parser.add_argument("--encoders", nargs="+", choices=RATES, default=[*RATES])
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--processes", type=int, default=1, help="trainings at a time, which share the cores")
    given = parser.parse_args()
    given.place.mkdir(parents=True, exist_ok=True)
    encoder = given.place / "encoder"
    if not encoder.exists():
        convert(given.encoder, encoder, max_length=max(LENGTHS))
    folders = write_split(given.place / "documents", given.litbank)
    encoders = {name: {TINY.name: TINY, SMALL: encoder}[name] for name in given.encoders}
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    results |= machine()
    for kind in given.kinds:
        rows, runs = measure(given.place, folders[kind], kind, encoders, given.seeds, given.processes)
        if kind == "entities":
            rows += read_whole(given.place, folders[kind], kind, encoders, given.seeds, given.processes)
        if kind == "coref":
            rows = [
                {**row, "baseline": baseline(run, folders[kind]["test"])} for row, run in zip(rows, runs, strict=True)
            ]
            if SMALL in encoders:
                model = given.place / f"coref-{SMALL}-{max(LENGTHS)}-{given.seeds[0]}"
                results["sizes"] = measure_sizes(given.place, model, folders[kind]["train"])
        known = {tuple(row[name] for name in KEY): row for row in results.get(kind, [])}
        known |= {tuple(row[name] for name in KEY): row for row in rows}
        results[kind] = [known[key] for key in sorted(known)]
    write_json(RESULTS, results)
    README.write_text(put_parts(README.read_text(encoding="utf-8"), tables(results)), encoding="utf-8")


if __name__ == "__main__":
    main()
