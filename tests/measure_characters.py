# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Table 4 of the paper at small scale, on novels, and what a small model of characters can do: `make characters`.

    python tests/measure_characters.py PLACE --books FOLDER

Runs with increasing, fixed and decreasing windows, without and with dilation on two heads, differ in nothing else;
a few more have dilation otherwise. The small model is trained beside them, reads a million characters,
writes some, and is published in `model_cards`. Every run has a folder in PLACE; those that are done are not done again,
and one that was killed goes on. Results go to `finetune/characters.json` and, as tables, into the READMEs. What stands
there already is kept, unless `--anew` is said.
"""

import itertools
import json
import resource
import shutil
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from measured import Run, kept, read_arguments, read_known, run_all, spread, wanted
from transformers import AutoTokenizer, pipeline, set_seed

from hf_longformer import HfLongformerForCausalLM, RollingCache
from hf_longformer.benchmarks.measure import machine
from hf_longformer.benchmarks.report import put_parts
from hf_longformer.conversion.files import new_folder, write_json
from hf_longformer.finetune import run_clm

ROOT = Path(__file__).parents[1]
RESULTS, RECIPE = ROOT / "finetune" / "characters.json", ROOT / "finetune" / "recipes" / "characters-small.yaml"
NAME = "characters-tiny-en"
CARDS = ROOT / "model_cards"
READMES = (ROOT / "README.md", ROOT / "finetune" / "README.md", CARDS / NAME / "README.md")
VALIDATION = ("great-expectations", "a-tale-of-two-cities")
TEST = ("the-adventures-of-sherlock-holmes", "pride-and-prejudice")
BOOKS_HELP = "a folder with novels, one .txt file each"
INCREASING = [32, 64, 128, 256, 384, 512]  # tokens in all, from the lowest layer to the highest
DILATION = (2, 3, 4)  # of the three upper layers, in heads that are dilated
HEADS = 4
LONG = 1_000_000  # characters read with constant memory
SEGMENT = 2048  # of them at once
PROMPT = "It was a dark and stormy night, and "


class Variant(NamedTuple):
    """The first phase of the small recipe with other windows, dilated heads in the upper layers, and steps."""

    attention_window: list[int]
    dilated_heads: int = 0
    steps: int = 2000
    paper: float | None = None  # bits per character of text8 in the paper's table 4


DILATED = "increasing, dilation on two heads"
TABLE_4 = {
    "decreasing windows": Variant(INCREASING[::-1], paper=1.24),
    "fixed window": Variant([230] * 6, paper=1.23),
    "increasing windows": Variant(INCREASING, paper=1.21),
    DILATED: Variant(INCREASING, 2, paper=1.20),
}
SMALL = "small"  # the recipe itself, in two phases
ONE_HEAD = "increasing, dilation on one head"
QUARTER = Variant([window // 4 for window in INCREASING], steps=1000)
NARROW = {"a quarter as wide": QUARTER, "a quarter as wide, dilation on two heads": QUARTER._replace(dilated_heads=2)}
VARIANTS = {**TABLE_4, ONE_HEAD: Variant(INCREASING, 1), **NARROW}


def make_recipe(place: Path, name: str) -> Path:
    """The recipe of a variant, in a file."""
    variant, recipe = VARIANTS[name], yaml.safe_load(RECIPE.read_text(encoding="utf-8"))
    first = recipe["phases"][0]
    recipe["phases"] = [{**first, "attention_window": variant.attention_window, "max_steps": variant.steps}]
    dilated = variant.dilated_heads
    recipe["model"]["attention_dilation"] = [
        [1] * (HEADS - dilated) + [dilation] * dilated for dilation in (1, 1, 1, *DILATION)
    ]
    file = place / f"{_as_file(name)}.yaml"
    file.write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    return file


def books(folder: Path) -> dict[str, list[str]]:
    """Files of a split that is the same for everybody."""
    splits = {"validation_files": VALIDATION, "test_files": TEST}
    held_out = {name: [str(folder / f"{book}.txt") for book in names] for name, names in splits.items()}
    others = {str(file) for file in folder.glob("*.txt")} - set(itertools.chain(*held_out.values()))
    return {"train_files": sorted(others), **held_out}


def run_folder(place: Path, name: str, seed: int) -> Path:
    """Where a run is kept."""
    return place / f"{_as_file(name)}-{seed}"


def _as_file(name: str) -> str:
    return name.replace(", ", "-").replace(" ", "-")


def train_all(
    place: Path, texts: dict[str, list[str]], missing: list[tuple[str, int]], processes: int, results: dict[str, Any]
) -> None:
    """A row per name and seed, one by one into the file of results."""
    runs = []
    for name, seed in missing:
        recipe, length = (RECIPE, {}) if name == SMALL else (make_recipe(place, name), {"eval_length": 1024})
        runs.append(Run(run_clm.__name__, recipe, run_folder(place, name, seed), {"seed": seed, **length, **texts}))
    for (name, seed), done in zip(missing, run_all(runs, processes), strict=True):
        results["variants"].append({"variant": name, "seed": seed, **kept(done)})
        write_json(RESULTS, results)


def take_first_phase(place: Path, seed: int) -> None:
    """The first phase of the small model is the row of table 4 that has its windows and its dilation."""
    done, own = (run_folder(place, name, seed) / "phase-1" for name in (DILATED, SMALL))
    if (done / "results.json").exists() and not own.exists():
        own.parent.mkdir(exist_ok=True)
        with new_folder(own) as folder:
            shutil.copytree(done, folder, dirs_exist_ok=True)


@torch.inference_mode()
def read_long(folder: Path, files: list[str]) -> list[dict[str, float]]:
    """A row per tenth of a million characters read in segments: peak memory, seconds, bits per character so far."""
    model = HfLongformerForCausalLM.from_pretrained(folder).eval()
    text = b"".join(Path(file).read_bytes() for file in files)[: LONG + 1]
    ids = torch.frombuffer(bytearray(text), dtype=torch.uint8).long()[None]
    cache, nats, rows, start = RollingCache(model.config), 0.0, [], time.perf_counter()
    for first in range(0, LONG, SEGMENT):
        last = min(first + SEGMENT, LONG)
        outputs = model(ids[:, first:last], cache=cache)
        loss = torch.nn.functional.cross_entropy(
            outputs.logits[0].float(), ids[0, first + 1 : last + 1], reduction="sum"
        )
        nats += float(loss)
        if last * 10 // LONG > first * 10 // LONG:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            bits = nats / last / torch.log(torch.tensor(2.0)).item()
            rows.append({"characters": last, "peak_bytes": peak, "bits_per_character": bits})
            rows[-1]["seconds"] = time.perf_counter() - start
    return rows


def generate(folder: Path) -> dict[str, Any]:
    """What the model goes on with, and how."""
    set_seed(0)
    options: dict[str, Any] = {"max_new_tokens": 400, "do_sample": True, "temperature": 0.5}
    found = pipeline("text-generation", model=str(folder))(PROMPT, **options)
    return {"prompt": PROMPT, "seed": 0, **options, "text": found[0]["generated_text"]}


def publish(trained: Path) -> None:
    """Writes the small model beside its card."""
    HfLongformerForCausalLM.from_pretrained(trained).save_pretrained(CARDS / NAME)
    AutoTokenizer.from_pretrained(trained).save_pretrained(CARDS / NAME)


def tables(results: dict[str, Any]) -> dict[str, str]:
    """The READMEs' tables and texts by name."""
    memory = ["| characters read | peak memory, MiB | bits per character so far | seconds |", "|--:|--:|--:|--:|"]
    for row in results["long"]:
        cells = f"{row['characters']:,} | {row['peak_bytes'] / 2**20:,.0f} | {row['bits_per_character']:.3f}"
        memory.append(f"| {cells} | {row['seconds']:.0f} |")
    return {
        "table 4": _table_4(results),
        "dilation": _dilation(results),
        "long text": "\n".join(memory),
        "generated": "```text\n" + results["generated"]["text"] + "\n```",
        "characters": _facts(results),
    }


