# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`finetune/training.py` and what `LongTrainingArguments` settles: order of texts, early stopping, the best model; and
runs that go on, in one process and in two.
"""

import json
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from classification_runs import arguments, make_model, make_rows, read_lines, write_rows
from hypothesis import given, settings, strategies as st
from training_runs import log_of, losses
from transformers import (
    AutoModelForSequenceClassification,
    PreTrainedTokenizerFast,
    TrainerCallback,
    TrainerControl,
    TrainerState,
)
from warm import run_two

from hf_longformer.conversion import InputError
from hf_longformer.conversion.files import write_json
from hf_longformer.finetune import run_classification
from hf_longformer.finetune.arguments import LongTrainingArguments, ModelArguments
from hf_longformer.finetune.classification.task import Classification, ClassificationArguments
from hf_longformer.finetune.flow import load
from hf_longformer.finetune.results import write_lines
from hf_longformer.finetune.samplers import LengthSampler, TokenBatchSampler
from hf_longformer.finetune.training import EarlyStopping

LENGTHS = [(7 * number) % 97 + 3 for number in range(200)]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


# ---- the order of texts ----


def drawn(sampler: TokenBatchSampler, epoch: int) -> list[list[int]]:
    sampler.set_epoch(epoch)
    return list(sampler)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=80),
    st.integers(1, 300),
    st.integers(1, 4),
    st.integers(0, 3),
    st.integers(0, 3),
)
def test_token_batch_sampler(lengths: list[int], budget: int, processes: int, seed: int, epoch: int) -> None:
    """Every text once, within the budget, and as many batches for every process and in every epoch."""
    if len(lengths) < processes:
        with pytest.raises(InputError, match=f"{processes} processes .* got {len(lengths)}"):
            TokenBatchSampler(lengths, budget, processes)
        return
    samplers = [TokenBatchSampler(lengths, budget, processes, rank, seed) for rank in range(processes)]
    batches = [drawn(sampler, epoch) for sampler in samplers]
    assert {len(one) for one in batches} == {len(samplers[0])} == {len(drawn(samplers[0], epoch + 1))}
    texts = sorted(text for one in batches for batch in one for text in batch)
    assert set(texts) == set(range(len(lengths)))
    if len(lengths) >= len(samplers[0]) * processes:  # or some batch is drawn twice, as every one has one text
        assert len(texts) == len(lengths)
    for batch in (batch for one in batches for batch in one):
        assert len(batch) == 1 or len(batch) * max(lengths[text] for text in batch) <= budget


def test_token_batch_sampler_fills_its_batches() -> None:
    """Of what the budget allows, three quarters are texts: not a batch per text, and little padding."""
    batches = drawn(TokenBatchSampler(LENGTHS, 500), 0)
    assert sum(LENGTHS) / (len(batches) * 500) > 0.75
    padded = sum(len(batch) * max(LENGTHS[text] for text in batch) for batch in batches)
    assert sum(LENGTHS) / padded > 0.8


def test_token_batch_sampler_order() -> None:
    """By seed and epoch alone; other texts come together in another epoch, and the order is not by length."""
    sampler = TokenBatchSampler(LENGTHS, 300)
    first = drawn(sampler, 0)
    torch.manual_seed(99)
    assert drawn(TokenBatchSampler(LENGTHS, 300), 0) == first
    assert drawn(TokenBatchSampler(LENGTHS, 300, seed=1), 0) != first
    assert {frozenset(batch) for batch in drawn(sampler, 1)} != {frozenset(batch) for batch in first}
    longest = [max(LENGTHS[text] for text in batch) for batch in first]
    assert longest not in (sorted(longest), sorted(longest, reverse=True))


def test_token_batch_sampler_mixes_texts_of_one_length() -> None:
    """Truncated texts are all of one length, and a file has one label after the other: batches must not."""
    batches = drawn(TokenBatchSampler([512] * 1600, 8192), 0)
    assert {len(batch) for batch in batches} == {16}
    of_first_half = [sum(text < 800 for text in batch) for batch in batches]
    assert min(of_first_half) > 0
    assert max(of_first_half) < 16
    assert np.std(of_first_half) == pytest.approx(2.0, abs=0.5)  # of 16 fair coins


def test_length_sampler() -> None:
    """Every text once, by seed and epoch alone, with neighbours of about the same length."""
    sampler = LengthSampler(LENGTHS, texts=4)
    first = list(sampler)
    assert sorted(first) == list(range(len(LENGTHS)))
    torch.manual_seed(99)
    assert list(LengthSampler(LENGTHS, texts=4)) == first
    assert list(LengthSampler(LENGTHS, texts=4, seed=1)) != first
    sampler.set_epoch(1)
    assert list(sampler) != first
    sampler.set_epoch(0)
    assert list(sampler) == first
    steps = [[LENGTHS[text] for text in first[start : start + 4]] for start in range(4, len(first), 4)]
    assert sum(max(step) - min(step) for step in steps) / len(steps) < 10


# ---- early stopping and the best model ----


@pytest.mark.parametrize(
    ("greater", "values", "since"),
    [
        (True, [], 0),
        (True, [0.1, 0.5, 0.4, 0.5], 2),  # as good as the best is not better
        (False, [0.1, 0.5, 0.4], 2),
        (False, [0.5, 0.4, 0.1], 0),
    ],
)
def test_early_stopping_goes_on_where_it_was(greater: bool, values: list[float], since: int, tmp_path: Path) -> None:
    arguments = make_arguments(tmp_path, metric_for_best_model="eval_f1", greater_is_better=greater)
    state = TrainerState(log_history=[{"loss": 1.0}, *({"eval_f1": value} for value in values)])
    callback = EarlyStopping(3)
    callback.on_train_begin(arguments, state, TrainerControl())
    assert callback.early_stopping_patience_counter == since


def make_arguments(folder: Path, **options: Any) -> LongTrainingArguments:
    return LongTrainingArguments(output_dir=str(folder), bf16=False, report_to="none", **options)


@pytest.mark.parametrize(
    ("options", "evaluated", "kept"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"load_best_model_at_end": False}, True, False),
        ({"eval_strategy": "no"}, True, False),
        ({"eval_strategy": "steps"}, True, False),  # saved by epochs
        ({"save_strategy": "no"}, True, False),
        ({"save_strategy": "best"}, True, True),
        ({"save_strategy": "best", "eval_strategy": "steps"}, True, True),
        ({"save_strategy": "steps", "eval_strategy": "steps", "save_steps": 20, "eval_steps": 10}, True, True),
        ({"save_strategy": "steps", "eval_strategy": "steps", "save_steps": 15, "eval_steps": 10}, True, False),
        ({"save_strategy": "steps", "eval_strategy": "steps", "save_steps": 5, "eval_steps": 10}, True, False),
        ({"save_strategy": "steps", "eval_strategy": "steps", "save_steps": 14, "logging_steps": 7}, True, True),
        ({"save_strategy": "steps", "eval_strategy": "steps", "save_steps": 0.3, "eval_steps": 0.1}, True, True),
        ({"save_strategy": "steps", "eval_strategy": "steps", "save_steps": 0.25, "eval_steps": 0.1}, True, False),
    ],
)
def test_choose_best_by(options: dict[str, Any], evaluated: bool, kept: bool, tmp_path: Path) -> None:
    """The best model is kept where every saved one is measured, unless something else is asked for."""
    arguments = make_arguments(tmp_path, **options)
    arguments.choose_best_by("f1", evaluated)
    assert arguments.load_best_model_at_end is kept
    assert arguments.eval_strategy == (options.get("eval_strategy", "epoch") if evaluated else "no")
    assert arguments.metric_for_best_model == "f1"
    for asked in ({"load_best_model_at_end": True}, {"early_stopping_patience": 2}):
        arguments = make_arguments(tmp_path, **{**options, **asked})
        if kept or (options.get("load_best_model_at_end") is False):
            arguments.choose_best_by("f1", evaluated)
        else:
            with pytest.raises(InputError, match="need something to validate on and an evaluation before every save"):
                arguments.choose_best_by("f1", evaluated)


def test_choose_best_by_says_what_it_got(tmp_path: Path) -> None:
    arguments = make_arguments(tmp_path, early_stopping_patience=1, save_strategy="steps")
    with pytest.raises(InputError, match=r"got epoch and steps$"):
        arguments.choose_best_by("f1", True)
    with pytest.raises(InputError, match=r"got no and steps and nothing to validate on$"):
        arguments.choose_best_by("f1", False)


@pytest.mark.parametrize(
    ("task", "options", "metric", "greater"),
    [
        ("f1_macro", {}, "f1_macro", True),
        ("mse", {}, "mse", False),
        ("f1", {"metric_for_best_model": "loss"}, "loss", False),
        ("f1", {"metric_for_best_model": "eval_mae"}, "eval_mae", False),
        ("mse", {"metric_for_best_model": "pearson"}, "pearson", True),
        ("mse", {"greater_is_better": True}, "mse", True),
        ("f1", {"metric_for_best_model": "mse", "greater_is_better": True}, "mse", True),
    ],
)
def test_what_is_better(task: str, options: dict[str, Any], metric: str, greater: bool, tmp_path: Path) -> None:
    arguments = make_arguments(tmp_path, **options)
    arguments.choose_best_by(task, True)
    assert (arguments.metric_for_best_model, arguments.greater_is_better) == (metric, greater)


@pytest.mark.parametrize("stored", ["float16", "bfloat16"])
def test_load_of_half_precision(stored: str, tmp_path: Path) -> None:
    """Weights of half precision would lose small steps, or have no kernels on a CPU."""
    model = AutoModelForSequenceClassification.from_pretrained(make_model(tmp_path), dtype=stored)
    model.save_pretrained(tmp_path / "half")
    PreTrainedTokenizerFast.from_pretrained(tmp_path / "model").save_pretrained(tmp_path / "half")
    training = make_arguments(tmp_path, do_train=False)
    task = Classification(ModelArguments(str(tmp_path / "half")), ClassificationArguments(), training)
    assert load(task) == []
    assert {parameter.dtype for parameter in task.model.parameters()} == {torch.float32}


def test_tokens_per_batch_is_checked(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--tokens_per_batch must be at least 1, got 0"):
        make_arguments(tmp_path, tokens_per_batch=0)


# ---- files ----


def test_files_are_whole_or_not_there(tmp_path: Path) -> None:
    write_lines(tmp_path / "a.jsonl", [{"text": "ü\n"}, {"text": "b"}])
    assert (tmp_path / "a.jsonl").read_text(encoding="utf-8") == '{"text": "ü\\n"}\n{"text": "b"}\n'
    write_json(tmp_path / "a.json", {"text": "ü"})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"text": "ü"}
    with pytest.raises(TypeError):
        write_json(tmp_path / "b.json", {"text": object()})
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.json", "a.jsonl"]


# ---- runs that were killed, and more than one process ----


class Kill(TrainerCallback):
    """Stops inside the second epoch, as a kill would."""

    def __init__(self, trainer: Any) -> None:
        self.trainer = trainer

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 10:
            raise KeyboardInterrupt


@pytest.mark.parametrize("options", [{}, {"tokens_per_batch": 300}], ids=["grouped", "tokens_per_batch"])
def test_killed_run_goes_on_with_the_same_losses(
    options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With dropout, from a checkpoint inside the second epoch: the texts that are left of it, in the same order."""
    model = make_model(tmp_path)
    common = {"num_train_epochs": 3, "save_strategy": "steps", "save_steps": 9, "hidden_dropout_prob": 0.1}

    def run(output: str) -> dict[str, Any]:
        return run_classification.main(arguments(model, tmp_path, output, **common, **options))

    run("whole")
    with monkeypatch.context() as patch:
        patch.setattr("hf_longformer.finetune.training.StopOnBadLoss", Kill)
        with pytest.raises(KeyboardInterrupt):
            run("killed")
    results = run("killed")
    assert results["training"]["resumed_from"] == "checkpoint-9"
    assert 5 <= results["training"]["steps"] / 3 < 9  # so that step 9 lies inside the second epoch
    assert losses(tmp_path / "killed") == pytest.approx(losses(tmp_path / "whole"), rel=1e-6)


