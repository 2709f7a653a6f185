# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`finetune/run_classification.py`: labels of all kinds, long documents, losses, folds, and what is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from classification_runs import FILLER, MARKS, arguments, make_model, make_rows, read_lines, write_rows
from datasets import ClassLabel, Dataset, Features, Sequence, Value
from sklearn.metrics import accuracy_score, f1_score
from training_runs import log_of, losses
from transformers.modeling_outputs import SequenceClassifierOutput

from hf_longformer import HfLongformerConfig
from hf_longformer.conversion import InputError
from hf_longformer.finetune import run_classification
from hf_longformer.finetune.classification.labels import Labels
from hf_longformer.finetune.classification.predictor import ClassificationPredictor
from hf_longformer.finetune.classification.scores import draw_confusion, predictions
from hf_longformer.finetune.classification.windows import pool, probabilities
from hf_longformer.finetune.data import ROW, Table
from hf_longformer.finetune.losses import MULTI, REGRESSION, SINGLE, Loss, balanced_weights

SGD = {"optim": "sgd", "learning_rate": 0.05}  # AdamW makes large steps of the rounding errors of gradients


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for all tests: nobody changes it."""
    return make_model(tmp_path_factory.mktemp("classification"))


@pytest.fixture
def run(model: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Runs the script and returns what it returns."""

    def start(output: str = "run", **options: Any) -> dict[str, Any]:
        return run_classification.main(arguments(model, tmp_path, output, **options))

    return start


def table(column: list[Any], feature: Any = None) -> Table:
    rows = Dataset.from_dict({"label": column, ROW: list(range(1, len(column) + 1))})
    return Table(rows.cast_column("label", feature) if feature else rows, "train.csv")


# ---- whole runs ----


