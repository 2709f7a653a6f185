# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Table 4 of the paper at small scale, on novels, and what a small model of characters can do: `make characters`.

    python tests/measure_characters.py PLACE --books FOLDER

Runs with increasing, fixed and decreasing windows, without and with dilation on two heads, differ in nothing else.
Every run has a folder in PLACE; those that are done are not done again, and one that was killed goes on. Results go to
`finetune/characters.json` and, as tables, into `finetune/README.md`. What stands there already is kept, unless `--anew`
is said.
"""

import itertools
import json
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
import yaml
from measured import Run, kept, read_arguments, read_known, run_all, run_once, spread, wanted

from hf_longformer import HfLongformerForCausalLM
from hf_longformer.benchmarks.measure import machine
from hf_longformer.benchmarks.report import put_parts
from hf_longformer.conversion.files import write_json
from hf_longformer.finetune import run_clm

ROOT = Path(__file__).parents[1] / "finetune"
RESULTS, README, RECIPE = ROOT / "characters.json", ROOT / "README.md", ROOT / "recipes" / "characters-small.yaml"
VALIDATION = ("great-expectations", "a-tale-of-two-cities")
TEST = ("the-adventures-of-sherlock-holmes", "pride-and-prejudice")
INCREASING = [32, 64, 128, 256, 384, 512]  # tokens in all, from the lowest layer to the highest
# Windows, whether two heads of the upper layers are dilated, and what the paper measured on text8.
VARIANTS: dict[str, tuple[list[int], bool, float]] = {
    "decreasing windows": (INCREASING[::-1], False, 1.24),
    "fixed window": ([230] * 6, False, 1.23),
    "increasing windows": (INCREASING, False, 1.21),
    "increasing, dilation on two heads": (INCREASING, True, 1.20),
}
BOOKS_HELP = "a folder with novels, one .txt file each"
LONG = 1_000_000  # characters read with constant memory
SEGMENT = 2048  # of them at once
PROMPT = "It was a dark and stormy night, and "


def make_recipe(place: Path, windows: list[int], dilated: bool) -> Path:
    """The first phase of the small recipe with other windows."""
    recipe = yaml.safe_load(RECIPE.read_text(encoding="utf-8"))
    recipe["phases"] = [{**recipe["phases"][0], "attention_window": windows}]
    if not dilated:
        recipe["model"]["attention_dilation"] = 1
    file = place / f"{'-'.join(map(str, windows))}{'-dilated' * dilated}.yaml"
    file.write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")
    return file


def books(folder: Path) -> dict[str, list[str]]:
    """Files of a split that is the same for everybody."""
    splits = {"validation_files": VALIDATION, "test_files": TEST}
    held_out = {name: [str(folder / f"{book}.txt") for book in names] for name, names in splits.items()}
    others = {str(file) for file in folder.glob("*.txt")} - set(itertools.chain(*held_out.values()))
    return {"train_files": sorted(others), **held_out}


def measure_variants(
    place: Path, texts: dict[str, list[str]], seeds: list[int], processes: int, results: dict[str, Any]
) -> None:
    """A row per variant and seed, one by one into the file of results; those that are there stay as they are."""
    missing, runs = wanted(results["variants"], "variant", VARIANTS, seeds), []
    for name, seed in missing:
        recipe = make_recipe(place, *VARIANTS[name][:2])
        options: dict[str, Any] = {"seed": seed, "eval_length": 1024, **texts}
        runs.append(Run(run_clm.__name__, recipe, place / f"{recipe.stem}-{seed}", options))
    for (name, seed), done in zip(missing, run_all(runs, processes), strict=True):
        windows, dilated, _ = VARIANTS[name]
        row = {"variant": name, "attention_window": windows, "dilated": dilated, "seed": seed, **kept(done)}
        results["variants"].append(row)
        write_json(RESULTS, results)


@torch.inference_mode()
def read_long(folder: Path, files: list[str]) -> list[dict[str, float]]:
    """A row per tenth of a million characters read in segments: peak memory, seconds, bits per character so far."""
    model = HfLongformerForCausalLM.from_pretrained(folder).eval()
    text = b"".join(Path(file).read_bytes() for file in files)[: LONG + 1]
    ids = torch.frombuffer(bytearray(text), dtype=torch.uint8).long()[None]
    cache, nats, rows, start = None, 0.0, [], time.perf_counter()
    for first in range(0, LONG, SEGMENT):
        last = min(first + SEGMENT, LONG)
        outputs = model(ids[:, first:last], past_key_values=cache, use_cache=True)
        cache = outputs.past_key_values
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
    from transformers import pipeline, set_seed

    set_seed(0)
    options: dict[str, Any] = {"max_new_tokens": 400, "do_sample": True, "temperature": 0.7}
    found = pipeline("text-generation", model=str(folder))(PROMPT, **options)
    return {"prompt": PROMPT, "seed": 0, **options, "text": found[0]["generated_text"]}


def tables(results: dict[str, Any]) -> dict[str, str]:
    """The README's tables and texts by name."""
    heads = (
        "windows, lowest layer to highest",
        "test, mean of seeds",
        "standard deviation",
        "every seed",
        "validation",
    )
    lines = [f"| | {' | '.join(heads)} | paper, text8 | minutes of training |", "|---|---|---|---|---|---|---|---|"]
    for name, (windows, _, paper) in VARIANTS.items():
        rows = [row for row in results["variants"] if row["variant"] == name]
        test, validation = (
            [row["scores"][split]["bits_per_character"] for row in rows] for split in ("test", "validation")
        )
        minutes = sum(row["training"]["seconds"] for row in rows) / len(rows) / 60
        shown = str(windows[0]) if len(set(windows)) == 1 else ", ".join(map(str, windows))
        mean = sum(validation) / len(validation)
        lines.append(f"| {name} | {shown} | {spread(test, 3)} | {mean:.3f} | {paper:.2f} | {minutes:.0f} |")
    made = {"table 4": "\n".join(lines)}
    memory = ["| characters read | peak memory, MiB | bits per character so far | seconds |", "|---|---|---|---|"]
    for row in results["long"]:
        cells = f"{row['characters']:,} | {row['peak_bytes'] / 2**20:,.0f} | {row['bits_per_character']:.3f}"
        memory.append(f"| {cells} | {row['seconds']:.0f} |")
    made["long text"] = "\n".join(memory)
    made["generated"] = "```text\n" + results["generated"]["text"] + "\n```"
    return made


def main() -> None:
    """Measures and writes."""
    given = read_arguments(main.__doc__, "--books", BOOKS_HELP)
    texts, known = books(given.books), read_known(RESULTS, given.anew)
    results: dict[str, Any] = {
        **machine(),
        "books": {name: [Path(file).stem for file in texts[name]] for name in texts},
        **known,
    }
    results.setdefault("variants", [])
    measure_variants(given.place, texts, given.seeds, given.processes, results)
    if any(name not in known for name in ("small", "long", "generated")):
        small = given.place / "small"
        results["small"] = kept(run_once(Run(run_clm.__name__, RECIPE, small, texts)))
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:  # one that has trained nothing
            results["long"] = pool.submit(read_long, small, texts["test_files"]).result()
        results["generated"] = generate(small)
        write_json(RESULTS, results)
    README.write_text(
        put_parts(README.read_text(encoding="utf-8"), tables(json.loads(RESULTS.read_text()))), encoding="utf-8"
    )


if __name__ == "__main__":
    main()
