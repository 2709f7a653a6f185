# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""The traps of turning RoBERTa into Longformer that other converters fell into, one test each.

T16 (signatures of patched attention modules) and T17 (three-valued masks) cannot occur: the model is a class of its
own, with bool masks. T20 (LED) is `test_conversion_encoder_decoders.py`.
"""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from sources import edit_json, make_source
from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM, AutoTokenizer

import hf_longformer
from hf_longformer.conversion import InputError, convert, export
from hf_longformer.conversion.plan import extend_positions

SMALL = {"max_length": 777, "attention_window": 16}
POSITIONS = "longformer.embeddings.position_embeddings.weight"


def convert_small(tmp_path: Path, family: str = "roberta", head: str = "ForMaskedLM", **overrides: object) -> dict:
    make_source(tmp_path / "source", family, head, **overrides)
    convert(tmp_path / "source", tmp_path / "output", **SMALL)
    return load_file(tmp_path / "output" / "model.safetensors")


@pytest.mark.parametrize("family", ["roberta", "bert"])
def test_t1_position_rows_are_tiled_behind_the_special_ones(family: str, tmp_path: Path) -> None:
    new = convert_small(tmp_path, family)[POSITIONS]
    old = load_file(tmp_path / "source" / "model.safetensors")[f"{family}.embeddings.position_embeddings.weight"]
    first, new_first = (2, 2) if family == "roberta" else (0, 1)
    assert new.shape[0] == new_first + 777
    for i in range(777):
        assert torch.equal(new[new_first + i], old[first + i % 130]), i


def test_t2_special_rows_are_copied_and_finite(tmp_path: Path) -> None:
    new = convert_small(tmp_path)[POSITIONS]
    old = load_file(tmp_path / "source" / "model.safetensors")["roberta.embeddings.position_embeddings.weight"]
    assert torch.equal(new[:2], old[:2])
    assert new.isfinite().all()
    bert = extend_positions(torch.ones(4, 3), 0, 1, 9)
    assert torch.equal(bert[0], torch.zeros(3))


@pytest.mark.parametrize("target", [130, 131, 259, 260, 1500])
def test_t3_any_target_length(target: int) -> None:
    table = torch.randn(132, 5)
    assert extend_positions(table, 2, 2, target).shape == (target + 2, 5)


def test_t4_limit_is_tokens_and_not_rows(tmp_path: Path) -> None:
    convert_small(tmp_path)
    model = AutoModelForMaskedLM.from_pretrained(tmp_path / "output").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "output")
    assert (model.config.max_position_embeddings, tokenizer.model_max_length) == (779, 777)
    with torch.no_grad():
        model(torch.full((1, 777), 9))
        with pytest.raises(ValueError, match="778 tokens, the model takes 777"):
            model(torch.full((1, 778), 9))


def test_t5_position_id_buffers_are_dropped(tmp_path: Path) -> None:
    make_source(tmp_path / "source")
    file = tmp_path / "source" / "model.safetensors"
    buffers = {
        "roberta.embeddings.position_ids": torch.arange(132)[None],
        "roberta.embeddings.token_type_ids": torch.zeros(1, 132, dtype=torch.long),
    }
    save_file(load_file(file) | buffers, file, metadata={"format": "pt"})
    convert(tmp_path / "source", tmp_path / "output", **SMALL)
    names = load_file(tmp_path / "output" / "model.safetensors").keys()
    assert not [name for name in names if "position_ids" in name or "token_type_ids" in name]


@pytest.mark.parametrize(("family", "rows"), [("roberta", 1), ("bert", 2)])
def test_t6_token_types_are_kept(family: str, rows: int, tmp_path: Path) -> None:
    new = convert_small(tmp_path, family)["longformer.embeddings.token_type_embeddings.weight"]
    old = load_file(tmp_path / "source" / "model.safetensors")[f"{family}.embeddings.token_type_embeddings.weight"]
    assert new.shape[0] == rows
    assert torch.equal(new, old)


def test_t7_config_comes_from_the_source(tmp_path: Path) -> None:
    convert_small(tmp_path, hidden_dropout_prob=0.03, attention_probs_dropout_prob=0.07, layer_norm_eps=3e-4)
    old = AutoConfig.from_pretrained(tmp_path / "source").to_dict()
    new = AutoConfig.from_pretrained(tmp_path / "output").to_dict()
    changed = {name for name in old.keys() & new.keys() if old[name] != new[name]}
    assert changed <= {"model_type", "architectures", "max_position_embeddings", "_name_or_path"}
    assert new["layer_norm_eps"] == 3e-4


def test_t8_global_projections_are_clones(tmp_path: Path) -> None:
    weights = convert_small(tmp_path)
    prefix = "longformer.encoder.layer.1.attention.self."
    for name in ("query", "key", "value"):
        for kind in ("weight", "bias"):
            assert torch.equal(weights[f"{prefix}{name}_global.{kind}"], weights[f"{prefix}{name}.{kind}"])
    model = hf_longformer.HfLongformerForMaskedLM.from_pretrained(tmp_path / "output")
    attention = model.longformer.encoder.layer[1].attention.self
    assert attention.query_global.weight.data_ptr() != attention.query.weight.data_ptr()


def test_t9_head_stays_tied(tmp_path: Path) -> None:
    convert_small(tmp_path)
    model, info = hf_longformer.HfLongformerForMaskedLM.from_pretrained(tmp_path / "output", output_loading_info=True)
    assert not info["missing_keys"]
    assert not info["unexpected_keys"]
    assert model.lm_head.decoder.weight is model.longformer.embeddings.word_embeddings.weight
    assert model.lm_head.decoder.bias is model.lm_head.bias
    assert model.lm_head.bias.abs().max() > 0


@pytest.mark.parametrize("family", ["roberta", "bert"])
def test_t10_language_model_head_is_kept(family: str, tmp_path: Path) -> None:
    weights = convert_small(tmp_path, family)
    assert {"lm_head.dense.weight", "lm_head.layer_norm.weight", "lm_head.bias"} <= weights.keys()


def test_t11_no_pooler_is_made_up(tmp_path: Path) -> None:
    weights = convert_small(tmp_path)
    assert not [name for name in weights if "pooler" in name]


def test_t12_bert_comes_under_the_same_position_rule(tmp_path: Path) -> None:
    """BERT counts from 0, ours from `pad_token_id + 1`: equal on right-padded text, two token types included."""
    source = make_source(tmp_path / "source", "bert", "Model")
    convert(tmp_path / "source", tmp_path / "output", **SMALL)
    result = AutoModel.from_pretrained(tmp_path / "output", attention_window=260).eval()
    input_ids = torch.randint(5, 90, (2, 100), generator=torch.Generator().manual_seed(0))
    attention_mask = torch.ones_like(input_ids)
    attention_mask[1, 60:] = 0
    input_ids[1, 60:] = 0
    inputs = {
        "input_ids": input_ids,
        "attention_mask": attention_mask,
        "token_type_ids": (torch.arange(100) > 30).long().expand(2, -1),
    }
    with torch.no_grad():
        theirs, ours = source(**inputs).last_hidden_state, result(**inputs).last_hidden_state
    real = attention_mask.bool()
    torch.testing.assert_close(ours[real], theirs[real], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("family", ["roberta", "bert"])
def test_t13_tokenizer_stays_what_it_was(family: str, tmp_path: Path) -> None:
    convert_small(tmp_path, family)
    old, new = (AutoTokenizer.from_pretrained(tmp_path / name) for name in ("source", "output"))
    assert type(old) is type(new)
    assert old.special_tokens_map == new.special_tokens_map
    text = "the quick brown dog, naïve café 🙂"
    assert old(text)["input_ids"] == new(text)["input_ids"]
    assert AutoConfig.from_pretrained(tmp_path / "output").sep_token_id == new.sep_token_id


def test_t14_every_length_limit_on_disk_is_new(tmp_path: Path) -> None:
    make_source(tmp_path / "source")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "source")
    tokenizer.backend_tokenizer.enable_truncation(max_length=64)
    tokenizer.backend_tokenizer.enable_padding(length=64)
    tokenizer.save_pretrained(tmp_path / "source")
    convert(tmp_path / "source", tmp_path / "output", **SMALL)
    saved = json.loads((tmp_path / "output" / "tokenizer.json").read_text())
    assert (saved["truncation"], saved["padding"]) == (None, None)
    assert json.loads((tmp_path / "output" / "tokenizer_config.json").read_text())["model_max_length"] == 777
    reloaded = AutoTokenizer.from_pretrained(tmp_path / "output")
    assert len(reloaded("dog " * 5000, truncation=True)["input_ids"]) == 777
    assert len(reloaded("dog")["input_ids"]) < 10


def test_t15_window_is_the_total_width(tmp_path: Path) -> None:
    convert_small(tmp_path)
    model = AutoModel.from_pretrained(tmp_path / "output", add_pooling_layer=False, num_hidden_layers=1).eval()
    embeddings = torch.randn(1, 64, 24, requires_grad=True)
    model(inputs_embeds=embeddings).last_hidden_state[0, 32].pow(2).sum().backward()
    seen = embeddings.grad[0].abs().sum(dim=-1).nonzero().flatten()
    assert (int(seen.min()), int(seen.max())) == (32 - 8, 32 + 8)


def test_t18_card_says_what_the_global_projections_are(tmp_path: Path) -> None:
    convert_small(tmp_path)
    assert (
        "| global projections | copied from the local ones, not trained |"
        in (tmp_path / "output" / "README.md").read_text()
    )


def test_t19_result_is_a_type_of_its_own(tmp_path: Path) -> None:
    weights = convert_small(tmp_path)
    config = json.loads((tmp_path / "output" / "config.json").read_text())
    assert config["model_type"] == "hf_longformer"
    assert config["architectures"] == ["HfLongformerForMaskedLM"]
    assert not [name for name in weights if "roberta" in name]
    model, info = AutoModelForMaskedLM.from_pretrained(tmp_path / "output", output_loading_info=True)
    assert isinstance(model, hf_longformer.HfLongformerForMaskedLM)
    assert not any(info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))


@pytest.mark.parametrize("positions", [20, 128, 510])
@pytest.mark.parametrize("family", ["roberta", "bert"])
def test_t21_source_length_is_read_from_its_table(family: str, positions: int, tmp_path: Path) -> None:
    make_source(tmp_path / "source", family, positions=positions)
    report = convert(tmp_path / "source", tmp_path / "output", **SMALL)
    assert report["source_max_length"] == positions


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_t22_dtype_of_the_source_is_kept(dtype: torch.dtype, tmp_path: Path) -> None:
    weights = convert_small(tmp_path, dtype=dtype)
    assert {weight.dtype for weight in weights.values()} == {dtype}


def test_t22_dtype_is_cast_when_asked(tmp_path: Path) -> None:
    make_source(tmp_path / "source")
    convert(tmp_path / "source", tmp_path / "output", dtype="bfloat16", **SMALL)
    weights = load_file(tmp_path / "output" / "model.safetensors")
    assert {weight.dtype for weight in weights.values()} == {torch.bfloat16}


@pytest.mark.parametrize("family", ["roberta", "bert"])
@pytest.mark.parametrize("head", ["ForSequenceClassification", "ForQuestionAnswering", "ForTokenClassification"])
def test_t23_fine_tuned_heads_are_kept(family: str, head: str, tmp_path: Path) -> None:
    weights = convert_small(tmp_path, family, head)
    assert json.loads((tmp_path / "output" / "config.json").read_text())["architectures"] == [f"HfLongformer{head}"]
    assert [name for name in weights if not name.startswith("longformer.")]


def test_t24_card_does_not_oversell(tmp_path: Path) -> None:
    convert_small(tmp_path)
    assert "Converted, not further trained." in (tmp_path / "output" / "README.md").read_text()


def test_positions_that_cannot_be_extended_are_refused(tmp_path: Path) -> None:
    make_source(tmp_path / "source")
    edit_json(tmp_path / "source" / "config.json", position_embedding_type="relative_key")
    with pytest.raises(InputError, match="learned absolute positions"):
        convert(tmp_path / "source", tmp_path / "output", **SMALL)


def test_export_of_a_conversion_is_stock(tmp_path: Path) -> None:
    """Need 4: the result is a real Longformer for everybody."""
    convert_small(tmp_path)
    report = export(tmp_path / "output", tmp_path / "stock")
    assert report["largest_difference"] <= 1e-5
    assert json.loads((tmp_path / "stock" / "config.json").read_text())["model_type"] == "longformer"


@pytest.mark.parametrize("family", ["roberta", "xlm-roberta", "longformer", "bert"])
def test_padding_that_stands_in_texts_is_refused(family: str, tmp_path: Path) -> None:
    """Where config.json has another padding than the tokenizer: the source counts positions without that token."""
    make_source(tmp_path / "source", family)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "source")
    edit_json(tmp_path / "source" / "config.json", pad_token_id=tokenizer.cls_token_id)
    with pytest.raises(
        InputError, match=rf"got pad_token_id {tokenizer.cls_token_id} of config.json in text by the token"
    ):
        convert(tmp_path / "source", tmp_path / "output", **SMALL)
    assert not (tmp_path / "output").exists()


def test_tokenizer_with_more_tokens_than_embeddings_is_refused(tmp_path: Path) -> None:
    """A table with rows to spare is none of that."""
    make_source(tmp_path / "source")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "source")
    rows = AutoConfig.from_pretrained(tmp_path / "source").vocab_size
    tokenizer.add_tokens([f"<added-{number}>" for number in range(rows - len(tokenizer))])
    tokenizer.save_pretrained(tmp_path / "source")
    assert convert(tmp_path / "source", tmp_path / "full", **SMALL)["checks"]
    tokenizer.add_tokens(["<one>", "<two>"])
    tokenizer.save_pretrained(tmp_path / "source")
    with pytest.raises(
        InputError, match=rf"than the {rows:,} that have embeddings, got 2 more, up to number {rows + 1:,}"
    ):
        convert(tmp_path / "source", tmp_path / "output", **SMALL)
    assert not (tmp_path / "output").exists()
    model = AutoModelForMaskedLM.from_pretrained(tmp_path / "source")
    model.resize_token_embeddings(rows + 5)
    model.save_pretrained(tmp_path / "source")
    assert convert(tmp_path / "source", tmp_path / "spare", **SMALL)["checks"]
