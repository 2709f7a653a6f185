# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""What differs between source families: names, heads, special ids, tokenizers; and what is refused, with a reason."""

import json
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from sources import FAMILIES, edit_json, make_source
from transformers import AutoModel, AutoTokenizer, pipeline

import hf_longformer
from hf_longformer.conversion import InputError, convert, export
from hf_longformer.conversion.families import REFUSED

SMALL = {"max_length": 777, "attention_window": 16}
TEXTS = (
    "the quick brown fox jumps over the lazy dog",
    "Zwölf Boxkämpfer, naïve café, 1,234.56 €",
    "長い文書を読む。 Длинный текст. نص طويل. 🙂",
    "a pair",
)
NARROW = pytest.mark.parametrize("family", [family for family in FAMILIES if family not in ("electra", "longformer")])


@pytest.mark.parametrize("family", FAMILIES)
def test_tokenizer_keeps_class_and_ids(family: str, tmp_path: Path) -> None:
    make_source(tmp_path / "source", family, "Model")
    convert(tmp_path / "source", tmp_path / "output", **SMALL)
    old, new = (AutoTokenizer.from_pretrained(tmp_path / name) for name in ("source", "output"))
    assert type(new) is type(old)
    assert new.special_tokens_map == old.special_tokens_map
    for text in TEXTS:
        assert new(text)["input_ids"] == old(text)["input_ids"]
        assert new(text, TEXTS[0])["input_ids"] == old(text, TEXTS[0])["input_ids"]
    assert new("", "")["input_ids"] == old("", "")["input_ids"]


def test_camembert_separator_is_found(tmp_path: Path) -> None:
    """Its separator is 6 and not 2: the question of a pair would otherwise never be found."""
    make_source(tmp_path / "source", "camembert", "ForQuestionAnswering")
    convert(tmp_path / "source", tmp_path / "output", **SMALL)
    model = hf_longformer.HfLongformerForQuestionAnswering.from_pretrained(tmp_path / "output")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "output")
    assert model.config.sep_token_id == tokenizer.sep_token_id == 6
    inputs = tokenizer("the quick fox", "the lazy dog", return_tensors="pt")
    mask = model.default_global_attention_mask(inputs["input_ids"], None, None)
    separator = inputs["input_ids"][0].tolist().index(6)
    assert mask[0].tolist() == [1] * separator + [0] * (mask.shape[1] - separator)


def test_pairs_for_a_model_without_token_types(tmp_path: Path) -> None:
    """DistilBERT passes over the token types of BERT's tokenizer; the result's tokenizer gives none."""
    source = make_source(tmp_path / "source", "distilbert", "ForQuestionAnswering")
    assert "token_type_ids" in AutoTokenizer.from_pretrained(tmp_path / "source")("a", "b")
    convert(tmp_path / "source", tmp_path / "output", max_length=777, attention_window=260)
    inputs = AutoTokenizer.from_pretrained(tmp_path / "output")("the quick fox", "the lazy dog", return_tensors="pt")
    assert set(inputs) == {"input_ids", "attention_mask"}
    result = hf_longformer.HfLongformerForQuestionAnswering.from_pretrained(tmp_path / "output").eval()
    with torch.no_grad():
        ours, theirs = result(**inputs).start_logits, source(**inputs).start_logits
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


