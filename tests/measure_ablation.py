# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Table 10 of the paper in spirit: what length, pretraining and the parts of global attention are worth.

    python tests/measure_ablation.py PLACE --reviews ZIP

PLACE has the models of `tests/make_tiny.py`. Every run has a folder there; one that was killed goes on. Results go to
`finetune/ablation.json`, run by run, and, as a table, into `finetune/README.md`. What stands there already is kept,
unless `--anew` is said.
"""

import json
import math
import re
import statistics
from pathlib import Path
from typing import Any

from measure_tasks import write_reviews
from measured import Run, kept, read_arguments, read_known, run_all, spread

from hf_longformer.benchmarks.measure import machine
from hf_longformer.benchmarks.report import put_parts
from hf_longformer.conversion.files import write_json
from hf_longformer.finetune import run_classification

ROOT = Path(__file__).parents[1] / "finetune"
RESULTS, README, RECIPE = ROOT / "ablation.json", ROOT / "README.md", ROOT / "recipes" / "reviews-tiny.yaml"
NO_WORD = re.compile(r"\W+")
SHARED = {"global_projections": "shared"}
# Rows: the model of make_tiny.py, what differs, and the accuracy that the paper measured on WikiHop.
ROWS: dict[str, tuple[str, dict[str, Any], float | None]] = {
    "4,096 tokens, trained further": ("tiny-long-0", {}, 73.8),
    "2,048 tokens": ("tiny-long-0", {"max_seq_length": 2048}, 73.1),
    "512 tokens": ("tiny-long-0", {"max_seq_length": 512}, None),
    "not trained further": ("copy-0", {}, 73.2),
    "only positions trained further": ("tiny-positions-0", {}, 73.5),
    "no separate global projections": ("tiny-long-0", SHARED, 72.2),
    "no global attention either": ("tiny-long-0", {**SHARED, "global_attention": "none"}, 65.5),
}


def measure(place: Path, reviews: Path, seeds: list[int], processes: int, results: dict[str, Any]) -> None:
    """A line per row and seed, one by one into the file of results; those that are there stay as they are."""
    known = {(row["row"], row["seed"]) for row in results["rows"]}
    wanted = [(name, seed) for seed in seeds for name in ROWS if (name, seed) not in known]
    runs = []
    for name, seed in wanted:
        model, options, _ = ROWS[name]
        given = {"model_name_or_path": place / model, "train_file": reviews, "seed": seed, **options}
        folder = place / f"{re.sub(NO_WORD, '-', name)}-{seed}"
        runs.append(Run(run_classification.__name__, RECIPE, folder, given))
    for (name, seed), done in zip(wanted, run_all(runs, processes), strict=True):
        results["rows"].append({"row": name, "seed": seed, **kept(done)})
        write_json(RESULTS, results)


def tables(results: dict[str, Any]) -> dict[str, str]:
    """The README's table: accuracy in percent, and the differences to the first row, seed by seed: mean and its
    standard error.
    """
    heads = ("test accuracy, mean of seeds", "standard deviation", "every seed", "beside the first row")
    lines = [f"| | {' | '.join(heads)} | paper, WikiHop |", "|---|---|---|---|---|---|"]
    scores: dict[str, dict[int, float]] = {name: {} for name in ROWS}
    for row in results["rows"]:
        scores[row["row"]][row["seed"]] = 100 * row["scores"]["test"]["accuracy"]
    first = next(iter(scores.values()))
    for name, (_, _, paper) in ROWS.items():
        differences = [score - first[seed] for seed, score in scores[name].items()]
        error = statistics.stdev(differences) / math.sqrt(len(differences))
        beside = "" if scores[name] is first else f"{statistics.mean(differences):+.1f} ± {error:.1f}"
        cells = f"{spread(scores[name].values())} | {beside} | {'' if paper is None else paper}"
        lines.append(f"| {name} | {cells} |")
    return {"table 10": "\n".join(lines)}


def main() -> None:
    """Measures and writes."""
    given = read_arguments(main.__doc__, "--reviews", "movie_reviews.zip of NLTK's data")
    results = {**machine(), "rows": read_known(RESULTS, given.anew).get("rows", [])}
    reviews = write_reviews(given.place, given.reviews)
    measure(given.place, reviews, given.seeds, given.processes, results)
    made = tables(json.loads(RESULTS.read_text(encoding="utf-8")))
    README.write_text(put_parts(README.read_text(encoding="utf-8"), made), encoding="utf-8")


if __name__ == "__main__":
    main()
