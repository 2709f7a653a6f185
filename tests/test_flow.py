# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`finetune/flow.py`: what all training scripts promise, whatever their task."""

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from classification_runs import arguments, make_model, make_rows, write_rows
from hypothesis import HealthCheck, given, settings, strategies
from sources import make_source
from training_runs import Kill

import hf_longformer_cli as cli
from hf_longformer.conversion import InputError, push as push_module
from hf_longformer.finetune import run_classification
from hf_longformer.finetune.classification.task import Classification
from hf_longformer.finetune.identity import RUN, Run, identity
from hf_longformer.finetune.results import scalars
from hf_longformer.finetune.tasks import TASKS, module_of


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A converted language model."""
    return make_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    """The command line: exit code and what stands on standard error."""

    def run(*words: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["hf-longformer", *map(str, words)])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        return int(stopped.value.code or 0), capsys.readouterr().err

    return run


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


# ---- checkpoints ----

FILES = {
    "classification": "--train_file",
    "qa": "--train_file",
    "hotpotqa": "--train_file",
    "token-classification": "--train_file",
    "multiple-choice": "--train_file",
    "coref": "--train_file",
    "summarization": "--train_file",
    "mlm": "--train_files",
    "clm": "--train_files",
}
ROWS = {
    "classification": {"text": "the fox", "label": "a"},
    "qa": {"id": "1", "question": "who", "context": "the fox", "answers": ["fox"]},
    "hotpotqa": {
        "_id": "1",
        "question": "who",
        "answer": "fox",
        "context": [["a", ["the fox"]]],
        "supporting_facts": [["a", 0]],
    },
    "token-classification": {"tokens": ["the", "fox"], "tags": ["O", "B-X"]},
    "coref": {"tokens": ["the", "fox"], "clusters": [[[0, 1]]]},
    "summarization": {"text": "the fox", "summary": "fox"},
    "multiple-choice": {"question": "who", "candidates": ["fox", "dog"], "supports": ["the fox"], "answer": "fox"},
}


@pytest.mark.parametrize("task", FILES)
def test_checkpoint_that_was_not_converted_is_refused(task: str, call, tmp_path: Path) -> None:
    """With exit code 2 and what to do; nothing is written."""
    make_source(tmp_path / "roberta")
    file = tmp_path / ("train.jsonl" if task in ROWS else "train.txt")
    rows = [ROWS[task], {**ROWS[task], "label": "b"}] * 4 if task in ROWS else []
    file.write_text("".join(json.dumps(row) + "\n" for row in rows) or "the quick brown fox " * 2000)
    given = ("--model_name_or_path", tmp_path / "roberta", "--output_dir", tmp_path / "run")
    code, said = call("finetune", task, *given, FILES[task], file, "--report_to", "none")
    assert code == 2, said
    assert "got one of roberta that was not converted: run `hf-longformer convert" in said
    assert not (tmp_path / "run").exists()


def test_parts_that_begin_at_random_are_said(model: Path, tmp_path: Path) -> None:
    results = run_classification.main(arguments(model, tmp_path, max_steps=1))
    assert [line.rsplit(": ")[-1] for line in results["checkpoint"]] == ["classifier", "lm_head"]
    assert "begins at random" in (tmp_path / "run" / "README.md").read_text()


# ---- one folder, one run ----


def test_finished_run_is_left_as_it_is(model: Path, tmp_path: Path) -> None:
    given = arguments(model, tmp_path, max_steps=1)
    results = run_classification.main(given)
    before = contents(tmp_path / "run")
    assert run_classification.main(given) == json.loads(json.dumps(results))
    assert contents(tmp_path / "run") == before


CHANGES: dict[str, Any] = {
    "learning_rate": 0.001,
    "seed": 1,
    "max_steps": 4,
    "max_seq_length": 32,
    "weight_decay": 0.3,
    "overflow": "truncate",
    "validation_share": 0.3,
    "attention_window": 8,
    "class_weights": "balanced",
}


def test_another_run_in_the_same_folder_is_refused(model: Path, tmp_path: Path) -> None:
    """Before anything is touched, with what differs; or the old one is removed."""
    given = arguments(model, tmp_path, max_steps=1)
    run_classification.main(given)
    before = contents(tmp_path / "run")
    for name, value in CHANGES.items():
        changed = arguments(model, tmp_path, **{"max_steps": 1, name: value})
        with pytest.raises(InputError, match=rf"run holds another run, with .*{name} .*, not {value}: give another"):
            run_classification.main(changed)
    write_rows(tmp_path / "train.jsonl", make_rows(40, seed=1))
    with pytest.raises(InputError, match=r"the file .*train\.jsonl changed"):
        run_classification.main(given)
    assert contents(tmp_path / "run") == before
    results = run_classification.main([*given, "--overwrite_output_dir", "True"])
    assert results["training"]["resumed_from"] is None


def test_other_weights_and_versions_are_another_run(model: Path, tmp_path: Path) -> None:
    training = SimpleNamespace(overwrite_output_dir=False, process_index=0)
    facts = identity((), str(model))
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / RUN).write_text(json.dumps(facts))
    assert not Run(tmp_path / "run", facts, training).is_finished
    for changed, message in (
        ({**facts, "base": "0" * 64}, "other weights to begin with"),
        ({**facts, "versions": {**facts["versions"], "hf-longformer": "9"}}, "hf-longformer .*, not 9"),
    ):
        with pytest.raises(InputError, match=message):
            Run(tmp_path / "run", changed, training)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    before=strategies.dictionaries(strategies.sampled_from("abc"), strategies.integers(0, 1)),
    after=strategies.dictionaries(strategies.sampled_from("abc"), strategies.integers(0, 1)),
)
def test_a_run_goes_on_if_and_only_if_it_is_the_same(before: dict, after: dict, tmp_path_factory: Any) -> None:
    folder = tmp_path_factory.mktemp("runs")
    (folder / RUN).write_text(json.dumps({"arguments": before}))
    training = SimpleNamespace(overwrite_output_dir=False, process_index=0)
    if before == after:
        assert not Run(folder, {"arguments": after}, training).is_finished
    else:
        with pytest.raises(InputError, match="holds another run"):
            Run(folder, {"arguments": after}, training)


def test_folder_of_something_else_is_never_taken_or_removed(model: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("ten years")
    given = arguments(model, tmp_path, max_steps=1)
    for words, message in (
        (given, "holds something else"),
        ([*given, "--overwrite_output_dir", "True"], "which is none"),
    ):
        with pytest.raises(InputError, match=message):
            run_classification.main(words)
    assert contents(tmp_path / "run").keys() == {str(tmp_path / "run" / "thesis.txt")}


@pytest.mark.parametrize("read", ["train_file", "validation_file", "test_file", "link", "model", "parent", "recipe"])
def test_what_is_read_is_never_removed(read: str, model: Path, call, tmp_path: Path) -> None:
    """Neither data nor recipe nor model in the folder that is to be overwritten, by whatever way they are named."""
    run_classification.main(arguments(model, tmp_path, max_steps=1))
    run = tmp_path / "run"
    inside = write_rows(run / "inside.jsonl", make_rows(40, seed=1))
    options: dict[str, Any] = {"overwrite_output_dir": True, "max_steps": 1, "seed": 3}
    recipe: list[Path] = []
    if read.endswith("_file"):
        options[read] = inside
    elif read == "link":  # leads into the folder
        (tmp_path / "link.jsonl").symlink_to(inside)
        options["train_file"] = tmp_path / "link.jsonl"
    elif read == "model":
        options["model_name_or_path"] = run
    elif read == "parent":
        (run / "models").mkdir()
        shutil.copytree(model, run / "models" / "one")
        options["model_name_or_path"] = tmp_path / "run" / ".." / "run" / "models" / "one"
    else:
        (run / "recipe.yaml").write_text("weight_decay: 0.1\n")
        recipe = [run / "recipe.yaml"]
    before = contents(run)
    code, said = call("finetune", "classification", *recipe, *arguments(model, tmp_path, **options))
    assert code == 2, said
    assert "--overwrite_output_dir must not remove what is read, got" in said
    assert contents(run) == before


def test_folder_behind_a_link_is_overwritten(model: Path, tmp_path: Path) -> None:
    run_classification.main(arguments(model, tmp_path, max_steps=1))
    (tmp_path / "link").symlink_to(tmp_path / "run")
    options = {"max_steps": 1, "seed": 3, "overwrite_output_dir": True}
    run_classification.main(arguments(model, tmp_path, "link", **options))
    assert json.loads((tmp_path / "run" / "results.json").read_text())["seed"] == 3
    with pytest.raises(InputError, match="--resume_from_checkpoint would go on from: leave one of them out"):
        run_classification.main(arguments(model, tmp_path, "link", **options, resume_from_checkpoint=True))


def test_input_that_cannot_be_used_claims_no_folder(model: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must have a column"):
        run_classification.main(arguments(model, tmp_path, text_column="nothing"))
    assert not (tmp_path / "run").exists()
    run_classification.main(arguments(model, tmp_path, max_steps=1))


def test_checkpoint_of_another_run_is_not_gone_on_with(model: Path, tmp_path: Path) -> None:
    steps = {"save_strategy": "steps", "save_steps": 1, "max_steps": 2, "eval_strategy": "no"}
    run_classification.main(arguments(model, tmp_path, "one", **steps))
    given = arguments(model, tmp_path, "two", resume_from_checkpoint=tmp_path / "one" / "checkpoint-1", **steps)
    with pytest.raises(InputError, match=r"must be a checkpoint in .*two, of the same run"):
        run_classification.main(given)


# ---- parts of it ----


def test_measuring_without_training(model: Path, call, tmp_path: Path) -> None:
    """A trained checkpoint gives the scores that its training gave; no model and no card are written."""
    test_file = write_rows(tmp_path / "test.jsonl", make_rows(21, seed=3))
    trained = run_classification.main(arguments(model, tmp_path, max_steps=3, test_file=test_file))
    words = ["--model_name_or_path", tmp_path / "run", "--test_file", test_file, "--output_dir", tmp_path / "measured"]
    same = ("--max_seq_length", 64, "--report_to", "none", "--bf16", "False")
    code, said = call("evaluate", "classification", *words, *same)
    assert code == 0, said
    measured = json.loads((tmp_path / "measured" / "results.json").read_text())
    of_training = trained["scores"]["test"]
    assert scalars(measured["scores"]["test"]) == pytest.approx(scalars(of_training), rel=1e-6)
    assert measured["scores"]["test"]["confusion"] == of_training["confusion"]
    assert "training" not in measured
    files = {file.name for file in (tmp_path / "measured").iterdir()}
    assert files == {"results.json", "run.json", "test-predictions.jsonl", "test-confusion.png"}
    code, said = call("evaluate", "classification", *words[:1], model, *words[2:5], tmp_path / "other")
    assert code == 2
    assert "must have all weights of HfLongformerForSequenceClassification" in said
    code, said = call("evaluate", "classification", *words[:2], "--output_dir", tmp_path / "other")
    assert (code, "something to measure on is needed" in said) == (2, True)


def test_measurements_that_are_not_wanted_are_not_made(model: Path, tmp_path: Path) -> None:
    files = {"test_file": write_rows(tmp_path / "test.jsonl", make_rows(8, seed=3)), "max_steps": 1}
    for output, options, splits in (
        ("both", {}, {"validation", "test"}),
        ("no-eval", {"do_eval": False}, {"test"}),
        ("no-predict", {"do_predict": False}, {"validation"}),
    ):
        results = run_classification.main(arguments(model, tmp_path, output, **files, **options))
        assert set(results["scores"]) == splits
        assert len(list((tmp_path / output).glob("*-predictions.jsonl"))) == len(splits)


def test_what_was_cut_has_static_count(model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = make_rows(12)
    rows[3]["text"] += " the" * 100
    rows[5]["text"] += " the" * 50
    train = write_rows(tmp_path / "train.jsonl", rows)
    options = {"train_file": train, "validation_share": 0, "max_steps": 1}
    results = run_classification.main(arguments(model, tmp_path, overflow="truncate", **options))
    cut = results["cut"]["train"]
    assert cut["documents"] == 2
    assert 150 - 2 * 64 < cut["tokens"] < 150
    sentence = f"not read, since beyond the limit, in train: 2 documents and {cut['tokens']} tokens"
    assert sentence in caplog.text
    assert f"documents 2, tokens {cut['tokens']}" in (tmp_path / "run" / "README.md").read_text()
    results = run_classification.main(arguments(model, tmp_path, "strides", **options))
    assert results["cut"] == {}
    assert results["windows"]["train"] > 12


def test_data_that_is_measured_and_trained_on_is_said(
    model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """By what it holds, whatever it is called."""
    rows = make_rows(12)
    files = {f"{split}_file": write_rows(tmp_path / f"{split}.jsonl", rows) for split in ("train", "test")}
    files["validation_file"] = write_rows(tmp_path / "validation.jsonl", make_rows(12, seed=3))
    run_classification.main(arguments(model, tmp_path, max_steps=1, **files))
    said = "test.jsonl is measured on and trained on, as "
    assert said in caplog.text
    assert "validation.jsonl is measured on" not in caplog.text


def test_recipe_that_says_something_twice_is_refused(call, tmp_path: Path) -> None:
    for name, text in (
        ("a.yaml", "seed: 1\nmax_steps: 3\nseed: 2\n"),
        ("a.json", '{"seed": 1, "seed": 2}'),
        ("phases.yaml", "phases:\n  - max_seq_length: 8\n    max_seq_length: 9\n"),
    ):
        (tmp_path / name).write_text(text)
        code, said = call("finetune", "clm", tmp_path / name, "--output_dir", tmp_path / "run")
        assert (code, f"{name} cannot be read" in said, "twice" in said) == (2, True, True), said


# ---- arguments of Trainer ----

WRONG: dict[str, list[Any]] = {
    "metric_for_best_model": ["f1_makro"],
    "per_device_train_batch_size": [0],
    "per_device_eval_batch_size": [0],
    "gradient_accumulation_steps": [0],
    "eval_accumulation_steps": [0],
    "learning_rate": ["nan", "inf", -1],
    "weight_decay": ["nan"],
    "max_grad_norm": ["nan"],
    "num_train_epochs": ["inf", -1],
    "seed": [-1, 2**32],
    "split_seed": [-1],
    "preprocessing_num_workers": [0],
    "lr_scheduler_kwargs": ['{"bad": 1}'],
    "label_smoothing_factor": [1.5, -1],
    "eval_do_concat_batches": [False],
    "prediction_loss_only": [True],
    "batch_eval_metrics": [True],
    "label_names": ["foo"],
    "include_for_metrics": ["inputs"],
    "length_column_name": ["row"],
    "bf16_full_eval": [True],
    "fp16_full_eval": [True],
}


def test_arguments_that_cannot_be_served_are_refused(model: Path, call, tmp_path: Path) -> None:
    """With exit code 2 and their name, before a folder is made."""
    for name, values in WRONG.items():
        for value in values:
            code, said = call("finetune", "classification", *arguments(model, tmp_path, **{name: value}))
            assert (code, f"--{name}" in said) == (2, True), (name, value, said)
            assert not (tmp_path / "run").exists(), (name, value)


def test_metric_that_the_data_do_not_have(model: Path, call, tmp_path: Path) -> None:
    rows = [row for row in make_rows(20, seed=3) if row["label"] == "pos"]
    options = {"validation_file": write_rows(tmp_path / "pos.jsonl", rows), "metric_for_best_model": "roc_auc"}
    code, said = call("finetune", "classification", *arguments(model, tmp_path, save_strategy="epoch", **options))
    assert (code, "roc_auc cannot be measured on this data" in said) == (1, True), said


def test_every_row_is_measured_whatever_is_dropped_in_training(model: Path, tmp_path: Path) -> None:
    files = {"test_file": write_rows(tmp_path / "test.jsonl", make_rows(9, seed=3)), "max_steps": 1}
    files |= {"per_device_eval_batch_size": 4, "dataloader_drop_last": True}
    results = run_classification.main(arguments(model, tmp_path, **files))
    lines = (tmp_path / "run" / "test-predictions.jsonl").read_text().splitlines()
    assert [json.loads(line)["row"] for line in lines] == list(range(1, 10))
    assert sum(map(sum, results["scores"]["test"]["confusion"])) == 9
    assert sum(map(sum, results["scores"]["validation"]["confusion"])) == 4


# ---- the Hub ----


def test_upload_that_cannot_be_is_said(model: Path, call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before training if there is no network, with exit code 2; afterwards with 1, and the name of the repository."""
    given = arguments(model, tmp_path, push_to_hub=True, hub_model_id="me/labels", max_steps=1)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    code, said = call("finetune", "classification", *given)
    assert (code, "--push_to_hub needs the network, got HF_HUB_OFFLINE" in said) == (2, True)
    assert not (tmp_path / "run").exists()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)

    class Api:
        def __init__(self, token: str | None = None) -> None:
            pass

        def create_repo(self, *_: Any, **__: Any) -> None:
            raise OSError("no such host")

    monkeypatch.setattr(sys.modules[push_module.__module__], "HfApi", Api)
    code, said = call("finetune", "classification", *given)
    assert code == 1
    assert "run, but the repository me/labels could not be written: no such host" in said
    assert (tmp_path / "run" / "results.json").exists()