@NARROW
def test_fill_mask_pipeline(family: str, tmp_path: Path) -> None:
    make_source(tmp_path / "source", family, "ForMaskedLM")
    convert(tmp_path / "source", tmp_path / "output", max_length=777, attention_window=260)
    old, new = (pipeline("fill-mask", str(tmp_path / name)) for name in ("source", "output"))
    text = f"the quick {new.tokenizer.mask_token} fox"
    for theirs, ours in zip(old(text), new(text), strict=True):
        assert ours["token"] == theirs["token"]
        assert ours["score"] == pytest.approx(theirs["score"], abs=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("task", "head"),
    [
        ("text-classification", "ForSequenceClassification"),
        ("token-classification", "ForTokenClassification"),
        ("feature-extraction", "Model"),
    ],
)
def test_pipelines(family: str, task: str, head: str, tmp_path: Path) -> None:
    labels = {} if head == "Model" else {"id2label": {0: "no", 1: "yes", 2: "maybe"}}
    make_source(tmp_path / "source", family, head, **labels)
    convert(tmp_path / "source", tmp_path / "output", max_length=777)
    output = pipeline(task, str(tmp_path / "output"))("the quick brown fox " * 20)
    if task == "text-classification":
        assert output[0]["label"] in labels["id2label"].values()
    elif task == "token-classification":
        assert {entity["entity"] for entity in output} <= set(labels["id2label"].values())
    else:
        assert len(output[0]) > 50


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("head", ["ForMaskedLM", "ForSequenceClassification", "ForMultipleChoice", "Model"])
def test_export_of_every_family(family: str, head: str, tmp_path: Path) -> None:
    """Stock Transformers computes the same, or a sentence says what it has not."""
    make_source(tmp_path / "source", family, head)
    convert(tmp_path / "source", tmp_path / "output", **SMALL)
    if family == "electra":
        with pytest.raises(InputError, match="embeddings are as wide as its layers, got embedding_size=11"):
            export(tmp_path / "output", tmp_path / "stock")
    elif family == "distilbert" and head in ("ForSequenceClassification", "ForMultipleChoice"):
        with pytest.raises(InputError, match="its heads have a tanh, got classifier_activation='relu'"):
            export(tmp_path / "output", tmp_path / "stock")
    else:
        report = export(tmp_path / "output", tmp_path / "stock")
        assert report["largest_difference"] <= 1e-5
        stock = getattr(transformers, f"Longformer{head}").from_pretrained(tmp_path / "stock")
        assert stock.config.model_type == "longformer"
        assert type(AutoTokenizer.from_pretrained(tmp_path / "stock")) is type(
            AutoTokenizer.from_pretrained(tmp_path / "source")
        )


def test_electra_discriminator_becomes_an_encoder(tmp_path: Path) -> None:
    source = make_source(tmp_path / "source", "electra", "ForPreTraining")
    report = convert(tmp_path / "source", tmp_path / "output", **SMALL)
    assert report["model_class"] == "HfLongformerModel"
    assert any("discriminator_predictions" in name for name in report["dropped_weights"])
    result = AutoModel.from_pretrained(tmp_path / "output", attention_window=260, add_pooling_layer=False).eval()
    input_ids = torch.arange(5, 90)[None]
    with torch.no_grad():
        theirs = source.electra(input_ids).last_hidden_state
        torch.testing.assert_close(result(input_ids).last_hidden_state, theirs, atol=1e-5, rtol=1e-5)


def test_electra_with_embeddings_as_wide_as_layers_is_stock(tmp_path: Path) -> None:
    make_source(tmp_path / "source", "electra", "Model", embedding_size=24)
    convert(tmp_path / "source", tmp_path / "output", **SMALL)
    assert hf_longformer.HfLongformerConfig.from_pretrained(tmp_path / "output").embedding_size is None
    assert export(tmp_path / "output", tmp_path / "stock")["largest_difference"] <= 1e-5


def test_head_that_computes_something_else_is_refused(tmp_path: Path) -> None:
    make_source(tmp_path / "source", "electra", "ForMultipleChoice", summary_type="mean")
    with pytest.raises(InputError, match=r"summary_type='first' only.*got 'mean'.*--architecture ElectraModel"):
        convert(tmp_path / "source", tmp_path / "output", **SMALL)
    make_source(tmp_path / "relu", "bert", "ForMaskedLM", hidden_act="relu")
    with pytest.raises(InputError, match="hidden_act='gelu' only"):
        convert(tmp_path / "relu", tmp_path / "output", **SMALL)
    assert convert(tmp_path / "relu", tmp_path / "output", architecture="BertModel", **SMALL)["checks"]


