# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Longformers as sources: stock, of 2020, and our own; made longer, faster, or only ours; and back, bit by bit."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from helpers import tiny_config, tiny_tokenizer
from safetensors.torch import load_file, save_file
from sources import HEADS, edit_json, make_source
from transformers import PreTrainedConfig

import hf_longformer
from hf_longformer.conversion import GateError, InputError, convert, export, verify
from hf_longformer.conversion.plan import KEPT_FIELDS, LONG_FIELDS, OWN_FIELDS, extend_positions

POSITIONS = "longformer.embeddings.position_embeddings.weight"


def make_source_of_2020(folder: Path, **changes: object) -> None:
    """A stock checkpoint under the names, with the buffers and in the counting of allenai's own code."""
    make_source(folder, "longformer", "ForMaskedLM")
    file = folder / "model.safetensors"
    weights = {name.replace("longformer.", "roberta."): weight for name, weight in load_file(file).items()}
    weights["roberta.embeddings.position_ids"] = torch.arange(132)[None]
    save_file(weights, file, metadata={"format": "pt"})
    edit_json(
        folder / "config.json",
        model_type="roberta",
        architectures=["RobertaForMaskedLM"],
        attention_mode="sliding_chunks",
        attention_window=[4, 8],
        attention_dilation=[1, 1],
        autoregressive=False,
        sep_token_id=None,
    )
    edit_json(folder / "config.json", **changes)


@pytest.mark.parametrize("head", HEADS)
def test_stock_round_trip_is_bit_identical(head: str, tmp_path: Path) -> None:
    make_source(tmp_path / "stock", "longformer", head)
    convert(tmp_path / "stock", tmp_path / "ours", max_length=130)
    export(tmp_path / "ours", tmp_path / "again")
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (
        tmp_path / "stock" / "model.safetensors"
    ).read_bytes()
    old, new = (json.loads((tmp_path / name / "config.json").read_text()) for name in ("stock", "again"))
    assert new == old
    for name in ("tokenizer.json",):
        assert json.loads((tmp_path / "again" / name).read_text()) == json.loads(
            (tmp_path / "stock" / name).read_text()
        )


@pytest.mark.parametrize("window", [None, 4], ids=["own window", "another window"])
def test_stock_is_extended_from_its_own_positions(window: int | None, tmp_path: Path) -> None:
    """The gate compares in the source's own windows, with global tokens, whatever window the result has."""
    source = make_source(tmp_path / "stock", "longformer", "ForTokenClassification")
    report = convert(tmp_path / "stock", tmp_path / "ours", max_length=500, attention_window=window)
    assert all(check["passed"] for check in report["checks"])
    assert report["global_projections"] == "trained"  # they differ from the local ones
    old, new = (load_file(tmp_path / name / "model.safetensors")[POSITIONS] for name in ("stock", "ours"))
    assert torch.equal(new, extend_positions(old, 2, 2, 500))
    own = {} if window is None else {"attention_window": [8, 16]}
    result = hf_longformer.HfLongformerForTokenClassification.from_pretrained(tmp_path / "ours", **own).eval()
    assert result.config.attention_window == [8, 16]
    inputs = {"input_ids": torch.randint(5, 300, (2, 130), generator=torch.Generator().manual_seed(1))}
    inputs["global_attention_mask"] = (torch.arange(130) % 40 == 3).long().expand(2, -1)
    with torch.no_grad():
        torch.testing.assert_close(result(**inputs).logits, source(**inputs).logits, atol=1e-5, rtol=1e-5)


def test_own_checkpoint_is_extended_again_and_again(tmp_path: Path) -> None:
    make_source(tmp_path / "source")
    convert(tmp_path / "source", tmp_path / "one", max_length=260, attention_window=16, attention_dilation=2)
    convert(tmp_path / "one", tmp_path / "two", max_length=520)
    convert(tmp_path / "two", tmp_path / "three", max_length=1040)
    one, three = (load_file(tmp_path / name / "model.safetensors") for name in ("one", "three"))
    assert torch.equal(three[POSITIONS][2:], one[POSITIONS][2:].repeat(4, 1))
    assert all(torch.equal(three[name], one[name]) for name in one if name != POSITIONS)
    config = hf_longformer.HfLongformerConfig.from_pretrained(tmp_path / "three")
    assert (config.max_length_tokens, config.attention_window, config.attention_dilation) == (1040, 16, 2)
    assert config.global_projections == "copied"
    assert verify(tmp_path / "two", tmp_path / "three")["checks"]


def test_default_length_is_never_below_the_source(tmp_path: Path) -> None:
    make_source(tmp_path / "source", "longformer", "Model", positions=4200)
    assert convert(tmp_path / "source", tmp_path / "ours")["max_length"] == 4200
    with pytest.raises(InputError, match="at least the source's 4200 tokens, got 4096"):
        convert(tmp_path / "source", tmp_path / "other", max_length=4096)


