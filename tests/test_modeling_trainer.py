# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Plain `Trainer`: one update is the same, however its texts are divided into batches and processes."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import tiny_config
from transformers import Trainer, TrainingArguments
from transformers.utils.logging import disable_progress_bar
from warm import run_two

import hf_longformer

LENGTH, TEXTS = 24, 4
IDS = torch.randint(5, 99, (TEXTS, LENGTH), generator=torch.Generator().manual_seed(0))
TAGS = IDS % 2
RAGGED = torch.arange(LENGTH) < torch.tensor([[3], [24], [9], [17]])  # as many labels as tokens, of different texts
PROBLEMS: dict[str, tuple[str, dict[str, Any], dict[str, torch.Tensor]]] = {
    "masked words": ("ForMaskedLM", {}, {"labels": IDS.where(RAGGED, -100)}),
    "next words": ("ForCausalLM", {"is_decoder": True}, {"labels": IDS.where(RAGGED, -100)}),
    "tags": ("ForTokenClassification", {}, {"labels": TAGS.where(RAGGED, -100)}),
    "classes": ("ForSequenceClassification", {}, {"labels": torch.tensor([0, 1, 1, 0])}),
    "several classes": ("ForSequenceClassification", {"num_labels": 3}, {"labels": TAGS[:, :3].float()}),
    "a number": ("ForSequenceClassification", {"num_labels": 1}, {"labels": torch.tensor([0.5, -1.0, 2.0, 3.0])}),
    "numbers": (
        "ForSequenceClassification",
        {"num_labels": 2, "problem_type": "regression"},
        {"labels": IDS[:, :2] / 50},
    ),
    "choices": ("ForMultipleChoice", {}, {"labels": torch.tensor([0, 1, 1, 0])}),
    "choices, not all labelled": ("ForMultipleChoice", {}, {"labels": torch.tensor([0, -100, 1, 0])}),
    "answers": (
        "ForQuestionAnswering",
        {},
        {"start_positions": torch.tensor([1, 2, 3, 4]), "end_positions": torch.tensor([2, 5, 3, 9])},
    ),
}


def train(name: str, folder: Path, batch: int, steps: int) -> tuple[torch.nn.Module, float]:
    """One update by plain gradient descent; the model, and the loss that was logged."""
    head, fields, labels = PROBLEMS[name]
    torch.manual_seed(3)
    model = getattr(hf_longformer, f"HfLongformer{head}")(tiny_config(num_hidden_layers=1, **fields))
    ids = torch.stack([IDS, IDS.flip(1)], dim=1) if head == "ForMultipleChoice" else IDS
    texts = [{"input_ids": ids[row], **{key: of_all[row] for key, of_all in labels.items()}} for row in range(TEXTS)]
    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=batch,
        gradient_accumulation_steps=steps,
        max_steps=1,
        learning_rate=0.5,
        lr_scheduler_type="constant",
        max_grad_norm=0.0,
        optim="sgd",
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        use_cpu=True,
        disable_tqdm=True,
        ddp_find_unused_parameters=False,
    )
    trainer = Trainer(model, arguments, train_dataset=texts)
    trainer.train()
    return trainer.accelerator.unwrap_model(trainer.model), trainer.state.log_history[0]["loss"]


def assert_same(found: tuple[dict[str, torch.Tensor], float], expected: tuple[torch.nn.Module, float]) -> None:
    assert abs(found[1] - expected[1]) < 1e-3 * max(1.0, expected[1])  # losses are logged with four digits
    for key, parameter in expected[0].named_parameters():
        torch.testing.assert_close(
            found[0][key], parameter.detach(), atol=1e-6, rtol=1e-4, msg=lambda t, k=key: f"{k} {t}"
        )


@pytest.mark.parametrize("name", PROBLEMS)
def test_accumulated_batches_are_one_batch(name: str, tmp_path: Path):
    expected = train(name, tmp_path, batch=4, steps=1)
    for batch, steps in ((1, 4), (2, 2)):
        model, loss = train(name, tmp_path, batch=batch, steps=steps)
        assert_same((dict(model.named_parameters()), loss), expected)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", PROBLEMS)
def test_trainer_evaluates_every_head(name: str, batch: int, tmp_path: Path):
    """It looks for arguments of `forward` with "label" in their names, and evaluates where all of them are given."""
    head, fields, labels = PROBLEMS[name]
    if name == "a number":
        labels = {"labels": torch.tensor([0.5, -100.0, 2.0, 3.0])}  # which is a number like any other
    model = getattr(hf_longformer, f"HfLongformer{head}")(tiny_config(num_hidden_layers=1, **fields)).eval()
    ids = torch.stack([IDS, IDS.flip(1)], dim=1) if head == "ForMultipleChoice" else IDS
    texts = [{"input_ids": ids[row], **{key: of_all[row] for key, of_all in labels.items()}} for row in range(TEXTS)]
    arguments = TrainingArguments(
        output_dir=str(tmp_path), per_device_eval_batch_size=batch, report_to="none", use_cpu=True, disable_tqdm=True
    )
    trainer = Trainer(
        model, arguments, eval_dataset=texts, compute_metrics=lambda found: {"seen": len(found.label_ids)}
    )
    assert set(trainer.label_names) == set(labels)
    found = trainer.evaluate()
    assert found["eval_seen"] in (TEXTS, len(labels))
    if name in ("a number", "numbers", "several classes", "classes", "answers", "choices"):  # as many labels per text
        torch.testing.assert_close(found["eval_loss"], model(ids, **labels).loss.item(), rtol=1e-4, atol=1e-5)
    assert found["eval_loss"] < 1e5


@pytest.mark.parametrize("name", PROBLEMS)
def test_what_is_logged_is_the_mean_loss(name: str, tmp_path: Path):
    head, fields, labels = PROBLEMS[name]
    torch.manual_seed(3)
    model = getattr(hf_longformer, f"HfLongformer{head}")(tiny_config(num_hidden_layers=1, **fields))
    ids = torch.stack([IDS, IDS.flip(1)], dim=1) if head == "ForMultipleChoice" else IDS
    expected = model(ids, **labels).loss.item()
    assert train(name, tmp_path, batch=2, steps=2)[1] == pytest.approx(expected, abs=1e-3)


def test_two_processes_are_one_batch(tmp_path: Path):
    done = run_two(["python", __file__, tmp_path])
    assert done.returncode == 0, done.stderr[-3000:]
    for name in PROBLEMS:
        assert_same(torch.load(tmp_path / f"{name}.pt"), train(name, tmp_path, batch=4, steps=1))


def work(rank: int, folder: str) -> None:
    """What each of two processes does."""
    torch.set_num_threads(1)
    disable_progress_bar()
    for name in PROBLEMS:
        model, loss = train(name, Path(folder), batch=1, steps=2)
        if rank == 0:
            torch.save((dict(model.named_parameters()), loss), Path(folder, f"{name}.pt"))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    work(int(os.environ["RANK"]), sys.argv[1])
