# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`finetune/run_mlm.py`: pieces, masks, losses on masked tokens only, recipes, resuming, and what is written."""

import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from helpers import random_ids, tiny_config, tiny_tokenizer
from safetensors.torch import load_file
from sources import CORPUS, make_source
from torch.optim.optimizer import register_optimizer_step_post_hook
from training_runs import Kill, losses
from warm import run_two

import hf_longformer_cli as cli
from hf_longformer import HfLongformerConfig, HfLongformerForMaskedLM
from hf_longformer.conversion import InputError, convert
from hf_longformer.finetune import TrainingError, run_mlm
from hf_longformer.finetune.mlm.documents import Masker, PieceCollator, cut, load_documents
from hf_longformer.finetune.training import newest_checkpoint

RECIPES = Path(run_mlm.__file__).parent / "recipes"
TEXT = "\n\n".join(f"{CORPUS[0]}. {CORPUS[1]}. paragraph number {number}" for number in range(60))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A converted language model, and a text to train on and another to measure on."""
    make_source(tmp_path / "source", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    convert(tmp_path / "source", tmp_path / "model", max_length=260, attention_window=16, check=False)
    (tmp_path / "train.txt").write_text(TEXT)
    (tmp_path / "valid.txt").write_text(TEXT[:2000])
    return tmp_path


def arguments(folder: Path, output: str = "run", **options: Any) -> list[str]:
    given = {
        "model_name_or_path": folder / "model",
        "train_files": folder / "train.txt",
        "validation_files": folder / "valid.txt",
        "output_dir": folder / output,
        "max_seq_length": 64,
        "max_steps": 12,
        "learning_rate": 0.01,
        "logging_steps": 1,
        "save_strategy": "steps",
        "save_steps": 4,
        "eval_strategy": "no",
        "report_to": "none",
        "bf16": False,
        "disable_tqdm": True,
        **options,
    }
    return [word for name, value in given.items() for word in (f"--{name}", str(value))]


def test_training_lowers_the_bits(folder: Path) -> None:
    results = run_mlm.main(arguments(folder))
    assert results["after"]["bits_per_character"] < results["before"]["bits_per_character"] - 0.3
    assert results["before"]["masked_tokens"] == results["after"]["masked_tokens"]
    written = json.loads((folder / "run" / "results.json").read_text())
    assert written["after"] == results["after"]
    assert {"command", "seed", "versions", "processor", "date"} <= written.keys()
    assert (folder / "run" / "curves.png").read_bytes()[:4] == b"\x89PNG"
    weights = load_file(folder / "run" / "model.safetensors")
    for name in [name for name in weights if "_global." in name]:
        assert torch.equal(weights[name], weights[name.replace("_global.", ".")])
    assert HfLongformerConfig.from_pretrained(folder / "run").global_projections == "synced"


def test_shared_projections_have_nothing_to_sync(folder: Path) -> None:
    run_mlm.main(arguments(folder, max_steps=1, global_projections="shared", global_attention="none"))
    config = HfLongformerConfig.from_pretrained(folder / "run")
    assert (config.global_projections, config.global_attention) == ("shared", "none")
    assert not [name for name in load_file(folder / "run" / "model.safetensors") if "_global." in name]


def test_training_positions_changes_nothing_else(folder: Path) -> None:
    run_mlm.main(arguments(folder, train="positions", max_steps=3))
    before, after = (load_file(folder / name / "model.safetensors") for name in ("model", "run"))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"longformer.embeddings.position_embeddings.weight"}


def test_killed_run_goes_on_with_the_same_losses(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From step 4, the newest checkpoint that is whole; step 5 is half written."""
    run_mlm.main(arguments(folder, "whole"))
    with monkeypatch.context() as patch:
        patch.setattr("hf_longformer.finetune.training.StopOnBadLoss", Kill)
        with pytest.raises(KeyboardInterrupt):
            run_mlm.main(arguments(folder))
    (folder / "run" / "checkpoint-5").mkdir()
    (folder / "run" / "checkpoint-5" / "trainer_state.json").write_text('{"global_st')
    results = run_mlm.main(arguments(folder))
    assert results["training"]["resumed_from"] == "checkpoint-4"
    assert losses(folder / "run") == pytest.approx(losses(folder / "whole"), rel=1e-6)
    one, other = (load_file(folder / name / "model.safetensors") for name in ("whole", "run"))
    assert all(torch.allclose(one[name], other[name], atol=1e-6) for name in one)


