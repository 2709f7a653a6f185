# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Table 10 of the paper in spirit: what length, pretraining and the parts of global attention are worth.

    python tests/measure_ablation.py PLACE --reviews ZIP

PLACE has the models of `tests/make_tiny.py`. Every run has a folder there; those that are done are not done again, and
one that was killed goes on. Results go to `finetune/ablation.json` and, as a table, into `finetune/README.md`.
"""

import argparse
import json
import math
import re
import statistics
from pathlib import Path
from typing import Any

from measure_tasks import write_reviews
from measured import SEEDS, kept, run_once, spread

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


def measure(place: Path, reviews: Path, seeds: list[int]) -> list[dict[str, Any]]:
    """A line per row and seed."""
    found = []
    for seed in seeds:
        for name, (model, options, _) in ROWS.items():
            given = {"model_name_or_path": place / model, "train_file": reviews, "seed": seed, **options}
            done = run_once(run_classification, RECIPE, place / f"{re.sub(NO_WORD, '-', name)}-{seed}", **given)
            found.append({"row": name, "seed": seed, **kept(done)})
    return found


def tables(results: dict[str, Any]) -> dict[str, str]:
    """The README's table: accuracy in percent, and the mean of the differences to the first row, seed by seed."""
    heads = ("test accuracy, mean of seeds", "standard deviation", "every seed", "beside the first row")
    lines = [f"| | {' | '.join(heads)} | paper, WikiHop |", "|---|---|---|---|---|---|"]
    scores = {
        name: [100 * row["scores"]["test"]["accuracy"] for row in results["rows"] if row["row"] == name]
        for name in ROWS
    }
    first = next(iter(scores.values()))
    for name, (_, _, paper) in ROWS.items():
        differences = [one - other for one, other in zip(scores[name], first, strict=True)]
        error = statistics.stdev(differences) / math.sqrt(len(differences)) if len(differences) > 1 else 0.0
        beside = "" if scores[name] is first else f"{statistics.mean(differences):+.1f} ± {error:.1f}"
        lines.append(f"| {name} | {spread(scores[name])} | {beside} | {'' if paper is None else paper} |")
    return {"table 10": "\n".join(lines)}


def main() -> None:
    """Measures and writes."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("place", type=Path, help="where tests/make_tiny.py has its models")
    parser.add_argument("--reviews", type=Path, required=True, help="movie_reviews.zip of NLTK's data")
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    given = parser.parse_args()
    rows = measure(given.place, write_reviews(given.place, given.reviews), given.seeds)
    write_json(RESULTS, {**machine(), "rows": rows})
    made = tables(json.loads(RESULTS.read_text(encoding="utf-8")))
    README.write_text(put_parts(README.read_text(encoding="utf-8"), made), encoding="utf-8")


if __name__ == "__main__":
    main()