def test_checkpoint_of_2020(tmp_path: Path) -> None:
    """Its windows are counted on one side; stock, loaded with both sides, says what the outputs must be."""
    make_source_of_2020(tmp_path / "old")
    report = convert(tmp_path / "old", tmp_path / "ours", max_length=260)
    assert report["source_class"] == "LongformerForMaskedLM"
    source = make_source(tmp_path / "stock", "longformer", "ForMaskedLM")
    result = hf_longformer.HfLongformerForMaskedLM.from_pretrained(tmp_path / "ours").eval()
    assert result.config.attention_window == [8, 16]
    input_ids = torch.randint(5, 300, (2, 130), generator=torch.Generator().manual_seed(1))
    mask = (torch.arange(130) % 40 == 3).long().expand(2, -1)
    with torch.no_grad():
        ours, theirs = (model(input_ids, global_attention_mask=mask).logits for model in (result, source))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attention_mode": None}, "whether attention_window counts one side or both cannot be seen"),
        ({"attention_mode": "sliding_chunks_no_overlap"}, "is a different attention, in blocks"),
        ({"attention_dilation": [1, 2]}, "only undilated encoders"),
        ({"autoregressive": True}, "only undilated encoders"),
        ({"attention_window": ["8", 8]}, "must be positive numbers"),
    ],
)
def test_checkpoint_of_2020_that_cannot_be_told_is_refused(changes: dict, message: str, tmp_path: Path) -> None:
    make_source_of_2020(tmp_path / "old", **changes)
    with pytest.raises(InputError, match=message):
        convert(tmp_path / "old", tmp_path / "ours", max_length=260)


def test_checkpoint_of_2020_with_windows_counted_on_both_sides(tmp_path: Path) -> None:
    make_source_of_2020(tmp_path / "old", attention_mode="longformer")
    convert(tmp_path / "old", tmp_path / "ours", max_length=260)
    assert hf_longformer.HfLongformerConfig.from_pretrained(tmp_path / "ours").attention_window == [4, 8]


def test_global_projections_of_a_long_source_are_compared(tmp_path: Path) -> None:
    """A conversion that overwrote them with the local ones would not pass."""
    make_source(tmp_path / "stock", "longformer", "ForMaskedLM")
    convert(tmp_path / "stock", tmp_path / "ours", max_length=260)
    file = tmp_path / "ours" / "model.safetensors"
    weights = load_file(file)
    for name in [name for name in weights if "_global." in name]:
        weights[name] = weights[name.replace("_global.", ".")].clone()
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(GateError, match=r"weights on disk equal.*last hidden states equal.*logits equal"):
        verify(tmp_path / "stock", tmp_path / "ours")


@pytest.mark.parametrize("n", [1, 2, 5, 130])
@pytest.mark.parametrize("length", [130, 131, 500])
def test_interpolated_positions(n: int, length: int) -> None:
    """Against numpy's own interpolation, column by column."""
    import numpy

    table = torch.randn(2 + n, 3, dtype=torch.float64)
    new = extend_positions(table, 2, 2, length, "interpolate")
    assert torch.equal(new[:2], table[:2])
    places = numpy.linspace(0, n - 1, length)
    for column in range(3):
        expected = numpy.interp(places, numpy.arange(n), table[2:, column].numpy())
        torch.testing.assert_close(new[2:, column], torch.from_numpy(expected), atol=1e-12, rtol=0)
    if n > 1:
        assert torch.equal(new[2], table[2])
        assert torch.equal(new[-1], table[-1])


def test_interpolated_conversion_is_checked_on_the_sources_positions(tmp_path: Path) -> None:
    make_source(tmp_path / "source")
    report = convert(tmp_path / "source", tmp_path / "ours", max_length=500, position_init="interpolate")
    assert any("on the source's positions" in check["name"] for check in report["checks"])
    assert verify(tmp_path / "source", tmp_path / "ours", position_init="interpolate")["checks"]
    with pytest.raises(GateError, match="position rows repeat"):
        verify(tmp_path / "source", tmp_path / "ours")
    assert "stretched" in (tmp_path / "ours" / "README.md").read_text()


def test_shared_projections_stay_shared(tmp_path: Path) -> None:
    config = tiny_config(global_projections="shared", attention_window=16)
    hf_longformer.HfLongformerForMaskedLM(config).save_pretrained(tmp_path / "source")
    tiny_tokenizer().save_pretrained(tmp_path / "source")
    report = convert(tmp_path / "source", tmp_path / "longer", max_length=260)
    assert report["global_projections"] == "shared"
    assert all(check["passed"] for check in report["checks"])
    assert not [name for name in load_file(tmp_path / "longer" / "model.safetensors") if "_global." in name]


FIELDS_OF_HEADS = {
    "HfLongformerForTokenClassification": {"tag_layers": 3},
    "HfLongformerForMaskedLM": {"position_counting": "input_ids", "global_scaling_length": 64},
}


@pytest.mark.parametrize("head", FIELDS_OF_HEADS)
def test_own_checkpoint_keeps_the_settings_of_its_head(head: str, tmp_path: Path) -> None:
    fields = FIELDS_OF_HEADS[head]
    model = getattr(hf_longformer, head)(tiny_config(max_position_embeddings=66, **fields))
    model.save_pretrained(tmp_path / "source")
    tiny_tokenizer().save_pretrained(tmp_path / "source")
    report = convert(tmp_path / "source", tmp_path / "longer", max_length=128)
    assert all(check["passed"] for check in report["checks"])
    longer = getattr(hf_longformer, head).from_pretrained(tmp_path / "longer")
    assert longer.config.max_length_tokens == 128
    assert {name: getattr(longer.config, name) for name in fields} == fields
    weights = model.state_dict()
    assert all(torch.equal(weight, weights[name]) for name, weight in longer.state_dict().items() if name != POSITIONS)


def test_every_field_is_kept_or_set() -> None:
    """A field that a conversion forgot would be its default in the new checkpoint, whatever it was."""
    made = {"position_embedding_type", "rope_theta", "norm_style", "max_position_embeddings", "first_position"}
    made |= {"repeat_positions", "onnx_export"}  # the latter without effect
    own = {field.name for field in dataclasses.fields(hf_longformer.HfLongformerConfig)}
    own -= {field.name for field in dataclasses.fields(PreTrainedConfig)}
    assert own <= {*KEPT_FIELDS, *LONG_FIELDS, *OWN_FIELDS, *made}
