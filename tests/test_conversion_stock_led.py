# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`hf_longformer.conversion.export` of encoder-decoders: stock LED, bit by bit, or every reason why not."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file
from sources import ENCODER_DECODER_HEADS, make_source
from transformers import AutoTokenizer, LEDForConditionalGeneration

from hf_longformer import HfLongformerForConditionalGeneration
from hf_longformer.conversion import GateError, InputError, convert, export

HEAD = pytest.mark.parametrize("head", ENCODER_DECODER_HEADS)


def make_ours(place: Path, family: str = "bart", head: str = "ForConditionalGeneration", **options: Any) -> Path:
    """A converted checkpoint for 32 tokens, in windows of 16."""
    make_source(place / "source", family, head, positions=32, **options.pop("source", {}))
    fields = {"max_length": 32, "attention_window": None if family == "led" else 16}
    convert(place / "source", place / "ours", check=False, **(fields | options))
    return place / "ours"


def edit_half(folder: Path, half: str, **changes: Any) -> None:
    content = json.loads((folder / "config.json").read_text())
    content[half] |= changes
    (folder / "config.json").write_text(json.dumps(content))


@HEAD
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_led_round_trip_is_bit_identical(head: str, dtype: torch.dtype, tmp_path: Path) -> None:
    ours = make_ours(tmp_path, "led", head, source={"dtype": dtype})
    assert export(ours, tmp_path / "again")["model_class"] == f"LED{head}"
    files = ["model.safetensors", "config.json", "tokenizer.json"]
    files += ["generation_config.json"] * (head != "Model")
    for name in files:
        old, new = ((tmp_path / folder / name).read_bytes() for folder in ("source", "again"))
        assert new == old if name.endswith("tensors") else json.loads(new) == json.loads(old), name


def test_untied_led_round_trip_keeps_what_is_read(tmp_path: Path) -> None:
    """The table that no half reads is the encoder's then."""
    ours = make_ours(tmp_path, "led", source={"tie_word_embeddings": False})
    export(ours, tmp_path / "again")
    old, new = (load_file(tmp_path / folder / "model.safetensors") for folder in ("source", "again"))
    assert old.keys() == new.keys()
    assert [name for name in old if not torch.equal(old[name], new[name])] == ["led.shared.weight"]


@HEAD
def test_bart_becomes_led(head: str, tmp_path: Path) -> None:
    """Stock LED writes what BART writes, in windows that cover the text."""
    ours = make_ours(tmp_path, head=head, attention_window=64, max_length=128)
    report = export(ours, tmp_path / "stock")
    assert report["largest_difference"] <= 1e-5
    assert report["notes"] == [
        "stock LED has no global token by itself: pass a global_attention_mask with 1 for the first one"
    ]
    stock = getattr(transformers, f"LED{head}").from_pretrained(tmp_path / "stock").eval()
    bart = getattr(transformers, f"Bart{head}").from_pretrained(tmp_path / "source").eval()
    assert type(AutoTokenizer.from_pretrained(tmp_path / "stock")).__name__ == "RobertaTokenizer"
    input_ids = torch.randint(5, 300, (2, 32), generator=torch.Generator().manual_seed(1))
    inputs = {"input_ids": input_ids, "attention_mask": torch.ones_like(input_ids)}
    with torch.no_grad():
        one, other = (model(**inputs, decoder_input_ids=input_ids[:, :9])[0] for model in (stock, bart))
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
        if head != "Model":
            options = {"num_beams": 4, "max_new_tokens": 9, "min_new_tokens": 9}
            assert torch.equal(*(model.generate(**inputs, **options) for model in (stock, bart)))


def test_positions_that_no_whole_window_fills_are_stated(tmp_path: Path) -> None:
    """Stock LED looks up positions of texts that it has padded, and would stop with an IndexError."""
    ours = make_ours(tmp_path, max_length=100, attention_window=48)
    report = export(ours, tmp_path / "stock")
    assert report["notes"][1] == (
        "stock LED takes 96 of the 100 tokens, whole windows of 48: the tokenizer truncates there"
    )
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "stock")
    inputs = tokenizer("the quick brown fox " * 99, truncation=True, return_tensors="pt")
    assert inputs["input_ids"].shape == (1, 96)
    model = LEDForConditionalGeneration.from_pretrained(tmp_path / "stock")
    assert model(**inputs, decoder_input_ids=inputs["input_ids"][:, :3]).logits.isfinite().all()
    with pytest.raises(IndexError):  # what the limit is for
        model(torch.full((1, 97), 9), decoder_input_ids=inputs["input_ids"][:, :3])