@pytest.mark.timeout(300)
@pytest.mark.slow
def test_two_processes_train_as_one_with_twice_the_batch(folder: Path) -> None:
    """Losses and measurements to rounding, with as many masked tokens in either half or not."""
    common = {"train_sampling_strategy": "sequential", "max_steps": 4, "save_steps": 4}
    common |= {"optim": "sgd", "learning_rate": 0.3}  # AdamW makes large steps of the rounding errors of gradients
    run_mlm.main(arguments(folder, "one", per_device_train_batch_size=6, **common))
    script = Path(run_mlm.__file__)
    command = ["python", script]
    command += arguments(folder, "two", per_device_train_batch_size=3, ddp_backend="gloo", **common)
    done = run_two(command)
    assert done.returncode == 0, done.stderr[-3000:]
    one, two = (json.loads((folder / name / "results.json").read_text()) for name in ("one", "two"))
    assert two["processes"] == 2
    assert two["before"] == pytest.approx(one["before"], rel=1e-5)
    assert losses(folder / "two") == pytest.approx(losses(folder / "one"), rel=1e-4)
    assert two["after"] == pytest.approx(one["after"], rel=1e-3)


def test_evaluation_does_not_depend_on_the_batch(folder: Path) -> None:
    """Also where the last batch is smaller than the others."""
    measured = [
        run_mlm.main(arguments(folder, f"run{size}", max_steps=1, per_device_eval_batch_size=size))["before"]
        for size in (1, 3, 50)
    ]
    for other in measured[1:]:
        assert other == pytest.approx(measured[0], rel=1e-5)


def test_evaluation_drops_no_piece(folder: Path) -> None:
    options = {"max_steps": 1, "learning_rate": 0, "per_device_eval_batch_size": 7}
    whole = run_mlm.main(arguments(folder, "whole", **options))["after"]
    assert run_mlm.main(arguments(folder, "dropped", dataloader_drop_last=True, **options))["after"] == whole


def test_fewer_bits_are_better(folder: Path) -> None:
    options = {"eval_strategy": "steps", "eval_steps": 4, "metric_for_best_model": "bits_per_token", "max_steps": 8}
    run_mlm.main(arguments(folder, **options))
    state = json.loads((folder / "run" / "checkpoint-8" / "trainer_state.json").read_text())
    measured = [
        one["eval_bits_per_token"] for one in state["log_history"] if one.get("step") in (4, 8) and "eval_loss" in one
    ]
    assert state["best_metric"] == min(measured) != max(measured)


def test_streaming_and_global_tokens(folder: Path) -> None:
    results = run_mlm.main(arguments(folder, streaming=True, global_every=16, documents="paragraph", max_steps=3))
    assert math.isfinite(results["after"]["bits_per_character"])
    assert HfLongformerConfig.from_pretrained(folder / "run").global_projections == "trained"  # not synced


def test_recipe_and_command_line(folder: Path) -> None:
    """The command line overrides the recipe."""
    recipe = dict(zip((word[2:] for word in arguments(folder)[::2]), arguments(folder)[1::2], strict=True))
    recipe |= {"max_steps": 50, "train_files": [str(folder / "train.txt")]}
    recipe |= {"max_seq_length": 64, "logging_steps": 1, "save_steps": 4, "learning_rate": 0.01}
    recipe |= {"validation_files": [], "bf16": False, "disable_tqdm": True}
    (folder / "recipe.json").write_text(json.dumps(recipe))
    results = run_mlm.main([str(folder / "recipe.json"), "--max_steps", "2"])
    assert results["training"]["steps"] == 2
    assert "before" not in results


def test_command_line(folder: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["hf-longformer", "finetune", "mlm", *arguments(folder, max_steps=1)])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code in (0, None)
    assert "after: " in capsys.readouterr().out
    monkeypatch.setattr(
        sys, "argv", ["hf-longformer", "finetune", "mlm", *arguments(folder, output="other", train_files="nowhere.txt")]
    )
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 2
    assert "got nowhere.txt" in capsys.readouterr().err