@pytest.mark.parametrize("model_type", [*REFUSED, "no-such-family"])
def test_other_families_are_refused_with_the_reason(model_type: str, tmp_path: Path) -> None:
    make_source(tmp_path / "source")
    edit_json(tmp_path / "source" / "config.json", model_type=model_type)
    reason = f"because {REFUSED[model_type]}" if model_type in REFUSED else f"{model_type!r} cannot be converted"
    with pytest.raises(InputError) as caught:
        convert(tmp_path / "source", tmp_path / "output", **SMALL)
    assert reason in str(caught.value)
    assert "supported are bart, bert, camembert, data2vec-text, distilbert, electra" in str(caught.value)


def test_config_of_2019_without_model_type(tmp_path: Path) -> None:
    """Its class says what it is, in config.json or on the command line."""
    make_source(tmp_path / "source", "bert", "ForMaskedLM")
    edit_json(tmp_path / "source" / "config.json", model_type=None, architectures=None, pad_token_id=None)
    with pytest.raises(InputError, match=r"neither model_type nor a known class .* --architecture RobertaForMaskedLM"):
        convert(tmp_path / "source", tmp_path / "output", **SMALL)
    report = convert(tmp_path / "source", tmp_path / "output", architecture="BertForMaskedLM", **SMALL)
    assert all(check["passed"] for check in report["checks"])
    assert report["tokenizer"] == "BertTokenizer"


def test_names_of_2018_are_read(tmp_path: Path) -> None:
    """Layer norms had gamma and beta."""
    make_source(tmp_path / "source", "bert", "Model")
    file = tmp_path / "source" / "model.safetensors"
    old = {".LayerNorm.weight": ".LayerNorm.gamma", ".LayerNorm.bias": ".LayerNorm.beta"}
    renamed = {}
    for name, weight in load_file(file).items():
        ending = next((ending for ending in old if name.endswith(ending)), "")
        renamed[name.removesuffix(ending) + old.get(ending, "")] = weight
    assert any(name.endswith("gamma") for name in renamed)
    save_file(renamed, file, metadata={"format": "pt"})
    report = convert(tmp_path / "source", tmp_path / "output", **SMALL)
    assert all(check["passed"] for check in report["checks"])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_of_every_family(family: str, dtype: torch.dtype, tmp_path: Path) -> None:
    """Compared in float32, on the rounded weights, layer by layer."""
    make_source(tmp_path / "source", family, "ForMaskedLM", dtype=dtype)
    report = convert(tmp_path / "source", tmp_path / "output", max_length=777)
    assert all(check["passed"] for check in report["checks"])
    assert {weight.dtype for weight in load_file(tmp_path / "output" / "model.safetensors").values()} == {dtype}


@pytest.mark.parametrize("family", ["roberta", "bert", "distilbert", "electra"])
def test_untied_output_layer_is_kept(family: str, tmp_path: Path) -> None:
    """Also when config.json says that it is tied and the weights are not."""
    make_source(tmp_path / "source", family, "ForMaskedLM", tie_word_embeddings=False)
    for claim in (False, True):
        edit_json(tmp_path / "source" / "config.json", tie_word_embeddings=claim)
        report = convert(tmp_path / "source", tmp_path / f"output-{claim}", **SMALL)
        assert all(check["passed"] for check in report["checks"])
        config = json.loads((tmp_path / f"output-{claim}" / "config.json").read_text())
        assert config["tie_word_embeddings"] is False


def test_dry_run_reads_no_weight_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_source(tmp_path / "source", "bert", "ForMaskedLM")

    def read(*_: object) -> None:
        raise AssertionError("a weight was read")

    with monkeypatch.context() as patch:
        patch.setattr("hf_longformer.conversion.weights.Weights.read", read)
        plan = convert(tmp_path / "source", tmp_path / "output", dry_run=True, **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]
    report = convert(tmp_path / "source", tmp_path / "output", **SMALL)
    assert {name: plan[name] for name in plan.keys() & report.keys()} == {
        name: report[name] for name in plan.keys() & report.keys()
    }
    weights = load_file(tmp_path / "output" / "model.safetensors")
    assert plan["parameters"] == sum(weight.numel() for weight in weights.values())
    assert plan["bytes"] == sum(weight.nbytes for weight in weights.values())
    assert len(plan["cloned"]) == sum("_global" in name for name in weights)