PROCESS = """
import json, sys
from pathlib import Path
from transformers import TrainerCallback
from hf_longformer.finetune import run_classification, training

class Kill(TrainerCallback):
    def __init__(self, trainer):
        self.trainer = trainer

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 8:
            raise KeyboardInterrupt

class Noting(training.LongTrainer):  # writes down which texts are drawn
    def training_step(self, model, inputs, *args):
        with Path(f"{self.args.output_dir}-{self.args.process_index}.drawn").open("a") as file:
            print(json.dumps([int(self.state.epoch), inputs["input_ids"].tolist()]), file=file)
        return super().training_step(model, inputs, *args)

run_classification.TASK.trainer_class = Noting
kept = training.StopOnBadLoss
for arguments, kill in json.loads(Path(sys.argv[1]).read_text()):
    training.StopOnBadLoss = Kill if kill else kept
    try:
        run_classification.main(arguments)
    except KeyboardInterrupt:
        pass
"""


@pytest.mark.timeout(300)
def test_two_processes(tmp_path: Path) -> None:
    """Losses as of one process with twice the batch, to rounding; measured exactly the same, of an odd number of texts;
    every text drawn once per epoch; folds; and runs that were killed inside their second epoch go on.
    """
    model = make_model(tmp_path)
    common = {
        "train_file": write_rows(tmp_path / "train.jsonl", make_rows(36)),
        **{
            f"{split}_file": write_rows(tmp_path / f"{split}.jsonl", make_rows(7, seed=1))
            for split in ("validation", "test")
        },
        "per_device_eval_batch_size": 2,
        "save_strategy": "epoch",
        "num_train_epochs": 2,
        "class_weights": "balanced",
        "optim": "sgd",  # AdamW makes large steps of the rounding errors of gradients
        "learning_rate": 0.05,
    }
    two = {**common, "ddp_backend": "gloo", "per_device_train_batch_size": 3}
    folds = {name: value for name, value in two.items() if name != "test_file"} | {"folds": 2, "max_steps": 1}
    saved = {**two, "save_strategy": "steps", "save_steps": 7, "hidden_dropout_prob": 0.1}
    runs = [("two", two, False), ("folds", folds, False)]
    for name, options in (("grouped", saved), ("tokens", {**saved, "tokens_per_batch": 180})):
        runs += [(name, options, False), (f"{name}-killed", options, True), (f"{name}-killed", options, False)]
    (tmp_path / "script.py").write_text(PROCESS)
    lines = [(arguments(model, tmp_path, name, **options), kill) for name, options, kill in runs]
    (tmp_path / "runs.json").write_text(json.dumps(lines))
    command = ["python"]
    command += [str(tmp_path / "script.py"), str(tmp_path / "runs.json")]
    done = run_two(command)
    assert done.returncode == 0, done.stderr[-3000:]

    one = run_classification.main(arguments(model, tmp_path, "one", **common, per_device_train_batch_size=6))
    written = json.loads((tmp_path / "two" / "results.json").read_text())
    assert written["processes"] == 2
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-4)
    for name in ("accuracy", "f1_macro", "roc_auc", "confusion"):
        assert written["scores"]["test"][name] == one["scores"]["test"][name]
    evaluated = [
        [entry["eval_loss"] for entry in log_of(tmp_path / name) if "eval_loss" in entry] for name in ("one", "two")
    ]
    assert len(evaluated[0]) == 2
    assert evaluated[1] == pytest.approx(evaluated[0], rel=1e-4)
    assert [line["row"] for line in read_lines(tmp_path / "two" / "test-predictions.jsonl")] == list(range(1, 8))

    scores = json.loads((tmp_path / "folds" / "results.json").read_text())["scores"]
    assert scores["mean"]["accuracy"] == (scores["fold 1"]["accuracy"] + scores["fold 2"]["accuracy"]) / 2

    for name in ("grouped", "tokens"):
        for epoch in (0, 1):
            texts = [text for rank in (0, 1) for text in drawn_texts(tmp_path / f"{name}-{rank}.drawn", epoch)]
            assert (len(texts), len(set(texts))) == (36, 36)
        results = json.loads((tmp_path / f"{name}-killed" / "results.json").read_text())
        assert results["training"]["resumed_from"] == "checkpoint-7"
        assert 4 <= results["training"]["steps"] / 2 < 7
        assert losses(tmp_path / f"{name}-killed") == pytest.approx(losses(tmp_path / name), rel=1e-5)


def drawn_texts(file: Path, epoch: int) -> list[tuple[int, ...]]:
    """Without padding."""
    batches = [batch for number, batch in read_lines(file) if number == epoch]
    return [tuple(token for token in ids if token != 1) for batch in batches for ids in batch]
