# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`hf_longformer.conversion` of BART and LED: every weight, every way to write embeddings, generation, and back."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from blocks import blocks
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file
from sources import ENCODER_DECODER_HEADS, ENCODER_DECODERS, edit_json, make_source
from transformers import AutoModel, AutoModelForSeq2SeqLM, AutoTokenizer, GenerationConfig

import hf_longformer
from hf_longformer import HfLongformerEncoderDecoderConfig, HfLongformerForConditionalGeneration
from hf_longformer.conversion import GateError, InputError, convert, plan_lines, sync_global, verify
from hf_longformer.conversion.plan import Plan
from hf_longformer.transformers_internals import release

FILE = "model.safetensors"
SMALL: dict[str, Any] = {"max_length": 333, "attention_window": 16}
WORDS = "model.encoder.embeddings.word_embeddings.weight"
POSITIONS = "model.encoder.embeddings.position_embeddings.weight"
FAMILY = pytest.mark.parametrize("family", ENCODER_DECODERS)


@pytest.fixture(autouse=True)
def few_tokens(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The gate writes fewer tokens, but where every head is converted."""
    if "every_head" not in request.node.name:
        monkeypatch.setattr("hf_longformer.conversion.outputs.GENERATED", 5)


def make(folder: Path, family: str = "bart", head: str = "ForConditionalGeneration", **options: Any) -> Any:
    return make_source(folder, family, head, positions=options.pop("positions", 34), **options)


def load(folder: Path, **changes: Any) -> Any:
    """A converted checkpoint with other fields of its encoder."""
    config = HfLongformerEncoderDecoderConfig.from_pretrained(folder)
    for name, value in changes.items():
        setattr(config.encoder, name, value)
    kind = getattr(hf_longformer, json.loads((folder / "config.json").read_text())["architectures"][0])
    return kind.from_pretrained(folder, config=config).eval()


def sample(family: str, length: int = 32) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    input_ids = torch.randint(5, 300, (2, length), generator=generator)
    mask = torch.ones_like(input_ids)
    mask[1, length // 2 :] = 0
    inputs = {"input_ids": input_ids.masked_fill(mask == 0, 1), "attention_mask": mask}
    if family == "led":
        inputs["global_attention_mask"] = (torch.arange(length) % 20 == 0).long() * mask
    return inputs


def change_weights(folder: Path, **changes: torch.Tensor | None) -> None:
    """Puts other weights into a file; None takes one out."""
    weights = {**load_file(folder / FILE), **changes}
    save_file({name: one for name, one in weights.items() if one is not None}, folder / FILE, metadata={"format": "pt"})


def measured(report: dict, name: str) -> Any:
    return next(check["measured"] for check in report["checks"] if check["name"].startswith(name))


@FAMILY
@pytest.mark.parametrize("head", ENCODER_DECODER_HEADS)
def test_convert_every_head(family: str, head: str, tmp_path: Path) -> None:
    """Outputs and what is written agree, compared here and not by the gate; windows and projections of LED stay."""
    source = make(tmp_path / "source", family, head)
    report = convert(tmp_path / "source", tmp_path / "output", max_length=333)
    assert all(check["passed"] for check in report["checks"])
    result = load(tmp_path / "output", **({} if family == "led" else {"attention_window": 68}))
    auto = AutoModel if head == "Model" else AutoModelForSeq2SeqLM
    assert type(auto.from_pretrained(tmp_path / "output")) is type(result)
    assert result.config.encoder.attention_windows == ([8, 16] if family == "led" else [68, 68])
    assert result.config.encoder.global_projections == ("trained" if family == "led" else "copied")
    inputs = sample(family)
    with torch.no_grad():
        theirs, ours = (model(**inputs, decoder_input_ids=inputs["input_ids"][:, :41]) for model in (source, result))
        real = inputs["attention_mask"].bool()
        states = (one.encoder_last_hidden_state[real] for one in (ours, theirs))
        torch.testing.assert_close(*states, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(ours[0], theirs[0], atol=1e-5, rtol=1e-5)
        if head != "Model":
            options: dict[str, Any] = {"max_new_tokens": 9, "min_new_tokens": 9, "num_beams": 3}
            assert torch.equal(*(model.generate(**inputs, **options) for model in (source, result)))


@FAMILY
def test_default_global_tokens_are_the_first_and_stock_led_is_said_to_have_none(family: str, tmp_path: Path) -> None:
    source = make(tmp_path / "source", family)
    report = convert(tmp_path / "source", tmp_path / "output", check=False, **SMALL)
    assert bool(report["notes"]) == (family == "led")
    assert ("none is in stock LED" in (tmp_path / "output" / "README.md").read_text()) == (family == "led")
    fields = {"attention_window": [8, 16]} if family == "led" else {"attention_window": 68}
    first = (torch.arange(32) == 0).long().expand(2, -1)
    inputs = {"input_ids": sample(family)["input_ids"][:1].expand(2, -1), "decoder_input_ids": torch.full((2, 3), 9)}
    with torch.no_grad():
        by_default = load(tmp_path / "output", **fields)(**inputs).logits
        of_first = load(tmp_path / "output", **fields)(**inputs, global_attention_mask=first).logits
        without = load(tmp_path / "output", global_attention="none", **fields)(**inputs).logits
        theirs = source(**inputs).logits
    torch.testing.assert_close(by_default, of_first)
    torch.testing.assert_close(without, theirs, atol=1e-5, rtol=1e-5)
    assert family == "bart" or (by_default - theirs).abs().max() > 1e-2


def test_positions_are_behind_the_two_rows_of_bart_and_the_decoder_keeps_its_own(tmp_path: Path) -> None:
    make(tmp_path / "source")
    convert(tmp_path / "source", tmp_path / "output", check=False, **SMALL)
    old, new = (load_file(tmp_path / name / FILE) for name in ("source", "output"))
    assert (len(new[POSITIONS]), len(new["model.decoder.embed_positions.weight"])) == (333, 34)
    for i in range(333):
        assert torch.equal(new[POSITIONS][i], old["model.encoder.embed_positions.weight"][2 + i % 34]), i
    theirs = old["model.decoder.embed_positions.weight"]
    assert torch.equal(new["model.decoder.embed_positions.weight"], theirs[2:])


@FAMILY
def test_global_projections_are_clones_or_the_sources_own(family: str, tmp_path: Path) -> None:
    make(tmp_path / "source", family)
    convert(tmp_path / "source", tmp_path / "output", check=False, **SMALL)
    old, new = (load_file(tmp_path / name / FILE) for name in ("source", "output"))
    place, there = (
        "model.encoder.encoder.layer.1.attention.self.",
        "led.encoder.layers.1.self_attn.longformer_self_attn.",
    )
    for name in ("query", "key", "value"):
        for kind in ("weight", "bias"):
            theirs = new[f"{place}{name}.{kind}"] if family == "bart" else old[f"{there}{name}_global.{kind}"]
            assert torch.equal(new[f"{place}{name}_global.{kind}"], theirs)


@pytest.mark.parametrize(
    ("family", "options", "expected"),
    [("bart", {}, (16_384, 1024)), ("led", {}, (16_384, [8, 16])), ("led", {"attention_window": 32}, (16_384, 32))],
    ids=["bart", "led", "another window"],
)
def test_default_lengths_and_windows(family: str, options: dict, expected: tuple, tmp_path: Path) -> None:
    make(tmp_path / "source", family)
    plan = convert(tmp_path / "source", tmp_path / "output", dry_run=True, **options)
    assert (plan["max_length"], plan["attention_window"]) == expected
    decoder = 34 if family == "bart" else 41
    lines = "\n".join(plan_lines(plan))
    assert f"position rows   0 … 16383 the source's 34, repeated {16384 / 34:.4g} times" in lines
    assert f"decoder         {decoder} tokens, as in the source" in lines


@FAMILY
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
def test_dry_run_counts_what_is_written(family: str, tied: bool, tmp_path: Path) -> None:
    make(tmp_path / "source", family, tie_word_embeddings=tied)
    plan = convert(tmp_path / "source", tmp_path / "output", dry_run=True, **SMALL)
    report = convert(tmp_path / "source", tmp_path / "output", check=False, **SMALL)
    weights = load_file(tmp_path / "output" / FILE)
    assert plan["parameters"] == report["parameters"] == sum(weight.numel() for weight in weights.values())
    assert plan["bytes"] == sum(weight.nbytes for weight in weights.values())


def test_scaled_embeddings_stay_scaled(tmp_path: Path) -> None:
    source = make(tmp_path / "source", scale_embedding=True)
    report = convert(tmp_path / "source", tmp_path / "output", **SMALL)
    assert all(check["passed"] for check in report["checks"])
    result = load(tmp_path / "output", attention_window=68)
    assert (result.config.encoder.scale_embedding, result.config.decoder.scale_embedding) == (True, True)
    with torch.no_grad():
        ours, theirs = (model(**sample("bart")).logits for model in (result, source))
    torch.testing.assert_close(ours[0], theirs[0], atol=1e-4, rtol=1e-4)


@FAMILY
def test_fields_of_both_halves_are_kept(family: str, tmp_path: Path) -> None:
    fields = {"dropout": 0.03, "attention_dropout": 0.05, "activation_dropout": 0.07, "activation_function": "relu"}
    halves = {"encoder_layerdrop": 0.11, "decoder_layerdrop": 0.13, "decoder_start_token_id": 0, "init_std": 0.03}
    make(tmp_path / "source", family, **fields, **halves, id2label={0: "no", 1: "yes"}, label2id={"no": 0, "yes": 1})
    convert(tmp_path / "source", tmp_path / "one", check=False, **SMALL)
    convert(tmp_path / "one", tmp_path / "output", max_length=400, check=False)
    config = HfLongformerEncoderDecoderConfig.from_pretrained(tmp_path / "output")
    encoder, decoder = config.encoder, config.decoder
    assert (encoder.hidden_dropout_prob, encoder.attention_probs_dropout_prob) == (0.03, 0.05)
    assert (encoder.activation_dropout, encoder.hidden_act, encoder.layerdrop) == (0.07, "relu", 0.11)
    assert {name: getattr(decoder, name) for name in fields} == fields
    assert (decoder.decoder_layerdrop, decoder.init_std, encoder.initializer_range) == (0.13, 0.03, 0.03)
    assert (config.decoder_start_token_id, config.id2label) == (0, {0: "no", 1: "yes"})
    assert (encoder.sep_token_id, encoder.max_length_tokens) == (2, 400)


# Files that hold the words otherwise than today's Transformers writes them, and what the embeddings then are.
@FAMILY
@pytest.mark.parametrize("left", ["shared", "lm_head", "encoder", "all"])
def test_tied_words_are_found_wherever_they_are(family: str, left: str, tmp_path: Path) -> None:
    make(tmp_path / "source", family)
    base = "model" if family == "bart" else "led"
    words = load_file(tmp_path / "source" / FILE)[f"{base}.shared.weight"]
    places = {
        "shared": [f"{base}.shared.weight"],
        "lm_head": ["lm_head.weight"],
        "encoder": [f"{base}.encoder.embed_tokens.weight"],
    }
    places["all"] = [name for names in places.values() for name in names] + [f"{base}.decoder.embed_tokens.weight"]
    kept = {name: words.clone() for name in places[left]}
    change_weights(tmp_path / "source", **{f"{base}.shared.weight": None, "final_logits_bias": None, **kept})
    report = convert(tmp_path / "source", tmp_path / "output", check=left == "lm_head", **SMALL)
    weights = load_file(tmp_path / "output" / FILE)
    assert torch.equal(weights[WORDS], words)
    assert not {"lm_head.weight", "model.decoder.embed_tokens.weight"} & weights.keys()
    assert not weights["final_logits_bias"].any()
    assert not [name for name in report["dropped_weights"] if "shared" not in name]


@FAMILY
def test_untied_words_are_three_tables(family: str, tmp_path: Path) -> None:
    """The fourth, which no half reads, is dropped and named."""
    source = make(tmp_path / "source", family, tie_word_embeddings=False)
    report = convert(tmp_path / "source", tmp_path / "output", **SMALL)
    assert all(check["passed"] for check in report["checks"])
    old, new = source.state_dict(), load_file(tmp_path / "output" / FILE)
    base = "model" if family == "bart" else "led"
    assert report["dropped_weights"] == [f"{base}.shared.weight"]
    assert torch.equal(new[WORDS], old[f"{base}.encoder.embed_tokens.weight"])
    assert torch.equal(new["model.decoder.embed_tokens.weight"], old[f"{base}.decoder.embed_tokens.weight"])
    assert torch.equal(new["lm_head.weight"], old["lm_head.weight"])


@FAMILY
def test_untied_words_of_transformers_4_are_the_shared_ones(family: str, tmp_path: Path) -> None:
    """Its files leave out both embeddings, which Transformers 5 would make random."""
    source = make(tmp_path / "source", family, tie_word_embeddings=False)
    base = "model" if family == "bart" else "led"
    halves = [f"{base}.{half}.embed_tokens.weight" for half in ("encoder", "decoder")]
    change_weights(tmp_path / "source", **dict.fromkeys(halves))
    report = convert(tmp_path / "source", tmp_path / "output", **SMALL)
    assert all(check["passed"] for check in report["checks"])
    weights, shared = load_file(tmp_path / "output" / FILE), source.state_dict()[f"{base}.shared.weight"]
    assert torch.equal(weights[WORDS], shared)
    assert torch.equal(weights["model.decoder.embed_tokens.weight"], shared)
    assert not torch.equal(weights["lm_head.weight"], shared)
    assert report["dropped_weights"] == []
    change_weights(tmp_path / "source", **{"lm_head.weight": None})
    with pytest.raises(InputError, match=r"needs weights that .* does not have, got none for lm_head.weight"):
        convert(tmp_path / "source", tmp_path / "again", check=False, **SMALL)


def test_output_of_its_own_is_kept_though_config_ties_it(tmp_path: Path) -> None:
    source = make(tmp_path / "source")
    own = torch.randn(source.lm_head.weight.shape)
    change_weights(tmp_path / "source", **{"lm_head.weight": own})
    report = convert(tmp_path / "source", tmp_path / "output", **SMALL)
    assert all(check["passed"] for check in report["checks"])
    result = load(tmp_path / "output")
    assert not result.config.tie_word_embeddings
    assert torch.equal(result.lm_head.weight, own)
    assert torch.equal(result.model.decoder.embed_tokens.weight, source.model.shared.weight)


def test_head_that_is_chosen(tmp_path: Path) -> None:
    """The encoder-decoder of a whole model, and a whole model of one that is tied."""
    make(tmp_path / "source")
    report = convert(tmp_path / "source", tmp_path / "body", architecture="BartModel", **SMALL)
    assert (report["source_class"], report["model_class"]) == ("BartModel", "HfLongformerEncoderDecoderModel")
    assert report["dropped_weights"] == ["final_logits_bias"]
    make(tmp_path / "body-only", head="Model")
    report = convert(tmp_path / "body-only", tmp_path / "whole", architecture="BartForConditionalGeneration", **SMALL)
    assert report["model_class"] == "HfLongformerForConditionalGeneration"
    with pytest.raises(InputError, match="one of BartModel, BartForConditionalGeneration, got 'BartForQuestionAnswe"):
        convert(tmp_path / "source", tmp_path / "no", architecture="BartForQuestionAnswering", **SMALL)


SETTINGS = {"num_beams": 4, "max_length": 142, "min_length": 56, "no_repeat_ngram_size": 3, "length_penalty": 2.0}
SETTINGS |= {"early_stopping": True, "forced_bos_token_id": 0, "forced_eos_token_id": 2}


@FAMILY
@pytest.mark.parametrize("place", ["generation_config.json", "config.json", "both"])
def test_generation_settings_are_carried_over(family: str, place: str, tmp_path: Path) -> None:
    """Also those of old checkpoints, in config.json; where both files are, Transformers reads one alone."""
    make(tmp_path / "source", family)
    file = tmp_path / "source" / "generation_config.json"
    file.unlink()
    if place != "generation_config.json":
        edit_json(tmp_path / "source" / "config.json", **SETTINGS, task_specific_params={"summarization": {}})
    if place != "config.json":
        GenerationConfig(**(SETTINGS | {"num_beams": 3})).save_pretrained(tmp_path / "source")
    convert(tmp_path / "source", tmp_path / "output", check=False, **SMALL)
    kind = getattr(transformers, ENCODER_DECODERS[family][0] + "ForConditionalGeneration")
    theirs = kind.from_pretrained(tmp_path / "source").generation_config.to_diff_dict()
    result = HfLongformerForConditionalGeneration.from_pretrained(tmp_path / "output")
    ours = result.generation_config.to_diff_dict()
    for unimportant in ("_from_model_config", "transformers_version"):
        theirs.pop(unimportant, None), ours.pop(unimportant, None)
    assert ours == theirs
    assert {name: ours[name] for name in SETTINGS} == SETTINGS | ({} if place == "config.json" else {"num_beams": 3})
    assert not SETTINGS.keys() & json.loads((tmp_path / "output" / "config.json").read_text()).keys()


def test_summarizer_of_2020_writes_what_it_wrote(tmp_path: Path) -> None:
    """A config.json of those days: how to generate stands in it, with one setting under a name of its own."""
    source = make(tmp_path / "source")
    (tmp_path / "source" / "generation_config.json").unlink()
    of_2020 = {"normalize_before": False, "normalize_embedding": True, "add_final_layer_norm": False}
    of_2020 |= {"extra_pos_embeddings": 2, "static_position_embeddings": False, "output_past": True, "prefix": " "}
    settings = {**SETTINGS, "max_length": 30, "min_length": 12, "forced_bos_token_id": None}
    edit_json(tmp_path / "source" / "config.json", **of_2020, **settings, force_bos_token_to_be_generated=True)
    report = convert(tmp_path / "source", tmp_path / "output", **SMALL)
    assert all(check["passed"] for check in report["checks"])
    source = transformers.BartForConditionalGeneration.from_pretrained(tmp_path / "source")
    result = load(tmp_path / "output", attention_window=68)
    assert source.generation_config.forced_bos_token_id == 0
    inputs = sample("bart")
    assert torch.equal(result.generate(**inputs), source.generate(**inputs))


def test_generation_settings_that_transformers_cannot_read_are_refused(tmp_path: Path) -> None:
    """Those that it only warns of are kept."""
    make(tmp_path / "source")
    file = tmp_path / "source" / "generation_config.json"
    if release(transformers.__version__) >= (5, 23):  # before, it did not write those either
        edit_json(file, do_sample=False, temperature=0.3)
        convert(tmp_path / "source", tmp_path / "output", check=False, **SMALL)
        assert json.loads((tmp_path / "output" / file.name).read_text())["temperature"] == 0.3
        shutil.rmtree(tmp_path / "output")
    for wrong in ('{"early_stopping": 7}', "[1]", "{"):
        file.write_text(wrong)
        with pytest.raises(InputError, match=r"generation|cannot be loaded as Bart"):
            convert(tmp_path / "source", tmp_path / "output", **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


@pytest.mark.parametrize(
    ("family", "field", "value"),
    [
        ("bart", "normalize_before", True),
        ("bart", "add_final_layer_norm", True),
        ("bart", "static_position_embeddings", True),
        ("bart", "normalize_embedding", False),
        ("bart", "extra_pos_embeddings", 0),
        ("led", "scale_embedding", True),
        ("led", "normalize_before", True),
    ],
)
def test_settings_that_transformers_passes_over_are_refused(
    family: str, field: str, value: Any, tmp_path: Path
) -> None:
    """Once mBART went under the name of BART, and LED takes `scale_embedding` without a word."""
    make(tmp_path / "source", family, "Model")
    edit_json(tmp_path / "source" / "config.json", **{field: value})
    with pytest.raises(InputError, match=rf"{field} of config.json must be .* since Transformers passes over it"):
        convert(tmp_path / "source", tmp_path / "output", **SMALL)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_kept(dtype: torch.dtype, tmp_path: Path) -> None:
    make(tmp_path / "source", dtype=dtype)
    report = convert(tmp_path / "source", tmp_path / "output", **SMALL)
    assert all(check["passed"] for check in report["checks"])
    assert {weight.dtype for weight in load_file(tmp_path / "output" / FILE).values()} == {dtype}
    assert HfLongformerForConditionalGeneration.from_pretrained(tmp_path / "output").dtype == dtype


def test_dtype_is_cast_when_asked_and_shards_are_read(tmp_path: Path) -> None:
    source = make(tmp_path / "source", "led")
    (tmp_path / "source" / FILE).unlink()
    source.save_pretrained(tmp_path / "source", max_shard_size="40KB")
    assert (tmp_path / "source" / f"{FILE}.index.json").exists()
    report = convert(tmp_path / "source", tmp_path / "output", dtype="bfloat16", **SMALL)
    assert all(check["passed"] for check in report["checks"])
    assert {weight.dtype for weight in load_file(tmp_path / "output" / FILE).values()} == {torch.bfloat16}


def test_pickled_weights_only_with_the_flag(tmp_path: Path) -> None:
    """All four names of the words point at one tensor there."""
    source = make(tmp_path / "source")
    (tmp_path / "source" / FILE).unlink()
    torch.save(source.state_dict(), tmp_path / "source" / "pytorch_model.bin")
    with pytest.raises(InputError, match="--allow-pickle"):
        convert(tmp_path / "source", tmp_path / "output", **SMALL)
    report = convert(tmp_path / "source", tmp_path / "output", allow_pickle=True, **SMALL)
    assert all(check["passed"] for check in report["checks"])


def test_own_checkpoint_is_extended_again_and_again(tmp_path: Path) -> None:
    make(tmp_path / "source")
    convert(tmp_path / "source", tmp_path / "one", max_length=68, attention_window=16, attention_dilation=2)
    report = convert(tmp_path / "one", tmp_path / "two", max_length=136)
    assert report["source_class"] == "HfLongformerForConditionalGeneration"
    assert all(check["passed"] for check in report["checks"])
    one, two = (load_file(tmp_path / name / FILE) for name in ("one", "two"))
    assert torch.equal(two[POSITIONS], one[POSITIONS].repeat(2, 1))
    assert all(torch.equal(two[name], one[name]) for name in one if name != POSITIONS)
    encoder = HfLongformerEncoderDecoderConfig.from_pretrained(tmp_path / "two").encoder
    assert (encoder.max_length_tokens, encoder.attention_window, encoder.attention_dilation) == (136, 16, 2)
    assert encoder.global_projections == "copied"
    with pytest.raises(InputError, match="at least the source's 68 tokens, got 50"):
        convert(tmp_path / "one", tmp_path / "three", max_length=50)


@pytest.mark.parametrize("position_init", ["interpolate", "random"])
def test_other_positions_than_copies(position_init: str, tmp_path: Path) -> None:
    make(tmp_path / "source")
    report = convert(tmp_path / "source", tmp_path / "output", position_init=position_init, **SMALL)
    assert all(check["passed"] for check in report["checks"])
    assert measured(report, "logits equal the source's at 34 tokens, float32, on the source's positions") <= 1e-4


@pytest.mark.parametrize(
    ("name", "check"),
    [
        ("model.encoder.encoder.layer.1.output.LayerNorm.bias", "hidden states equal"),
        ("model.decoder.layers.0.encoder_attn.k_proj.weight", "hidden states of the decoder equal"),
        ("model.decoder.embed_positions.weight", "last hidden states of the decoder, 34 tokens of its own, equal"),
        ("model.encoder.encoder.layer.0.attention.self.value_global.weight", "weights on disk equal"),
        ("final_logits_bias", "logits equal"),
    ],
)
def test_verify_catches_a_changed_weight(name: str, check: str, converted: tuple[Path, Path], tmp_path: Path) -> None:
    source, output = converted
    shutil.copytree(output, tmp_path / "output")
    changed = load_file(output / FILE)[name].clone()
    changed[-1] += 0.1  # of positions the last one alone
    change_weights(tmp_path / "output", **{name: changed * 1.01})
    with pytest.raises(GateError, match=check):
        verify(source, tmp_path / "output")


@pytest.mark.parametrize(
    ("file", "half", "field", "value", "check"),
    [
        ("config.json", "encoder", "layer_norm_eps", 0.1, "hidden states equal"),
        ("config.json", "decoder", "activation_function", "relu", "hidden states of the decoder equal"),
        ("generation_config.json", None, "num_beams", 7, "generation settings equal the source's: not num_beams"),
    ],
)
def test_verify_catches_a_changed_config(
    file: str, half: str | None, field: str, value: Any, check: str, converted: tuple[Path, Path], tmp_path: Path
) -> None:
    source, output = converted
    shutil.copytree(output, tmp_path / "output")
    content = json.loads((output / file).read_text())
    (content if half is None else content[half])[field] = value
    (tmp_path / "output" / file).write_text(json.dumps(content))
    with pytest.raises(GateError, match=check):
        verify(source, tmp_path / "output")


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A BART and its conversion, to be copied."""
    place = tmp_path_factory.mktemp("bart")
    make(place / "source")
    convert(place / "source", place / "output", **SMALL)
    return place / "source", place / "output"


def test_verify_of_what_was_converted(converted: tuple[Path, Path]) -> None:
    assert all(check["passed"] for check in verify(*converted)["checks"])


@pytest.mark.parametrize("trap", ["the encoder's", "the decoder's"])
def test_gate_catches_positions_that_are_shifted(trap: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """BART's two rows in front, kept instead of the last two: all shapes fit, and nothing is written."""
    make(tmp_path / "source")
    right, table = Plan.weight, POSITIONS if trap == "the encoder's" else "model.decoder.embed_positions.weight"

    def weight(plan: Plan, name: str) -> torch.Tensor:
        read = plan.source.weights.read
        return read(plan.taken[name])[:-2].repeat(10, 1)[: plan.shapes[name][0]] if name == table else right(plan, name)

    monkeypatch.setattr(Plan, "weight", weight)
    expected = (
        r"position rows repeat.*last hidden states equal" if table == POSITIONS else "hidden states of the decoder"
    )
    with pytest.raises(GateError, match=expected):
        convert(tmp_path / "source", tmp_path / "output", **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_sync_global(tmp_path: Path) -> None:
    make(tmp_path / "source", "led")
    convert(tmp_path / "source", tmp_path / "output", check=False, **SMALL)
    assert sync_global(tmp_path / "output") == {"weights": 12, "changed": 12}
    config = HfLongformerEncoderDecoderConfig.from_pretrained(tmp_path / "output")
    assert config.encoder.global_projections == "synced"
    assert "synced: copied from the local ones after training" in (tmp_path / "output" / "README.md").read_text()
    weights = load_file(tmp_path / "output" / FILE)
    assert all(
        torch.equal(weights[name], weights[name.replace("_global", "")]) for name in weights if "_global" in name
    )
    assert load(tmp_path / "output")


def test_card_shows_how_to_write(converted: tuple[Path, Path], tmp_path: Path) -> None:
    source, output = converted
    (tmp_path / "card.md").write_text("---\npipeline_tag: summarization\nlicense: mit\n---\n# Source\n")
    shutil.copytree(source, tmp_path / "source")
    shutil.copy(tmp_path / "card.md", tmp_path / "source" / "README.md")
    convert(tmp_path / "source", tmp_path / "output", check=False, **SMALL)
    card = ModelCard.load(tmp_path / "output" / "README.md")
    assert (card.data.pipeline_tag, card.data.license) == ("summarization", "mit")
    text = (output / "README.md").read_text()
    assert ModelCard.load(output / "README.md").data.pipeline_tag is None
    assert "| decoder | as in the source: at most 34 tokens, without a window |" in text
    assert "does not generate text" not in text
    ((_, code),) = blocks(text, "python")
    exec(code.replace("PATH", str(output)).replace("142", "9"), {})  # noqa: S102


@FAMILY
def test_tokenizer_keeps_class_and_ids(family: str, tmp_path: Path) -> None:
    make(tmp_path / "source", family, "Model")
    convert(tmp_path / "source", tmp_path / "output", check=False, **SMALL)
    old, new = (AutoTokenizer.from_pretrained(tmp_path / name) for name in ("source", "output"))
    assert type(old) is type(new)
    assert new.model_max_length == 333
    for text in ("the quick brown fox", "naïve café 🙂", ""):
        assert set(new(text)) == {"input_ids", "attention_mask"}
        assert new(text)["input_ids"] == old(text)["input_ids"]


@pytest.mark.parametrize(
    ("family", "changes", "message"),
    [
        ("bart", {"max_position_embeddings": 60}, "max_position_embeddings is 60, got 36 rows, of which 2 are special"),
        ("led", {"max_encoder_position_embeddings": 60}, "max_encoder_position_embeddings is 60, got 34 rows"),
        ("led", {"max_decoder_position_embeddings": 40}, "decoder.embed_positions.weight must have the shape"),
        ("led", {"attention_window": [8, 16, 8]}, "one per layer"),
        ("led", {"attention_window": 10**6}, "attention_window of config.json must be at most"),
        ("bart", {"decoder_layers": 10**9}, "decoder_layers of config.json does not fit the weights"),
        ("bart", {"decoder_layers": 2}, "needs weights that"),
        ("bart", {"encoder_attention_heads": 5}, "multiple of num_attention_heads"),
        ("bart", {"d_model": 25}, "cannot be used|do not go together|must have the shape"),
        ("bart", {"vocab_size": 200}, "no more tokens than|must have the shape"),
        ("bart", {"quantization_config": {"bits": 8}}, "quantized weights cannot be converted"),
        ("bart", {"is_decoder": True}, "only encoders"),
    ],
    ids=str,
)
def test_damaged_config_is_refused(family: str, changes: dict, message: str, tmp_path: Path) -> None:
    make(tmp_path / "source", family)
    edit_json(tmp_path / "source" / "config.json", **changes)
    with pytest.raises(InputError, match=message):
        convert(tmp_path / "source", tmp_path / "output", **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]