@pytest.mark.parametrize("recipe", sorted(RECIPES.glob("mlm-*.yaml")), ids=lambda file: file.stem)
def test_recipes_run(recipe: Path, folder: Path) -> None:
    """Every one as it is, but for what fits a test."""
    small = ["--max_steps", "1", "--per_device_train_batch_size", "2", "--gradient_accumulation_steps", "2"]
    small += ["--max_seq_length", "64", "--report_to", "none", "--output_dir", str(folder / "run"), "--bf16", "False"]
    small += ["--model_name_or_path", str(folder / "model"), "--train_files", str(folder / "train.txt")]
    results = run_mlm.main([str(recipe), *small])
    assert results["training"]["steps"] == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("learning_rte: 1", "line 1 of .* got learning_rte: did you mean learning_rate"),
        ("- a list", "must hold one argument per line"),
        ("a: [", "cannot be read"),
    ],
)
def test_damaged_recipe(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(text)
    with pytest.raises(InputError, match=message):
        run_mlm.main([str(tmp_path / "recipe.yaml")])
    with pytest.raises(InputError, match="cannot be read"):
        run_mlm.main([str(tmp_path / "nowhere.yaml")])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_seq_length": 261}, "between 3 and the model's 260 tokens, got 261"),
        ({"global_projections": "own"}, "cannot be loaded: .*global_projections"),
        ({"mlm_probability": 15}, "--mlm_probability must be at most 1, got 15.0"),
        ({"mlm_probability": 0}, "--mlm_probability must be more than 0, got 0.0"),
        ({"global_every": 0}, "--global_every must be at least 1, got 0"),
        ({"global_masks": -1}, "--global_masks must be at least 0, got -1"),
        ({"metric_for_best_model": "bits"}, "must be one of loss, .* got bits"),
        ({"train_files": "nowhere.txt"}, "must be files with something in them, got nowhere.txt"),
    ],
)
def test_bad_argument(options: dict, message: str, folder: Path) -> None:
    with pytest.raises(InputError, match=message):
        run_mlm.main(arguments(folder, **options))
    assert not (folder / "run").exists()


def test_loss_that_is_no_number_stops_training(folder: Path) -> None:
    """Whatever is logged: Trainer writes 0 in place of a loss that is none, unless it is told not to."""
    for output, options in {
        "logged": {"logging_nan_inf_filter": False},
        "filtered": {},
        "seldom": {"logging_steps": 1000, "save_strategy": "no"},
        "measured": {"eval_strategy": "steps", "eval_steps": 4},
    }.items():
        with pytest.raises(TrainingError, match=r"must be (a number|numbers), got NaN"):
            run_mlm.main(arguments(folder, output, learning_rate=1e30, max_grad_norm=0, **options))
        assert not list((folder / output).glob("**/*.safetensors"))


def test_weights_of_the_last_step_must_be_numbers(folder: Path) -> None:
    """No loss shows what the last step did."""

    def step(optimizer: torch.optim.Optimizer, *_: Any) -> None:
        optimizer.param_groups[0]["params"][0].data[0] = float("nan")

    hook = register_optimizer_step_post_hook(step)
    try:
        with pytest.raises(TrainingError, match="weights must be numbers, got NaN or infinity at step 1"):
            run_mlm.main(arguments(folder, max_steps=1, do_eval=False))
    finally:
        hook.remove()
    assert not list((folder / "run").glob("**/*.safetensors"))


def test_newest_checkpoint_is_whole(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path) is None
    for step in (9, 10, 11, 12):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    (tmp_path / "checkpoint-11" / "trainer_state.json").write_text("{")
    (tmp_path / "checkpoint-12" / "trainer_state.json").unlink()
    assert newest_checkpoint(tmp_path) == str(tmp_path / "checkpoint-10")


def test_logits_of_labelled_tokens_only_give_the_same_loss() -> None:
    torch.manual_seed(0)
    model = HfLongformerForMaskedLM(tiny_config()).eval()
    input_ids = random_ids(2, 30)
    labels = input_ids.where(torch.arange(30) % 7 == 3, -100)
    whole, part = model(input_ids, labels=labels), model(input_ids, labels=labels, masked_only=True)
    torch.testing.assert_close(part.loss, whole.loss)
    torch.testing.assert_close(part.logits, whole.logits[labels != -100])
    assert model(input_ids, masked_only=True).logits.shape[:2] == (2, 30)  # nothing is labelled: all are wanted