def _table_4(results: dict[str, Any]) -> str:
    heads = (
        "windows, lowest layer to highest",
        "test, mean of seeds",
        "standard deviation",
        "every seed",
        "validation",
    )
    lines = [f"| | {' | '.join(heads)} | paper, text8 | minutes of training |", "|---|---|---|---|---|---|---|---|"]
    for name, variant in TABLE_4.items():
        rows = _rows(results, name)
        minutes = sum(row["training"]["seconds"] for row in rows) / len(rows) / 60
        lines.append(f"| {name} | {_shown(variant)} | {_scores(rows)} | {variant.paper:.2f} | {minutes:.0f} |")
    return "\n".join(lines)


def _dilation(results: dict[str, Any]) -> str:
    heads = ("windows, lowest layer to highest", "dilated heads", "steps", "test, mean of seeds", "standard deviation")
    lines = [f"| | {' | '.join(heads)} | every seed | validation |", "|---|---|--:|--:|---|---|---|---|"]
    for name in ("increasing windows", ONE_HEAD, DILATED, *NARROW):
        variant, rows = VARIANTS[name], _rows(results, name)
        cells = f"{_shown(variant)} | {variant.dilated_heads} | {variant.steps:,}"
        lines.append(f"| {name} | {cells} | {_scores(rows)} |")
    return "\n".join(lines)


