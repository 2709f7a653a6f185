# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""The configuration: what it refuses, with which sentence, and what it takes over from stock Longformer."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from helpers import SIZES, tiny_config, tiny_tokenizer
from huggingface_hub.errors import StrictDataclassClassValidationError, StrictDataclassFieldValidationError
from transformers import AutoConfig, AutoTokenizer, LongformerConfig

from hf_longformer import HfLongformerConfig, HfLongformerModel

REFUSALS: dict[str, tuple[dict[str, Any], str]] = {
    "odd window": ({"attention_window": 7}, "attention_window must be an even number of at least 2 .*got 7$"),
    "zero window": ({"attention_window": 0}, "attention_window must be an even number of at least 2 .*got 0$"),
    "negative window": ({"attention_window": -2}, "attention_window must be an even number .*got -2$"),
    "odd window of one layer": ({"attention_window": [4, 5]}, r"attention_window must be an even .*got \[4, 5\]$"),
    "windows of other layers": (
        {"attention_window": [4, 8, 8]},
        r"one number or one per layer \(2 layers\), got 3: \[4, 8, 8\]$",
    ),
    "zero dilation": ({"attention_dilation": 0}, r"attention_dilation must be at least 1 \(1 = no gaps\), got 0$"),
    "zero dilation of one layer": ({"attention_dilation": [1, 0]}, r"must be at least 1 .*got \[1, 0\]$"),
    "zero dilation of one head": (
        {"attention_dilation": [[1, 1, 1], [1, 2, 0]]},
        r"must be at least 1 .*got \[\[1, 1, 1\], \[1, 2, 0\]\]$",
    ),
    "dilations of other layers": ({"attention_dilation": [1]}, r"one per layer \(2 layers\).*got 1: \[1\]$"),
    "dilations of other heads": (
        {"attention_dilation": [[1, 1, 1], [1, 2]]},
        r"attention_dilation of layer 1 must be one number or one per head \(3 heads\), got 2: \[1, 2\]$",
    ),
    "hidden size": (
        {"hidden_size": 25},
        "multiple of num_attention_heads, got hidden_size=25 and num_attention_heads=3$",
    ),
    "no heads": ({"num_attention_heads": 0}, "got hidden_size=24 and num_attention_heads=0$"),
    "no room for a token": (
        {"max_position_embeddings": 2},
        "must exceed first_position, .*got max_position_embeddings=2, first_position=2 and pad_token_id=1$",
    ),
    "misspelt keyword": (
        {"attention_windwo": 8},
        "unknown configuration field: got attention_windwo; did you mean 'attention_window'",
    ),
    "no rotary base": (
        {"is_decoder": True, "position_embedding_type": "rotary", "rope_theta": 0.0},
        "rope_theta must be a positive number, got 0.0$",
    ),
    "two unknown keywords": (
        {"rope": 1, "attention_dilatation": 2},
        "unknown configuration fields: got rope, attention_dilatation; ",
    ),
    "unknown keyword like no other": ({"xyzzy": 1}, "got xyzzy; the fields are .*attention_window, .*vocab_size$"),
}


@pytest.mark.parametrize("reason", REFUSALS)
def test_config_refuses(reason: str):
    wrong, sentence = REFUSALS[reason]
    with pytest.raises(ValueError, match=sentence):
        tiny_config(**wrong)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("attention_window", "512"),
        ("attention_window", 8.0),
        ("attention_dilation", 1.5),
        ("attention_dilation", [1, "2"]),
        ("is_decoder", "yes"),
        ("global_attention", "every"),
        ("hidden_size", "768"),
        ("vocab_size", None),
    ],
    ids=str,
)
def test_config_refuses_wrong_types_when_made_and_when_set(name: str, value: Any):
    with pytest.raises(StrictDataclassFieldValidationError, match=name):
        tiny_config(**{name: value})
    config = tiny_config()
    with pytest.raises(StrictDataclassFieldValidationError, match=name):
        setattr(config, name, value)


def test_config_does_not_support_every_kind_of_positions():
    with pytest.raises(NotImplementedError, match=r"position_embedding_type must be 'absolute' .*got 'relative_key'$"):
        tiny_config(position_embedding_type="relative_key")


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("attention_window", 127, "even number of at least 2 .*got 127$"),
        ("attention_window", [8, 8, 8], r"one per layer \(2 layers\), got 3"),
        ("attention_dilation", 0, "at least 1 .*got 0$"),
        ("attention_windwo", 16, "unexpected keyword argument 'attention_windwo'"),
        ("position_embedding_type", "rope", "must be 'absolute' .*got 'rope'$"),
    ],
)
def test_from_pretrained_refuses_what_the_config_refuses(name: str, value: Any, sentence: str, tmp_path: Path):
    HfLongformerModel(tiny_config()).save_pretrained(tmp_path)
    with pytest.raises((ValueError, NotImplementedError, TypeError), match=sentence):
        HfLongformerModel.from_pretrained(tmp_path, **{name: value})