def test_single_labels(run: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    """What is written belongs together, and the words that decide were learned."""
    rows = make_rows(120)
    rows[5]["text"] = " "
    results = run(
        train_file=write_rows(tmp_path / "train.jsonl", rows), test_share=0.2, num_train_epochs=6, save_strategy="epoch"
    )
    folder = tmp_path / "run"
    written = json.loads((folder / "results.json").read_text())
    assert {name: written[name] for name in results} == results
    assert {"command", "seed", "hyperparameters", "processes", "versions", "processor", "date"} <= written.keys()
    assert results["problem_type"] == SINGLE
    assert results["labels"] == ["neg", "pos"]
    assert results["rows"] == results["windows"] == {"train": 83, "validation": 12, "test": 24}
    assert results["leaks"] == {}
    for split in ("validation", "test"):
        lines, scores = read_lines(folder / f"{split}-predictions.jsonl"), results["scores"][split]
        assert len(lines) == results["rows"][split]
        assert all(line["gold"] == rows[line["row"] - 1]["label"] for line in lines)
        assert all(line["label"] == max(line["scores"], key=line["scores"].get) for line in lines)
        assert all(sum(line["scores"].values()) == pytest.approx(1) for line in lines)
        right, found = ([line[name] for line in lines] for name in ("gold", "label"))
        assert scores["accuracy"] == pytest.approx(accuracy_score(right, found))
        assert scores["f1_macro"] == pytest.approx(f1_score(right, found, average="macro"))
        assert np.sum(scores["confusion"]) == len(lines)
        assert (folder / f"{split}-confusion.png").read_bytes()[:4] == b"\x89PNG"
        assert scores["accuracy"] > 0.9
    assert (folder / "curves.png").exists()
    config = HfLongformerConfig.from_pretrained(folder)
    assert config.id2label == {0: "neg", 1: "pos"}
    assert config.problem_type == SINGLE
    assert json.loads((folder / "prediction.json").read_text())["overflow"] == "stride-mean"
    assert ClassificationPredictor.load(str(folder)).options["max_seq_length"] == results["tokens_at_once"]


def test_several_labels(run: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    """As lists, or in one text with something between them: the same."""
    generator = np.random.default_rng(0)
    rows = []
    for _ in range(160):
        chosen = [name for name in MARKS if generator.random() < 0.5]
        words = [*generator.choice(FILLER, 6), *(MARKS[name] for name in chosen)]
        rows.append({"text": " ".join(generator.permutation(words)), "label": chosen})
    listed = write_rows(tmp_path / "train.jsonl", rows)
    (tmp_path / "train.csv").write_text(
        "text,label\n" + "".join(f"{r['text']},{'; '.join(r['label'])}\n" for r in rows)
    )
    results = run(train_file=listed, num_train_epochs=5)
    assert results["problem_type"] == MULTI
    assert results["labels"] == ["neg", "pos"]
    assert results["scores"]["validation"]["f1_micro"] > 0.85
    lines = read_lines(tmp_path / "run" / "validation-predictions.jsonl")
    for line in lines:
        assert line["gold"] == rows[line["row"] - 1]["label"]
        assert line["labels"] == [name for name, score in line["scores"].items() if score > 0.5]
    assert any(len(line["gold"]) != 1 for line in lines)
    again = run("again", train_file=tmp_path / "train.csv", label_delimiter=";", num_train_epochs=5)
    assert again["scores"] == results["scores"]


def test_regression(run: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    """Of how many of its words are one word; the best model is the one with the lowest error."""
    generator = np.random.default_rng(0)
    shares = generator.integers(0, 9, 120)
    rows = [{"text": " ".join(["fox"] * n + ["lazy"] * (8 - n)), "score": n / 8 + 0.01} for n in shares]
    results = run(
        train_file=write_rows(tmp_path / "train.jsonl", rows),
        label_column="score",
        num_train_epochs=5,
        save_strategy="epoch",
    )
    assert results["problem_type"] == REGRESSION
    scores = results["scores"]["validation"]
    assert scores["pearson"] > 0.9
    lines = read_lines(tmp_path / "run" / "validation-predictions.jsonl")
    assert scores["mse"] == pytest.approx(np.mean([(line["value"] - line["gold"]) ** 2 for line in lines]))
    assert scores["mse"] == pytest.approx(
        min(entry["eval_mse"] for entry in log_of(tmp_path / "run") if "eval_mse" in entry)
    )
    assert HfLongformerConfig.from_pretrained(tmp_path / "run").num_labels == 1
    assert not (tmp_path / "run" / "validation-confusion.png").exists()


def test_pairs(run: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    """The second text decides, and one of them is missing."""
    rows = [{"text": "the documents", "other": row["text"], "label": row["label"]} for row in make_rows(120)]
    rows[3]["other"] = None
    file = write_rows(tmp_path / "train.jsonl", rows)
    results = run(train_file=file, text_pair_column="other", num_train_epochs=4)
    assert results["scores"]["validation"]["accuracy"] > 0.9
    assert results["leaks"] == {}
    assert json.loads((tmp_path / "run" / "prediction.json").read_text())["text_pair"] is True


@pytest.mark.parametrize("overflow", ["truncate", "stride-mean", "stride-max"])
def test_evidence_beyond_the_limit(overflow: str, run: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    """Is only found in windows."""
    rows = make_rows(80, before=26, times=8)
    test = write_rows(tmp_path / "test.jsonl", make_rows(31, seed=1, before=26, times=8))
    results = run(
        train_file=write_rows(tmp_path / "train.jsonl", rows),
        test_file=test,
        validation_share=0,
        overflow=overflow,
        stride=4,
        max_seq_length=32,
        num_train_epochs=4,
    )
    area = results["scores"]["test"]["roc_auc"]
    assert len(read_lines(tmp_path / "run" / "test-predictions.jsonl")) == 31
    if overflow == "truncate":
        assert results["windows"]["test"] == 31
        assert area < 0.75
    else:
        assert results["windows"]["test"] > 62
        assert area > 0.95


def test_best_model_is_kept_and_training_stops(run: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    """Of a validation set that says the opposite, so that the model becomes worse and worse."""
    options = {
        "train_file": write_rows(tmp_path / "train.jsonl", make_rows(80)),
        "validation_file": write_rows(tmp_path / "validation.jsonl", make_rows(40, seed=1, flip=True)),
        "save_strategy": "epoch",
        "save_total_limit": 20,
    }
    results = run(**options, num_train_epochs=4)
    measured = [entry["eval_f1_macro"] for entry in log_of(tmp_path / "run") if "eval_f1_macro" in entry]
    assert results["scores"]["validation"]["f1_macro"] == pytest.approx(max(measured))
    assert measured[-1] < max(measured) - 0.2
    stopped = run("stopped", **options, num_train_epochs=4, early_stopping_patience=2)
    assert stopped["training"]["steps"] == 30  # ten per epoch, the first one was the best
    assert stopped["scores"]["validation"]["f1_macro"] == pytest.approx(max(measured), abs=0.1)


def test_measured_the_same_in_batches_of_any_size(run: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    """Losses too, where the last batch is smaller than the others."""
    entries = []
    for size in (1, 3, 50):
        run(f"run{size}", per_device_eval_batch_size=size, validation_share=0.2, save_strategy="epoch")
        entries.append(next(entry for entry in log_of(tmp_path / f"run{size}") if "eval_loss" in entry))
    timed = ("eval_runtime", "eval_samples_per_second", "eval_steps_per_second", "eval_model_preparation_time")
    kept = [{name: value for name, value in entry.items() if name not in timed} for entry in entries]
    assert kept[1] == pytest.approx(kept[0], rel=1e-5)
    assert kept[2] == pytest.approx(kept[0], rel=1e-5)


# ---- data sets that name their labels ----


@pytest.mark.parametrize("several", [False, True])
def test_data_set_with_named_labels(several: bool, run: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    """In the order that it gives, with one that nobody has."""
    names = ["pos", "neg", "none"]
    kind = ClassLabel(names=names)
    features = Features({"text": Value("string"), "label": Sequence(kind) if several else kind})
    (tmp_path / "data").mkdir()
    for split in ("train", "test"):
        rows = [{**row, "label": names.index(row["label"])} for row in make_rows(40)]
        rows = [{**row, "label": [row["label"]]} for row in rows] if several else rows
        Dataset.from_list(rows, features=features).to_parquet(tmp_path / "data" / f"{split}.parquet")
    results = run(dataset_name=tmp_path / "data", max_steps=1)
    assert results["labels"] == names
    assert results["problem_type"] == (MULTI if several else SINGLE)
    assert results["leaks"]["test also in train"]["rows"] > 30
    first = read_lines(tmp_path / "run" / "test-predictions.jsonl")[0]
    assert first["gold"] == (["neg"] if several else "neg")


def test_unlabelled_row_of_a_data_set(run: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    kind = ClassLabel(names=["neg", "pos"])
    rows = Dataset.from_dict({"text": ["a", "b", "c"], "label": [0, 1, -1]}).cast_column("label", kind)
    rows.to_parquet(tmp_path / "train.parquet")
    with pytest.raises(InputError, match=r"row 3 of train.parquet must have a label .*\(neg, pos\), got none"):
        run(train_file=tmp_path / "train.parquet")


# ---- folds ----


def test_folds(run: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    """Every row is tested once; a run that was killed in the last fold does only that one again."""
    options = {"folds": 3, "train_file": write_rows(tmp_path / "train.jsonl", make_rows(32)), "validation_share": 0.2}
    results = run(**options)
    folder = tmp_path / "run"
    folds = [json.loads((folder / f"fold-{number}" / "results.json").read_text()) for number in (1, 2, 3)]
    lines = [read_lines(folder / f"fold-{number}" / "test-predictions.jsonl") for number in (1, 2, 3)]
    assert sorted(line["row"] for one in lines for line in one) == list(range(1, 33))
    assert [fold["rows"]["validation"] for fold in folds] == [4, 4, 4]
    for name in ("accuracy", "f1_macro", "roc_auc"):
        values = [fold["scores"]["test"][name] for fold in folds]
        assert results["scores"]["mean"][name] == pytest.approx(sum(values) / 3)
        assert results["scores"]["standard deviation"][name] == pytest.approx(np.std(values, ddof=1))
        assert [results["scores"][f"fold {number}"][name] for number in (1, 2, 3)] == values
    assert json.loads((folder / "results.json").read_text())["scores"] == results["scores"]
    before = {number: (folder / f"fold-{number}" / "results.json").stat().st_mtime_ns for number in (1, 2, 3)}
    (folder / "results.json").unlink()
    (folder / "fold-3" / "results.json").unlink()
    assert run(**options)["scores"] == results["scores"]
    after = {number: (folder / f"fold-{number}" / "results.json").stat().st_mtime_ns for number in (1, 2, 3)}
    assert [before[number] == after[number] for number in (1, 2, 3)] == [True, True, False]
    with pytest.raises(InputError, match=r"holds another run, with seed 0, not 1"):
        run(**options, seed=1)
    with pytest.raises(InputError, match="holds another run, with folds 3, not 2"):
        run(**{**options, "folds": 2})


def test_folds_where_a_score_is_missing_in_one(run: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    """A label that only one fold can test has no area under the curve in the others."""
    rows = make_rows(8)
    for index, row in enumerate(rows):
        row["label"] = "a rare one" if index == 0 else row["label"]
    files = {"train_file": write_rows(tmp_path / "train.jsonl", rows)}
    files["validation_file"] = write_rows(tmp_path / "validation.jsonl", make_rows(5, seed=1))
    results = run(**files, folds=2)
    fold = json.loads((tmp_path / "run" / "fold-2" / "results.json").read_text())
    assert fold["rows"] == {"train": 4, "validation": 5, "test": 4}
    assert ["roc_auc" in results["scores"][name] for name in ("fold 1", "fold 2", "mean")] == [True, False, False]
    assert "accuracy" in results["scores"]["mean"]


# ---- losses ----


KINDS = {
    SINGLE: lambda rows: rows,
    MULTI: lambda rows: [{**row, "label": [row["label"]] * (index % 3 > 0)} for index, row in enumerate(rows)],
    REGRESSION: lambda rows: [{**row, "label": 1.5 if row["label"] == "neg" else 3.0} for row in rows],
}


@pytest.mark.parametrize("kind", KINDS)
def test_accumulated_batches_give_the_losses_of_one(
    kind: str, run: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    """Also where the last step of an epoch has fewer texts."""
    options = {
        "train_file": write_rows(tmp_path / "train.jsonl", KINDS[kind](make_rows(19))),
        "validation_share": 0,
        "save_strategy": "epoch",
        "train_sampling_strategy": "sequential",
        "num_train_epochs": 2,
        **SGD,
        "learning_rate": 1e-3,
    }
    results = run("one", **options, per_device_train_batch_size=6)
    run("many", **options, per_device_train_batch_size=2, gradient_accumulation_steps=3)
    assert results["problem_type"] == kind
    assert len(losses(tmp_path / "one")) == 8
    assert losses(tmp_path / "many") == pytest.approx(losses(tmp_path / "one"), rel=1e-4)


def test_number_that_elsewhere_means_no_label(run: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    """-100 is a number like any other, in training and in evaluation."""
    rows = [{**row, "label": -100.0 if row["label"] == "neg" else -99.5} for row in make_rows(12)]
    file = write_rows(tmp_path / "train.jsonl", rows)
    run(train_file=file, validation_file=file, learning_rate=0, save_strategy="epoch", per_device_train_batch_size=12)
    lines = read_lines(tmp_path / "run" / "validation-predictions.jsonl")
    by_hand = np.mean([(line["value"] - line["gold"]) ** 2 for line in lines])
    assert losses(tmp_path / "run") == pytest.approx([by_hand], rel=1e-4)
    assert log_of(tmp_path / "run")[1]["eval_loss"] == pytest.approx(by_hand, rel=1e-4)


def test_loss_by_hand() -> None:
    logits = torch.tensor([[1.0, 2.0, 0.5], [0.3, -1.0, 2.0]])
    outputs = SequenceClassifierOutput(logits=logits)
    logs, labels = logits.log_softmax(dim=1), torch.tensor([0, 2])
    weights = torch.tensor([0.5, 1.0, 2.0])
    torch.testing.assert_close(Loss(SINGLE)(outputs, labels), -(logs[0, 0] + logs[1, 2]) / 2)
    torch.testing.assert_close(Loss(SINGLE)(outputs, labels, 10), -(logs[0, 0] + logs[1, 2]) / 10)
    # Each label weighs what it weighs whatever is beside it in the batch.
    torch.testing.assert_close(Loss(SINGLE, weights)(outputs, labels), -(0.5 * logs[0, 0] + 2 * logs[1, 2]) / 2)
    smooth = -(0.7 * (logs[0, 0] + logs[1, 2]) + 0.1 * logs.sum()) / 2
    torch.testing.assert_close(Loss(SINGLE, smoothing=0.3)(outputs, labels), smooth)
    several = torch.tensor([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
    chances = logits.sigmoid()
    by_hand = -(several * chances.log() + (1 - several) * (1 - chances).log()).sum()
    torch.testing.assert_close(Loss(MULTI)(outputs, several), by_hand / 6)
    numbers = SequenceClassifierOutput(logits=torch.tensor([[1.0], [3.0]]))
    torch.testing.assert_close(Loss(REGRESSION)(numbers, torch.tensor([2.0, 0.5])), torch.tensor((1 + 6.25) / 2))


def test_balanced_weights_by_hand(run: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    """Every label there is weighs the same in all, a text 1 on average; what a run makes of it, and of smoothing."""
    assert balanced_weights([0] * 6 + [1] * 3, 3).tolist() == pytest.approx([9 / 12, 9 / 6, 9.0 / 2])
    rows = [row for index, row in enumerate(make_rows(40)) if row["label"] == "neg" or index % 4 == 1]
    file = write_rows(tmp_path / "train.jsonl", rows)
    options = {"train_file": file, "validation_file": file, "learning_rate": 0, "save_strategy": "epoch"}
    asked = {"none": {}, "balanced": {"class_weights": "balanced"}, "smooth": {"label_smoothing_factor": 0.1}}
    for name, more in asked.items():
        run(name, **options, **more, per_device_train_batch_size=30)
    lines = read_lines(tmp_path / "none" / "validation-predictions.jsonl")  # nothing was learned: as in the first step
    weights = {"neg": 30 / (2 * 20), "pos": 30 / (2 * 10)}
    plain = np.asarray([-np.log(line["scores"][line["gold"]]) for line in lines])
    weighted = plain * [weights[line["gold"]] for line in lines]
    smooth = 0.9 * plain - 0.1 * np.log([list(line["scores"].values()) for line in lines]).mean(axis=1)
    for name, by_hand in (("none", plain), ("balanced", weighted), ("smooth", smooth)):
        assert losses(tmp_path / name) == pytest.approx([by_hand.mean()], rel=1e-4)
    assert len({round(one.mean(), 4) for one in (plain, weighted, smooth)}) == 3


# ---- what is refused, before anything is trained ----


def rows_with(labels: list[Any]) -> list[dict[str, Any]]:
    return [{"text": f"the fox {index}", "label": label} for index, label in enumerate(labels)]


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        (rows_with(["a", "b"] * 9), {"text_column": "words"}, "train.jsonl must have a column words, got text, label"),
        (rows_with(["a", "b"] * 9), {"label_column": "y"}, "train.jsonl must have a column y, got text, label"),
        (rows_with(["a", "a"]), {}, r"must hold different labels, got \['a'\]"),
        (rows_with([None, None]), {}, r"must hold different labels, got \[\]"),
        (
            rows_with([str(number) for number in range(30)]),
            {},
            "got 30 different ones in 30 rows: .*--problem_type regr",
        ),
        (rows_with(["a", "b", None]), {}, r"row 3 of train.jsonl must have a label .*\(a, b\), got none"),
        (rows_with(["a", "b", " "]), {}, "row 3 of train.jsonl must have a label .* got none"),
        (rows_with([["a"], ["b"]]), {"problem_type": SINGLE}, "must hold single labels .* got lists"),
        (rows_with([0.5, 1.5, None]), {}, "row 3 of train.jsonl must have a number to be predicted, got None"),
        (rows_with(["1", "x"]), {"problem_type": REGRESSION}, "row 2 of train.jsonl must have a number .* got 'x'"),
        (rows_with([0.5, 1.5]), {"class_weights": "balanced"}, "are for single labels, got regression"),
        (rows_with([["a"], ["b"]]), {"label_smoothing_factor": 0.1}, "for single labels, got multi_label"),
        ([{"text": " ", "label": "a"}, {"text": None, "label": "b"}], {}, "rows with something in text, got none"),
        (rows_with(["a", "b"] * 9), {"folds": 1}, "--folds must lie between 2 and the 18 rows, got 1"),
        (rows_with(["a", "b"] * 9), {"folds": 19}, "--folds must lie between 2 and the 18 rows, got 19"),
        (rows_with(["a", "b"] * 9), {"folds": 2, "test_share": 0.1}, "on nothing else, got --test_share 0.1"),
        (rows_with(["a", "b"] * 9), {"max_seq_length": 261}, "between 3 and the model's 260 tokens, got 261"),
        (
            rows_with(["a", "b"] * 9),
            {"overflow": "stride-max", "stride": 62},
            "window of 64 tokens, got 62",
        ),
        (
            [{"text": "the fox " * 60, "other": "a dog", "label": label} for label in "ab" * 9],
            {"text_pair_column": "other"},
            "room for windows of the second within 64 tokens, got one of .*--overflow truncate",
        ),
        (rows_with(["a", "b"] * 2), {}, "--validation_share 0.1 of 4 rows"),
        (rows_with(["a", "b"] * 9), {"model_name_or_path": "nowhere"}, "the checkpoint nowhere cannot be loaded"),
    ],
)
def test_refuses(
    rows: list[dict[str, Any]], options: dict[str, Any], message: str, run: Callable[..., Any], tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        run(train_file=write_rows(tmp_path / "train.jsonl", rows), local_files_only=True, **options)
    assert not (tmp_path / "run").exists()


def test_refuses_labels_that_training_does_not_know(run: Callable[..., Any], tmp_path: Path) -> None:
    test = write_rows(tmp_path / "test.jsonl", [*make_rows(3), {"text": "fox", "label": "neutral"}])
    with pytest.raises(InputError, match=r"row 4 of test.jsonl must have a label .*\(neg, pos\), got neutral"):
        run(test_file=test)
    with pytest.raises(InputError, match=r"on nothing else, got rows of test.jsonl"):
        run(test_file=write_rows(test, make_rows(3)), folds=2)
    assert not (tmp_path / "run").exists()


def test_checkpoint_for_other_labels_gets_a_new_head(run: Callable[..., Any], tmp_path: Path) -> None:
    run(max_steps=1)
    rows = [{**row, "label": f"{row['label']} {index % 4}"} for index, row in enumerate(make_rows(40))]
    options = {"train_file": write_rows(tmp_path / "other.jsonl", rows), "model_name_or_path": tmp_path / "run"}
    assert run("other", **options, max_steps=1)["labels"] == ["neg 0", "neg 2", "pos 1", "pos 3"]
    assert HfLongformerConfig.from_pretrained(tmp_path / "other").num_labels == 4


# ---- labels and windows as one ----


def test_several_labels_and_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Rows without a list of labels are counted; what separates labels is not given in vain."""
    model, labels = make_model(tmp_path), [["a"], None, [], ["a", "b"]]
    rows = [{**row, "label": labels[index % 4]} for index, row in enumerate(make_rows(12))]
    options = {"train_file": write_rows(tmp_path / "train.jsonl", rows), "validation_share": 0, "max_steps": 1}
    results = run_classification.main(arguments(model, tmp_path, **options))
    assert results["unlabelled"] == {"train": 3}
    assert "no label applies to 3 rows where none is given: rows 2, 6, 10 of train.jsonl" in caplog.text
    single = {"problem_type": "single_label_classification", "label_delimiter": "|"}
    with pytest.raises(InputError, match=r"--label_delimiter is for several labels of one text, got '\|' for single"):
        run_classification.main(arguments(model, tmp_path, "single", **single))


@pytest.mark.parametrize(
    ("values", "delimiter", "kind", "names"),
    [
        (["b", "a", "b"], None, SINGLE, ["a", "b"]),
        ([10, 9, -1], None, SINGLE, ["-1", "9", "10"]),
        (["10", "9", "x"], None, SINGLE, ["9", "10", "x"]),
        ([1.0, 2.0, None], None, SINGLE, ["1", "2"]),
        ([True, False], None, SINGLE, ["False", "True"]),
        (["01", "1"], None, SINGLE, ["01", "1"]),
        ([" a ", "a", "b"], None, SINGLE, ["a", "b"]),
        ([0.5, 1.0], None, REGRESSION, []),
        (["0.5", "1"], None, REGRESSION, []),
        (["0.5", "high"], None, SINGLE, ["0.5", "high"]),
        ([["b", "a"], [], None], None, MULTI, ["a", "b"]),
        (["b| a", "", "a"], "|", MULTI, ["a", "b"]),
        (["a", "b"], ",", MULTI, ["a", "b"]),
    ],
)
def test_labels_of(values: list[Any], delimiter: str | None, kind: str, names: list[str]) -> None:
    assert Labels.of(table(values), "label", None, delimiter) == Labels(kind, names)


def test_labels_of_many_rows() -> None:
    """Up to a thousand labels, if there are two rows of each."""
    assert len(Labels.of(table([str(n) for n in range(1000)] * 2), "label", None, None).names) == 1000
    with pytest.raises(InputError, match="got 1001 different ones in 3003 rows"):
        Labels.of(table([str(n) for n in range(1001)] * 3), "label", None, None)


def test_labels_there_and_back() -> None:
    single, several = Labels(SINGLE, ["a", "b"]), Labels(MULTI, ["a", "b", "c"])
    assert single.encode(table(["b", "a"]), "label", None) == [1, 0]
    assert [single.decode(one) for one in (1, 0)] == ["b", "a"]
    encoded = several.encode(table([["c", "a"], [], None]), "label", None)
    assert encoded == [[1.0, 0.0, 1.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    assert [several.decode(one) for one in encoded] == [["a", "c"], [], []]
    assert Labels(REGRESSION).encode(table(["1.5", "-100"]), "label", None) == [1.5, -100.0]
    with pytest.raises(InputError, match=r"row 2 .* got d"):
        several.encode(table(["a|b", "c|d"]), "label", "|")


def test_pool_by_hand() -> None:
    """Windows of two texts in any order."""
    logits = np.asarray([[1.0, 0.0], [5.0, 5.0], [3.0, -2.0]])
    rows, together = pool(logits, [9, 4, 9], "stride-mean")
    assert rows == [4, 9]
    assert together.tolist() == [[5.0, 5.0], [2.0, -1.0]]
    assert pool(logits, [9, 4, 9], "stride-max")[1].tolist() == [[5.0, 5.0], [3.0, 0.0]]
    assert pool(logits, [3, 1, 2], "truncate")[1].tolist() == [[5.0, 5.0], [3.0, -2.0], [1.0, 0.0]]


def test_predictions_by_hand() -> None:
    zero = np.zeros((1, 2))
    assert probabilities(zero, SINGLE).tolist() == probabilities(zero, MULTI).tolist() == [[0.5, 0.5]]
    assert predictions([7], np.asarray([[0.0, np.log(3)]]), [0], Labels(SINGLE, ["a", "b"])) == [
        {"row": 7, "label": "b", "scores": pytest.approx({"a": 0.25, "b": 0.75}), "gold": "a"}
    ]
    assert predictions([7], np.asarray([[-9.0, 9.0]]), [[1.0, 1.0]], Labels(MULTI, ["a", "b"]))[0]["labels"] == ["b"]
    assert predictions([7], np.asarray([[-3.5]]), [1.0], Labels(REGRESSION)) == [{"row": 7, "value": -3.5, "gold": 1.0}]


@pytest.mark.parametrize("names", [["a$b", "$x_$", "日本", "long " * 20], [str(number) for number in range(1000)]])
def test_draw_confusion(names: list[str], tmp_path: Path) -> None:
    """Whatever the labels are called, and however many they are."""
    draw_confusion(np.eye(len(names), dtype=int).tolist(), names, tmp_path / "confusion.png")
    assert (tmp_path / "confusion.png").read_bytes()[:4] == b"\x89PNG"