def _facts(results: dict[str, Any]) -> str:
    """How the small model was trained."""
    (row,) = _rows(results, SMALL)
    phases = [one["phase"] for one in row["phases"]]
    steps = "; then ".join(
        f"{phase['max_steps']:,} of {phase['per_device_train_batch_size']} × {phase['max_seq_length']:,} characters,"
        f" windows {', '.join(map(str, phase['attention_window']))}, learning rate {phase['learning_rate']:g}"
        for phase in phases
    )
    measured = [
        f"{_bits(row, split):.3f} of {' and '.join(names).replace('-', ' ')}"
        for split, names in (("test", TEST), ("validation", VALIDATION))
    ]
    threads = "one thread" if row["threads"] == 1 else f"{row['threads']} threads"
    facts = {
        "trained on": ", ".join(name.replace("-", " ") for name in results["books"]["train_files"]),
        "steps": steps,
        "time": f"{row['training']['seconds'] / 60:.0f} minutes on {threads} of {row['processor']}, float32",
        "bits per character": ", ".join(measured),
        "date": row["date"],
    }
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {fact} |" for name, fact in facts.items())])


def _rows(results: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [row for row in results["variants"] if row["variant"] == name]


def _bits(row: dict[str, Any], split: str) -> float:
    return row["scores"][split]["bits_per_character"]


def _scores(rows: list[dict[str, Any]]) -> str:
    """Cells: mean, deviation and every score on the test, and the mean on the validation books."""
    validation = sum(_bits(row, "validation") for row in rows) / len(rows)
    return f"{spread([_bits(row, 'test') for row in rows], 3)} | {validation:.3f}"


def _shown(variant: Variant) -> str:
    windows = variant.attention_window
    return str(windows[0]) if len(set(windows)) == 1 else ", ".join(map(str, windows))


def main() -> None:
    """Measures and writes."""
    given = read_arguments(main.__doc__, "--books", BOOKS_HELP)
    texts, known = books(given.books), read_known(RESULTS, given.anew)
    names = {split: [Path(file).stem for file in files] for split, files in texts.items()}
    results: dict[str, Any] = {**machine(), "books": names, "variants": [], **known}

    def train(names: Iterable[str], seeds: list[int]) -> None:
        missing = wanted(results["variants"], "variant", names, seeds)
        train_all(given.place, texts, missing, given.processes, results)

    train((*TABLE_4, *NARROW), given.seeds)
    take_first_phase(given.place, given.seeds[0])
    train((ONE_HEAD, SMALL), given.seeds[:1])
    small = run_folder(given.place, SMALL, given.seeds[0])
    if "long" not in results:
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:  # one that has trained nothing
            results["long"] = pool.submit(read_long, small, texts["test_files"]).result()
        write_json(RESULTS, results)
    if "generated" not in results:
        publish(small)
        results["generated"] = generate(CARDS / NAME)
        write_json(RESULTS, results)
    made = tables(json.loads(RESULTS.read_text(encoding="utf-8")))
    for file in READMES:
        file.write_text(put_parts(file.read_text(encoding="utf-8"), made), encoding="utf-8")


if __name__ == "__main__":
    main()