def test_one_upload_at_the_end_holds_everything(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Our card and not Trainer's, with what its base says, results, pictures and defaults; no checkpoint."""
    uploads = []

    class Api:
        def __init__(self, token: str | None = None) -> None:
            assert token is None

        def create_repo(self, repository: str, private: bool | None, exist_ok: bool) -> SimpleNamespace:
            return SimpleNamespace(repo_id=repository)

        def upload_folder(self, folder_path: str, repo_id: str, ignore_patterns: list[str], **options: Any) -> str:
            from huggingface_hub.utils import filter_repo_objects

            files = [str(file.relative_to(folder_path)) for file in Path(folder_path).rglob("*") if file.is_file()]
            uploads.append((repo_id, set(filter_repo_objects(files, ignore_patterns=ignore_patterns))))
            return "https://hub/commit"

    monkeypatch.setattr(sys.modules[push_module.__module__], "HfApi", Api)
    (model / "README.md").write_text("---\nlicense: cc-by-4.0\nlanguage: en\nbase_model: me/roberta\n---\n# A base\n")
    steps = {"save_strategy": "steps", "save_steps": 1, "eval_strategy": "steps", "eval_steps": 1, "max_steps": 2}
    options = {"push_to_hub": True, "hub_model_id": "me/labels", **steps}
    run_classification.main(arguments(model, tmp_path, **options))
    ((repository, files),) = uploads
    assert repository == "me/labels"
    expected = {"README.md", "config.json", "model.safetensors", "tokenizer.json", "results.json", "curves.png"}
    assert expected | {"prediction.json", "validation-predictions.jsonl", "validation-confusion.png"} <= files
    assert not [file for file in files if "checkpoint-" in file or file in ("run.json", "seconds.json")]
    card = (tmp_path / "run" / "README.md").read_text()
    for line in ("license: cc-by-4.0", "language: en", "base_model: me/roberta", "model-index:", "- f1_macro"):
        assert line in card, line
    assert "hf-longformer predict classification me/labels documents.jsonl" in card
    assert "PATH" not in card
    run_classification.main(arguments(model, tmp_path, **options))  # uploads again what is finished
    assert len(uploads) == 2
    with pytest.raises(InputError, match="uploaded once, whole, at its end"):
        run_classification.main(arguments(model, tmp_path, hub_strategy="checkpoint", **options))


def test_every_task_goes_the_same_way() -> None:
    """No script trains, saves or loads by itself."""
    for name in TASKS:
        file = Path(module_of(name).__file__).with_name("task.py")
        text = file.read_text(encoding="utf-8")
        assert "flow" in text, file
        assert "from_pretrained(" not in text.replace("AutoTokenizer.from_pretrained(", "").replace(
            "HfLongformerForCausalLM.from_pretrained(place)", ""
        ), file


def test_main_returns_results_of_a_task(tmp_path: Path) -> None:
    """The table of arguments is the task's: a wrong one is refused in a sentence."""
    with pytest.raises(InputError, match="there is no argument --text_colum: did you mean --text_column"):
        Classification.main(["--text_colum", "a", "--output_dir", str(tmp_path)])


def test_killed_run_is_gone_on_with(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = {"save_strategy": "steps", "save_steps": 4, "max_steps": 8, "eval_strategy": "no"}
    with monkeypatch.context() as patch:
        patch.setattr("hf_longformer.finetune.training.StopOnBadLoss", Kill)
        with pytest.raises(KeyboardInterrupt):
            run_classification.main(arguments(model, tmp_path, **steps))
    with pytest.raises(InputError, match=r"learning_rate 0\.003, not 0\.001"):
        run_classification.main(arguments(model, tmp_path, **{**steps, "learning_rate": 0.001}))
    results = run_classification.main(arguments(model, tmp_path, **steps))
    assert results["training"]["resumed_from"] == "checkpoint-4"
    assert results["hyperparameters"]["learning_rate"] == 0.003


@pytest.mark.parametrize("best", [True, False])
def test_run_killed_behind_its_last_step_takes_no_further_one(model: Path, tmp_path: Path, best: bool) -> None:
    """`Trainer` itself takes one more step before it looks how many there were."""
    steps = {"save_strategy": "steps", "save_steps": 2, "max_steps": 4, "eval_strategy": "steps", "eval_steps": 2}
    given = arguments(model, tmp_path, load_best_model_at_end=best, **steps)
    results = run_classification.main(given)
    weights = (tmp_path / "run" / "model.safetensors").read_bytes()
    for name in ("results.json", "model.safetensors"):
        (tmp_path / "run" / name).unlink()
    again = run_classification.main(given)
    assert again["training"]["steps"] == results["training"]["steps"] == 4
    assert again["scores"] == json.loads(json.dumps(results["scores"]))
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == weights