@pytest.mark.parametrize("across", [False, True])
@pytest.mark.parametrize("length", [3, 10, 1000])
def test_cut_keeps_every_token_in_order(across: bool, length: int) -> None:
    tokenizer = tiny_tokenizer()
    texts = ["the quick fox", "a", "", "jumps over the lazy dog and on and on"]
    pieces = cut(Dataset.from_dict({"text": texts}), tokenizer, length, across)
    first, last = tokenizer.cls_token_id, tokenizer.sep_token_id
    assert all(ids[0] == first and ids[-1] == last and 3 <= len(ids) <= length for ids in pieces["input_ids"])
    assert all(len(ids) == size for ids, size in zip(pieces["input_ids"], pieces["length"], strict=True))
    encoded = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    found = [token for ids in pieces["input_ids"] for token in ids[1:-1]]
    if across:
        assert found == [token for ids in encoded for token in [*ids, last]][:-1]
    else:
        assert found == [token for ids in encoded for token in ids]
        sizes = [-(-len(ids) // (length - 2)) for ids in encoded]
        assert len(pieces) == sum(sizes)  # none holds parts of two


def test_masks_of_evaluation_depend_on_the_piece_alone() -> None:
    tokenizer = tiny_tokenizer()
    texts = ["the quick brown fox jumps " * 9, "over the lazy dog " * 5]
    pieces = cut(Dataset.from_dict({"text": texts}), tokenizer, 64, across=False)
    rows = [pieces[index] for index in range(len(pieces))]
    collate, mask = PieceCollator(tokenizer), Masker(tokenizer)
    together, alone = mask(collate(rows), seed=0), [mask(collate([row]), seed=0) for row in rows]
    for index, (row, one) in enumerate(zip(rows, alone, strict=True)):
        size = len(row["input_ids"])
        for name in ("input_ids", "labels"):
            assert torch.equal(together[name][index, :size], one[name][0])
        assert (together["labels"][index, size:] == -100).all()
    assert not torch.equal(*(mask(collate(rows), seed)["labels"] for seed in (1, 2)))  # as from step to step


def test_share_of_masks_and_what_stands_there() -> None:
    tokenizer = tiny_tokenizer()
    ids = [tokenizer.cls_token_id, *[9] * 20_000, tokenizer.sep_token_id]
    rows = [{"input_ids": ids, "special_tokens_mask": [1, *[0] * 20_000, 1]}]
    batch = Masker(tokenizer, 0.3)(PieceCollator(tokenizer)(rows), seed=1)
    chosen = batch["labels"] != -100
    assert 0.29 < chosen.float().mean() < 0.31
    assert (batch["labels"][chosen] == 9).all()
    masked = (batch["input_ids"][chosen] == tokenizer.mask_token_id).float().mean()
    assert 0.78 < masked < 0.83
    assert (batch["input_ids"][~chosen] == torch.tensor(ids)[~chosen[0]]).all()


def test_every_batch_has_something_to_predict() -> None:
    tokenizer = tiny_tokenizer()
    rows = [{"input_ids": [tokenizer.cls_token_id, 7, tokenizer.sep_token_id], "special_tokens_mask": [1, 0, 1]}]
    for seed in range(30):
        assert (Masker(tokenizer)(PieceCollator(tokenizer)(rows), seed)["labels"] != -100).sum() == 1


def test_global_tokens_of_a_batch() -> None:
    tokenizer = tiny_tokenizer()
    row = {"input_ids": [tokenizer.cls_token_id, *range(6, 14), tokenizer.sep_token_id]}
    row["special_tokens_mask"] = [1, *[0] * 8, 1]
    batch = PieceCollator(tokenizer, global_every=4)([row])
    assert batch["global_attention_mask"][0].tolist() == [1, 0, 0, 0, 1, 0, 0, 0, 1, 0]


def test_global_masks_are_masked_tokens() -> None:
    tokenizer = tiny_tokenizer()
    rows = [{"input_ids": [tokenizer.cls_token_id, *range(6, 6 + n), tokenizer.sep_token_id]} for n in (60, 40, 3)]
    rows = [{**row, "special_tokens_mask": [1, *[0] * (len(row["input_ids"]) - 2), 1]} for row in rows]
    batch = Masker(tokenizer, 0.3, global_masks=4)(PieceCollator(tokenizer)(rows), 0)
    is_global, predicted = batch["global_attention_mask"].bool(), batch["labels"] != -100
    assert not (is_global & ~predicted).any()
    assert is_global.sum(dim=1).tolist() == predicted.sum(dim=1).clamp(max=4).tolist()
    assert torch.equal(batch["labels"], Masker(tokenizer, 0.3)(PieceCollator(tokenizer)(rows), 0)["labels"])
    both = Masker(tokenizer, 0.3, global_masks=4)(PieceCollator(tokenizer, global_every=16)(rows), 0)
    assert (both["global_attention_mask"].bool() >= is_global).all()
    assert both["global_attention_mask"][:, 0].all()


def test_global_masks_train_the_global_projections(folder: Path) -> None:
    results = run_mlm.main(arguments(folder, global_masks=2, max_steps=3))
    assert math.isfinite(results["after"]["bits_per_character"])
    assert HfLongformerConfig.from_pretrained(folder / "run").global_projections == "trained"
    weights = load_file(folder / "run" / "model.safetensors")
    names = [name for name in weights if "_global.weight" in name]
    assert names
    assert not any(torch.equal(weights[name], weights[name.replace("_global.", ".")]) for name in names)


@pytest.mark.parametrize("streaming", [False, True])
def test_names_of_files_are_no_patterns(streaming: bool, tmp_path: Path) -> None:
    for name in ("a[1].txt", "a1.txt", "a*.txt", "a?.jsonl", "ab.jsonl"):
        text = name if name.endswith("txt") else json.dumps({"text": name})
        (tmp_path / name).write_text(text)
    for name in ("a[1].txt", "a*.txt", "a?.jsonl"):
        assert [row["text"] for row in load_documents([str(tmp_path / name)], "file", streaming)] == [name]


@pytest.mark.parametrize("streaming", [False, True])
def test_texts_with_nothing_in_them_are_skipped_and_counted(
    streaming: bool, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [
        {"text": "the quick brown fox " * 5},
        {"text": None},
        {"text": ""},
        {"text": " \n"},
        {"text": ["the", "dog"]},
    ]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = {"train_files": folder / "train.jsonl", "streaming": streaming, "max_steps": 1}
    results = run_mlm.main([*arguments(folder, **options), "--validation_files", str(folder / "train.jsonl")])
    if streaming:
        assert "skipped 1 texts so far, since nothing stands in them" in caplog.text
        assert results["skipped"] == {"validation": 3}
    else:
        assert "skipped 3 texts of train, since nothing stands in them" in caplog.text
        assert results["skipped"] == {"train": 3, "validation": 3}
        assert results["documents"] == {"train": 2, "validation": 2}
    (folder / "train.jsonl").write_text('{"text": null}\n{"text": " "}\n')
    if not streaming:
        with pytest.raises(InputError, match="something in them, got 2 without a word"):
            run_mlm.main(arguments(folder, "other", **options))


def test_texts_that_are_not_in_utf_8_are_refused(folder: Path) -> None:
    (folder / "latin.txt").write_bytes("naïve café".encode("latin-1"))
    with pytest.raises(InputError, match=r"latin\.txt must be in UTF-8, got .*: save it in that encoding"):
        run_mlm.main(arguments(folder, train_files=folder / "latin.txt"))


def test_documents_of_files(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("one\ntwo\n\nthree")
    (tmp_path / "b.jsonl").write_text('{"text": "four"}\n{"text": "five"}\n')
    (tmp_path / "c.jsonl").write_text('{"words": "six"}\n')
    for documents, number in (("file", 1), ("paragraph", 2), ("line", 4)):
        assert len(load_documents([str(tmp_path / "a.txt")], documents)) == number
    assert load_documents([str(tmp_path / "b.jsonl")], "file")["text"] == ["four", "five"]
    with pytest.raises(InputError, match="must have an entry text, got words"):
        load_documents([str(tmp_path / "c.jsonl")], "file")
    with pytest.raises(InputError, match=r"all \.txt, or all \.json or \.jsonl"):
        load_documents([str(tmp_path / "a.txt"), str(tmp_path / "b.jsonl")], "file")