REASONS = {
    "dilation": ({"attention_dilation": 2}, {}, "it has no dilation, got attention_dilation=2"),
    "scale": ({"scale_embedding": True}, {"scale_embedding": True}, "it passes over scaled embeddings"),
    "activation": (
        {"hidden_act": "relu"},
        {},
        "encoder and decoder have one activation_function, got 'relu' and 'gelu'",
    ),
    "dropout": ({"hidden_dropout_prob": 0.3}, {}, "encoder and decoder have one dropout, got 0.3 and 0.1"),
    "windows": ({"attention_window": [6, 16]}, {}, r"a multiple of the others, got \[6, 16\]"),
    "wide": ({"attention_window": 64}, {}, "pads every text to a whole window and has positions for 32 tokens, got"),
    "global": ({"global_attention": "cls"}, {}, "by global_attention_mask alone, got global_attention='cls'"),
    "epsilon": ({"layer_norm_eps": 1e-12}, {}, "its layer norms have one epsilon, got layer_norm_eps=1e-12"),
    "types": ({"type_vocab_size": 2}, {}, "its tokens have no types, got type_vocab_size=2"),
    "first": ({"first_position": 2}, {}, "it counts positions from row 0, got first_position=2"),
    "scaled": ({"global_scaling_length": 64}, {}, "depend on the length, got global_scaling_length=64"),
    "shared": ({"global_projections": "shared"}, {}, "projections of their own, got global_projections='shared'"),
    "norms": ({"norm_style": "pre"}, {}, "its layer norms stand behind the attention, got norm_style='pre'"),
}


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_ours(tmp_path_factory.mktemp("ours"))


@pytest.mark.parametrize("reason", REASONS)
def test_what_led_cannot_express_is_refused(reason: str, ours: Path, tmp_path: Path) -> None:
    encoder, decoder, sentence = REASONS[reason]
    shutil.copytree(ours, tmp_path / "ours")
    edit_half(tmp_path / "ours", "encoder", **encoder)
    edit_half(tmp_path / "ours", "decoder", **decoder)
    with pytest.raises(InputError, match=rf"^stock LED cannot express this checkpoint: .*{sentence}"):
        export(tmp_path / "ours", tmp_path / "stock")
    assert not (tmp_path / "stock").exists()


def test_every_reason_is_named_at_once(ours: Path, tmp_path: Path) -> None:
    shutil.copytree(ours, tmp_path / "ours")
    edit_half(tmp_path / "ours", "encoder", attention_dilation=[1, 2], hidden_act="relu", global_attention="cls")
    with pytest.raises(InputError, match=r"no dilation.*one activation_function.*global_attention_mask alone"):
        export(tmp_path / "ours", tmp_path / "stock")


def test_encoder_without_default_global_tokens_needs_no_note(ours: Path, tmp_path: Path) -> None:
    shutil.copytree(ours, tmp_path / "ours")
    edit_half(tmp_path / "ours", "encoder", global_attention="none")
    assert export(tmp_path / "ours", tmp_path / "stock")["notes"] == []
    inputs = {"input_ids": torch.arange(5, 37)[None], "decoder_input_ids": torch.tensor([[2, 9]])}
    with torch.no_grad():
        one = LEDForConditionalGeneration.from_pretrained(tmp_path / "stock").eval()(**inputs).logits
        other = HfLongformerForConditionalGeneration.from_pretrained(tmp_path / "ours").eval()(**inputs).logits
    torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_export_is_compared_before_it_is_written(ours: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong name: keys under that of queries, say."""
    module = sys.modules[export.__module__]
    right = module.led_weights

    def led_weights(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        weights, place = right(state), "led.encoder.layers.0.self_attn.longformer_self_attn."
        return weights | {f"{place}query.weight": weights[f"{place}key.weight"].clone()}

    monkeypatch.setattr(module, "led_weights", led_weights)
    with pytest.raises(GateError, match=r"the outputs differ by .* \(limit 0.0001\)"):
        export(ours, tmp_path / "stock")
    assert not (tmp_path / "stock").exists()


def test_damaged_checkpoint_is_refused(ours: Path, tmp_path: Path) -> None:
    shutil.copytree(ours, tmp_path / "ours")
    edit_half(tmp_path / "ours", "encoder", hidden_size=25)
    with pytest.raises(InputError, match=r"config.json of .* cannot be used"):
        export(tmp_path / "ours", tmp_path / "stock")