def test_a_changed_config_is_checked_when_a_model_is_built_and_when_it_is_saved(tmp_path: Path):
    config = tiny_config()
    config.attention_window = 7
    with pytest.raises(ValueError, match=r"even number of at least 2 .*got 7$"):
        HfLongformerModel(config)
    with pytest.raises(StrictDataclassClassValidationError, match="even number of at least 2"):
        config.save_pretrained(tmp_path)


def test_from_pretrained_takes_new_windows_and_dilations(tmp_path: Path):
    HfLongformerModel(tiny_config()).save_pretrained(tmp_path)
    model = HfLongformerModel.from_pretrained(
        tmp_path, attention_window=[4, 128], attention_dilation=[[1, 1, 2], [3, 3, 1]]
    )
    patterns = [layer.attention.self.pattern for layer in model.encoder.layer]
    assert [pattern.attention_window for pattern in patterns] == [4, 128]
    assert [pattern.dilations for pattern in patterns] == [(1, 1, 2), (3, 3, 1)]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"attention_window": [4, 8], "attention_dilation": 3},
        {"attention_dilation": [1, 2], "is_decoder": True},
        {"attention_dilation": [[1, 1, 2], [3, 2, 1]], "global_attention": "cls"},
        {"num_labels": 5, "pad_token_id": 0, "sep_token_id": 7, "classifier_dropout": 0.25},
        {"id2label": {0: "no", 1: "yes", 2: "maybe"}, "problem_type": "multi_label_classification"},
    ],
    ids=lambda fields: "-".join(fields) or "defaults",
)
def test_config_comes_back_from_disk_as_it_was(fields: dict[str, Any], tmp_path: Path):
    config = tiny_config(**fields)
    config.save_pretrained(tmp_path)
    again = HfLongformerConfig.from_pretrained(tmp_path)
    assert again.to_dict() == config.to_dict()
    for name, value in fields.items():
        assert getattr(again, name) == value
    assert again.attention_windows == config.attention_windows
    assert again.attention_dilations == config.attention_dilations
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "hf_longformer"


def test_values_for_all_layers():
    config = tiny_config(attention_window=16, attention_dilation=2)
    assert config.attention_windows == [16, 16]
    assert config.attention_dilations == [2, 2]
    config = tiny_config(attention_window=[4, 16], attention_dilation=[[1, 2, 3], [4, 5, 6]])
    assert config.attention_windows == [4, 16]
    assert config.attention_dilations == [(1, 2, 3), (4, 5, 6)]


@pytest.mark.parametrize(("padding", "tokens"), [(1, 4096), (0, 4097), (None, 4098)])
def test_max_length_tokens(padding: int | None, tokens: int):
    assert HfLongformerConfig(max_position_embeddings=4098, pad_token_id=padding).max_length_tokens == tokens


def test_defaults_are_those_of_stock():
    ours, stock = HfLongformerConfig().to_dict(), LongformerConfig().to_dict()
    assert ours.pop("model_type") == "hf_longformer"
    assert ours.pop("first_position") == 2  # where stock begins to count, by pad_token_id=1
    assert stock.pop("model_type") == "longformer"
    added = {"attention_dilation": 1, "is_decoder": False, "global_attention": "auto"}
    added |= {"position_embedding_type": "absolute", "classifier_dropout": None, "classifier_activation": "tanh"}
    added |= {"embedding_size": None, "global_projections": None, "norm_style": "post", "rope_theta": 10_000.0}
    added |= {"coreference": None, "position_counting": "attention_mask", "tag_layers": 1}
    added |= {"activation_dropout": 0.0, "layerdrop": 0.0, "scale_embedding": False, "repeat_positions": False}
    added |= {"global_scaling_length": None, "retrieval": None}
    assert {name: value for name, value in ours.items() if name not in added} == {
        name: value for name, value in stock.items() if name not in added
    }
    assert {name: ours[name] for name in added} == added


