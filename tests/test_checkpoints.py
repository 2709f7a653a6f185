# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`finetune/checkpoints.py`: a checkpoint is loaded whole, or refused with the reason."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from sources import edit_json, make_source

from hf_longformer import (
    HfLongformerForMaskedLM,
    HfLongformerForQuestionAnswering,
    HfLongformerForSequenceClassification,
)
from hf_longformer.conversion import InputError, convert
from hf_longformer.finetune.checkpoints import describe, load_checkpoint


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A RoBERTa, and two converted ones: a language model and a classifier of three labels."""
    place = tmp_path_factory.mktemp("checkpoints")
    make_source(place / "roberta")
    make_source(place / "classifier-source", head="ForSequenceClassification", num_labels=3)
    for source, name in (("roberta", "model"), ("classifier-source", "classifier")):
        convert(place / source, place / name, max_length=260, attention_window=16, check=False)
    return place


def damaged(folder: Path, source: str, change: Callable[[dict[str, torch.Tensor]], Any], **config: Any) -> Path:
    """A copy of a checkpoint with other weights."""
    copy = folder.parent / f"damaged-{len(list(folder.parent.iterdir()))}"
    shutil.copytree(folder / source, copy)
    weights = load_file(copy / "model.safetensors")
    change(weights)
    save_file(weights, copy / "model.safetensors", metadata={"format": "pt"})
    edit_json(copy / "config.json", **config)
    return copy


def test_what_belongs_together_is_loaded(folder: Path) -> None:
    model, tokenizer, notes = load_checkpoint(HfLongformerForMaskedLM, str(folder / "model"))
    assert notes == {"new": [], "left_out": [], "labels": []}
    assert describe(notes) == []
    assert len(tokenizer) <= model.config.vocab_size
    assert load_checkpoint(HfLongformerForMaskedLM, str(folder / "model"), tokenizer=False)[1] is None


def test_head_to_be_trained_may_be_missing_and_is_said(folder: Path) -> None:
    notes = load_checkpoint(HfLongformerForQuestionAnswering, str(folder / "model"), new=["qa_outputs"])[2]
    assert notes == {"new": ["qa_outputs"], "left_out": ["lm_head"], "labels": []}
    assert [line.rsplit(": ")[-1] for line in describe(notes)] == ["qa_outputs", "lm_head"]


def test_head_for_other_labels_is_new_and_is_said(folder: Path) -> None:
    model, _, notes = load_checkpoint(
        HfLongformerForSequenceClassification, str(folder / "classifier"), new=["classifier"], num_labels=5
    )
    assert notes["new"] == ["classifier"]
    assert model.classifier.out_proj.out_features == 5


@pytest.mark.parametrize(("names", "is_said"), [("LABEL_{}", False), ("label {}", True)])
def test_head_that_is_kept_for_other_labels_is_said(folder: Path, names: str, is_said: bool) -> None:
    labels = {number: names.format(number) for number in range(3)}
    options = {"new": ["classifier"], "id2label": labels}
    notes = load_checkpoint(HfLongformerForSequenceClassification, str(folder / "classifier"), **options)[2]
    sentence = "goes on from a head that was trained for other labels: LABEL_0, LABEL_1, LABEL_2"
    assert describe(notes) == [sentence] * is_said


@pytest.mark.parametrize("source", ["roberta", "longformer"])
def test_plain_roberta_is_refused_and_stock_longformer_taken(folder: Path, tmp_path: Path, source: str) -> None:
    make_source(tmp_path / source, source)
    if source == "longformer":
        assert load_checkpoint(HfLongformerForMaskedLM, str(tmp_path / source))[2]["new"] == []
        return
    with pytest.raises(InputError, match=r"got one of roberta that was not converted: run `hf-longformer convert"):
        load_checkpoint(HfLongformerForMaskedLM, str(tmp_path / source), new=["lm_head"])


def without(*names: str) -> Callable[[dict[str, torch.Tensor]], Any]:
    return lambda weights: [weights.pop(key) for key in list(weights) if any(name in key for name in names)]


def renamed(old: str, new: str) -> Callable[[dict[str, torch.Tensor]], Any]:
    return lambda weights: weights.update({k.replace(old, new): weights.pop(k) for k in list(weights) if old in k})


DAMAGES = {
    "a prefix of another model": (
        renamed("longformer.", "roberta."),
        "must have all weights of HfLongformerForQuestionAnswering",
    ),
    "a prefix too many": (renamed("longformer.", "model.longformer."), "must have all weights"),
    "a layer missing": (without("layer.1."), r"encoder\.layer\.1\..* is missing"),
    "a weight missing": (without("layer.0.output.dense.weight"), r"layer\.0\.output\.dense\.weight is missing"),
    "global projections missing": (without("_global"), "_global.* is missing"),
    "a weight of another shape": (
        lambda weights: weights.update({"longformer.encoder.layer.0.output.dense.bias": torch.zeros(3)}),
        r"layer\.0\.output\.dense\.bias has another shape",
    ),
    "a layer too many": (
        lambda weights: weights.update({"longformer.encoder.layer.2.output.dense.bias": torch.zeros(24)}),
        r"no place for, such as longformer\.encoder\.layer\.2",
    ),
    "a foreign encoder beside": (
        lambda weights: weights.update({"bert.encoder.layer.0.output.dense.bias": torch.zeros(24)}),
        r"no place for, such as bert\.encoder",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_half_of_a_checkpoint_is_refused(folder: Path, name: str) -> None:
    change, message = DAMAGES[name]
    copy = damaged(folder, "model", change)
    with pytest.raises(InputError, match=message):
        load_checkpoint(HfLongformerForQuestionAnswering, str(copy), new=["qa_outputs"])


def test_without_training_a_head_must_be_there_and_fit(folder: Path) -> None:
    with pytest.raises(InputError, match="must have all weights of HfLongformerForQuestionAnswering"):
        load_checkpoint(HfLongformerForQuestionAnswering, str(folder / "model"))
    with pytest.raises(InputError, match="has another shape"):
        load_checkpoint(HfLongformerForSequenceClassification, str(folder / "classifier"), num_labels=5)


def test_tokenizer_larger_than_the_embeddings_is_refused(folder: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder / "model", copy)
    file = copy / "tokenizer.json"
    content = json.loads(file.read_text())
    last = content["added_tokens"][-1]
    content["added_tokens"] += [{**last, "id": 301 + number, "content": f"<new{number}>"} for number in range(3)]
    file.write_text(json.dumps(content))
    with pytest.raises(InputError, match="must not know more tokens than the 301"):
        load_checkpoint(HfLongformerForMaskedLM, str(copy))


def test_nothing_there(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("empty", "nowhere"):
        with pytest.raises(InputError, match="cannot be loaded"):
            load_checkpoint(HfLongformerForMaskedLM, str(tmp_path / name), local_files_only=True)
