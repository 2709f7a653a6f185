# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Cross-validation of a classification."""

import copy
import json
from typing import Any

import numpy as np

from hf_longformer.conversion import InputError
from hf_longformer.conversion.files import write_json

from .. import flow
from ..data import Table, add_splits, deal
from ..results import provenance, scalars


def cross_validate(task: Any, tables: dict[str, Table]) -> dict[str, Any]:
    """Trains once per fold, in a folder each, and gives mean and spread of the scores.

    Args:
        task: A `Classification`, with its labels.
        tables: By split: `train`, and `validation` if there is one.

    Returns:
        What `results.json` holds.

    Raises:
        InputError: If there are more folds than rows, or something else to test on.
    """
    table, folds, data, training = tables["train"], task.data.folds or 0, task.data, task.training
    if not 2 <= folds <= len(table.rows):
        raise InputError(f"--folds must lie between 2 and the {len(table.rows)} rows, got {folds}")
    if "test" in tables or data.test_share:
        other = f"rows of {tables['test'].name}" if "test" in tables else f"--test_share {data.test_share}"
        raise InputError(
            f"--folds tests on parts of the training rows and on nothing else, got {other}: leave them out"
        )
    settings, found = provenance(training), []
    for number, test in enumerate(deal(table, [1 / folds] * (folds - 1), data.split_seed, task.strata), 1):
        done = task.folder / f"fold-{number}" / "results.json"
        if done.exists():  # of this run, which was killed in a later fold
            found.append(json.loads(done.read_text(encoding="utf-8")))
            continue
        fold = type(task)(task.model_arguments, data, copy.deepcopy(training))
        fold.training.output_dir, fold.labels, fold.run = str(done.parent), task.labels, task.run
        rest = sorted(set(range(len(table.rows))) - set(test))
        parts = {name: Table(table.rows.select(part), table.name) for name, part in (("train", rest), ("test", test))}
        evaluate = training.eval_strategy != "no"
        splits = add_splits({**tables, **parts}, data, task.strata, evaluate)
        found.append(flow.train_and_measure(fold, splits))
    of_folds = [scalars(fold["scores"]["test"]) for fold in found]
    in_all = [name for name in of_folds[0] if all(name in one for one in of_folds)]  # ROC-AUC may be missing in one
    numbers = {name: [one[name] for one in of_folds] for name in in_all}
    results = {
        "task": "classification",
        "problem_type": task.labels.problem_type,
        "labels": task.labels.names,
        "rows": {"all": len(table.rows)},
        "scores": {
            "mean": {name: float(np.mean(values)) for name, values in numbers.items()},
            "standard deviation": {name: float(np.std(values, ddof=1)) for name, values in numbers.items()},
            **{f"fold {number}": scores for number, scores in enumerate(of_folds, 1)},
        },
    }
    if training.process_index == 0:
        write_json(task.folder / "results.json", {**results, **settings})
    return results