# The config.json of allenai/longformer-base-4096, field by field.
STOCK_CONFIG = {
    "attention_mode": "longformer",
    "attention_probs_dropout_prob": 0.1,
    "attention_window": [512] * 12,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "gradient_checkpointing": False,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": 768,
    "ignore_attention_mask": False,
    "initializer_range": 0.02,
    "intermediate_size": 3072,
    "layer_norm_eps": 1e-05,
    "max_position_embeddings": 4098,
    "model_type": "longformer",
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "pad_token_id": 1,
    "sep_token_id": 2,
    "type_vocab_size": 1,
    "vocab_size": 50265,
}


def test_a_stock_config_loads_with_every_field(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    (tmp_path / "config.json").write_text(json.dumps(STOCK_CONFIG))
    config = HfLongformerConfig.from_pretrained(tmp_path)
    for name, value in STOCK_CONFIG.items():
        if name != "gradient_checkpointing":
            assert getattr(config, name) == value, name
    assert config.max_length_tokens == 4096
    # Transformers says that the types differ; no field is unknown to us.
    assert all("`longformer` to instantiate a model of type `hf_longformer`" in text for text in caplog.messages)


def test_unknown_entries_on_disk_are_kept_with_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    tiny_config().save_pretrained(tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(content | {"somebodys_note": "hello"}))
    with caplog.at_level(logging.WARNING):
        config = HfLongformerConfig.from_pretrained(tmp_path)
    assert config.somebodys_note == "hello"
    assert "somebodys_note" in caplog.text
    again = HfLongformerConfig.from_pretrained(tmp_path)
    assert again.to_dict()["somebodys_note"] == "hello"


@pytest.mark.parametrize("load", [HfLongformerConfig.from_pretrained, AutoConfig.from_pretrained])
def test_keywords_of_scripts_are_kept_with_a_warning_and_misspelt_fields_refused(
    load: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    tiny_config().save_pretrained(tmp_path)
    with caplog.at_level(logging.WARNING):
        config = load(tmp_path, num_class=3, finetuning_task="mnli", somebodys_note="hello", num_labels=5)
    assert (config.num_class, config.finetuning_task, config.somebodys_note) == (3, "mnli", "hello")
    assert config.num_labels == 5
    assert [text for text in caplog.messages if "no model" in text] == [
        "the configuration has entries that no model of this package reads: num_class, somebodys_note"
    ]
    for name, field in (
        ("attention_windwo", "attention_window"),
        ("max_position_embedding", "max_position_embeddings"),
    ):
        with pytest.raises(ValueError, match=f"got {name}; did you mean '{field}'"):
            load(tmp_path, **{name: 8})
    for name in ("num_class", "padding_side", "somebodys_note"):
        with pytest.raises(ValueError, match=f"unknown configuration field: got {name}"):
            tiny_config(**{name: 3})
    content = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(content | {"attention_dilatation": 2}))
    with pytest.raises(ValueError, match="got attention_dilatation; did you mean 'attention_dilation'"):
        load(tmp_path)


@pytest.mark.parametrize(
    "options", [{"padding_side": "left"}, {"pad_token": "</s>", "use_fast": True, "legacy": False}], ids=str
)
def test_keywords_of_tokenizers_pass_the_configuration(
    options: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    """Transformers shows all of them to it."""
    HfLongformerModel(tiny_config()).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    with caplog.at_level(logging.WARNING):
        tokenizer = AutoTokenizer.from_pretrained(tmp_path, **options)
    assert all(getattr(tokenizer, name) == value for name, value in options.items() if name.startswith("pad"))
    assert "to instantiate a model of type" not in caplog.text


def test_what_stock_does_not_read_in_its_files_does_not_stop_them(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """Stock Longformer has learned positions, whatever stands there."""
    content = STOCK_CONFIG | {"position_embedding_type": "relative_key", "rope_theta": None}
    (tmp_path / "config.json").write_text(json.dumps(content))
    with caplog.at_level(logging.WARNING):
        config = HfLongformerConfig.from_pretrained(tmp_path)
    assert (config.position_embedding_type, config.rope_theta) == ("absolute", 10_000.0)
    assert "position_embedding_type='relative_key' is not read, nor does stock Longformer" in caplog.text
    (tmp_path / "config.json").write_text(json.dumps(content | {"model_type": "hf_longformer"}))
    with pytest.raises(NotImplementedError, match="got 'relative_key'"):
        HfLongformerConfig.from_pretrained(tmp_path)


def test_keywords_of_stock_make_the_same_config():
    ours, stock = tiny_config(), LongformerConfig(**SIZES)
    assert {name: getattr(ours, name) for name in SIZES} == {name: getattr(stock, name) for name in SIZES}
