# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Auto classes and pipelines find the models; stock checkpoints load; code on the Hub works without the package."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from helpers import SIZES, WORDS, random_ids, randomise, tiny_config, tiny_tokenizer
from torch import nn
from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM, AutoTokenizer, LongformerConfig, pipeline
from transformers.pipelines import SUPPORTED_TASKS

import hf_longformer
from hf_longformer import AUTO_CLASSES, HfLongformerConfig, HfLongformerForMaskedLM, HfLongformerModel

CLASSES = {model_class.__name__: model_class for model_class in AUTO_CLASSES}
HEADS = {name: one for name, one in CLASSES.items() if one.config_class is HfLongformerConfig}
TEXT = "the quick brown fox jumps over the lazy dog who jumps over the fox"


def make(model_class: type, **fields: Any) -> nn.Module:
    if model_class not in HEADS.values():
        size = {"vocab_size": 99, "max_position_embeddings": 64}
        encoder = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
        decoder = {"d_model": 16, "decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 24}
        return randomise(model_class(model_class.config_class(encoder=size | encoder, decoder=size | decoder)))
    return randomise(model_class(tiny_config(**fields, is_decoder="CausalLM" in model_class.__name__)))


def first_output(outputs: Any) -> torch.Tensor:
    names = ("last_hidden_state", "logits", "start_logits")
    return next(outputs[name] for name in names if name in outputs)


def ids_for(model: nn.Module) -> torch.Tensor:
    return random_ids(2, 3, 21) if "MultipleChoice" in type(model).__name__ else random_ids(2, 21)


@pytest.mark.parametrize("name", CLASSES)
def test_auto_classes_load_what_was_saved(name: str, tmp_path: Path):
    model = make(CLASSES[name], num_labels=3)
    model.save_pretrained(tmp_path)
    auto_class = AUTO_CLASSES[CLASSES[name]]
    loaded, report = auto_class.from_pretrained(tmp_path, output_loading_info=True)
    assert type(loaded) is CLASSES[name]
    assert not any(report.values()), report
    assert type(AutoConfig.from_pretrained(tmp_path)) is CLASSES[name].config_class
    saved, read = model.state_dict(), loaded.state_dict()
    assert saved.keys() == read.keys()
    assert all(torch.equal(tensor, read[key]) for key, tensor in saved.items())
    # Not bit by bit: some kernels for AVX2 add up in another order where weights lie at another address.
    outputs = (first_output(one.double().eval()(ids_for(model))) for one in (loaded, model))
    torch.testing.assert_close(*outputs, rtol=1e-12, atol=1e-12)
    assert type(auto_class.from_config(model.config)) is CLASSES[name]


def test_auto_classes_are_complete():
    public = {name for name in hf_longformer.__all__ if name.startswith("HfLongformerFor") or name.endswith("Model")}
    unknown = {"HfLongformerForCoreference", "HfLongformerForEvidenceQuestionAnswering"}  # tasks, to Transformers
    bases = {"HfLongformerPreTrainedModel", "HfLongformerEncoderDecoderPreTrainedModel"}
    assert public - unknown - bases == set(CLASSES)


@pytest.mark.parametrize("name", [name for name in HEADS if name != "HfLongformerModel"])
def test_heads_load_the_weights_of_the_base_model_and_back(name: str, tmp_path: Path):
    base_of_head = HfLongformerModel(tiny_config(is_decoder="CausalLM" in name))
    randomise(base_of_head).save_pretrained(tmp_path / "base")
    head = HEADS[name].from_pretrained(tmp_path / "base")
    expected = HfLongformerModel.from_pretrained(tmp_path / "base").state_dict()
    for key, tensor in head.longformer.state_dict().items():
        assert torch.equal(tensor, expected[key])
    head.save_pretrained(tmp_path / "head")
    base = HfLongformerModel.from_pretrained(tmp_path / "head", add_pooling_layer=False).state_dict()
    assert all(torch.equal(tensor, expected[key]) for key, tensor in base.items())


@pytest.mark.parametrize("name", [name for name in HEADS if "CausalLM" not in name])
def test_stock_checkpoints_load_key_for_key(name: str, tmp_path: Path):
    stock_class = getattr(transformers, name.removeprefix("Hf"))
    labels = 2 if "QuestionAnswering" in name else 3
    config = LongformerConfig(**(SIZES | {"attention_window": [4, 8], "num_labels": labels}))
    stock = randomise(stock_class(config))
    stock.save_pretrained(tmp_path)
    ours, report = HEADS[name].from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values()), report
    assert ours.config.attention_windows == [4, 8]
    ids = ids_for(ours)
    marked = torch.zeros_like(ids)
    marked[..., 0] = 1
    arguments = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "global_attention_mask": marked}
    expected = first_output(stock(**arguments))
    torch.testing.assert_close(first_output(ours.eval()(**arguments)), expected, rtol=1e-5, atol=1e-5)
    ours.save_pretrained(tmp_path / "again")
    assert AutoConfig.from_pretrained(tmp_path / "again").model_type == "hf_longformer"
    again = AUTO_CLASSES[HEADS[name]].from_pretrained(tmp_path / "again").eval()
    assert torch.equal(first_output(again(**arguments)), first_output(ours(**arguments)))


PIPELINES = {
    "fill-mask": "HfLongformerForMaskedLM",
    "text-classification": "HfLongformerForSequenceClassification",
    "token-classification": "HfLongformerForTokenClassification",
    "feature-extraction": "HfLongformerModel",
    "question-answering": "HfLongformerForQuestionAnswering",
}


@pytest.fixture
def saved(tmp_path: Path, request: pytest.FixtureRequest) -> tuple[Path, nn.Module]:
    model = make(HEADS[PIPELINES[request.param]])
    model.save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    return tmp_path, model


@pytest.mark.parametrize("saved", ["fill-mask"], indirect=True)
def test_pipeline_fill_mask(saved: tuple[Path, nn.Module]):
    folder, model = saved
    answers = pipeline("fill-mask", model=str(folder))(TEXT.replace("brown", "<mask>"), top_k=3)
    encoded = tiny_tokenizer()(TEXT.replace("brown", "<mask>"), return_tensors="pt")
    expected = model(**encoded).logits[0, 3].softmax(dim=0).topk(3)
    assert [answer["token"] for answer in answers] == expected.indices.tolist()
    torch.testing.assert_close(torch.tensor([answer["score"] for answer in answers]), expected.values)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("name", ["HfLongformerForMaskedLM", "HfLongformerForCausalLM"])
def test_language_models_are_loaded_as_they_were_resized(name: str, tied: bool, tmp_path: Path):
    """Where weights are not tied, the bias of the vocabulary stands in two parameters, which resizing makes one."""
    config = tiny_config(tie_word_embeddings=tied, is_decoder="Causal" in name)
    model, ids = randomise(getattr(hf_longformer, name)(config)), random_ids(2, 20)
    before = model(ids).logits
    model.resize_token_embeddings(config.vocab_size + 9)
    after = model(ids).logits
    torch.testing.assert_close(after[..., : before.shape[-1]], before)
    model.save_pretrained(tmp_path)
    loaded, report = getattr(hf_longformer, name).from_pretrained(tmp_path, output_loading_info=True)
    assert not any(report.values())
    assert (loaded.lm_head.bias is loaded.lm_head.decoder.bias) == tied
    torch.testing.assert_close(loaded(ids).logits, after, rtol=0, atol=0)


@pytest.mark.parametrize("saved", ["text-classification"], indirect=True)
def test_pipeline_text_classification(saved: tuple[Path, nn.Module]):
    folder, model = saved
    texts = [TEXT, "lazy dog", "who"]
    answers = pipeline("text-classification", model=str(folder))(texts, batch_size=3)
    for text, answer in zip(texts, answers, strict=True):
        scores = model(**tiny_tokenizer()(text, return_tensors="pt")).logits[0].softmax(dim=0)
        assert answer["label"] == f"LABEL_{scores.argmax()}"
        assert answer["score"] == pytest.approx(scores.max().item(), abs=1e-5)


@pytest.mark.parametrize("saved", ["token-classification"], indirect=True)
def test_pipeline_token_classification(saved: tuple[Path, nn.Module]):
    folder, model = saved
    answers = pipeline("token-classification", model=str(folder), ignore_labels=[])(TEXT)
    logits = model(**tiny_tokenizer()(TEXT, return_tensors="pt")).logits[0, 1:-1]
    assert [answer["entity"] for answer in answers] == [f"LABEL_{label}" for label in logits.argmax(dim=1)]
    assert [answer["word"] for answer in answers] == TEXT.split()[: len(answers)]


@pytest.mark.parametrize("saved", ["feature-extraction"], indirect=True)
def test_pipeline_feature_extraction(saved: tuple[Path, nn.Module]):
    folder, model = saved
    features = pipeline("feature-extraction", model=str(folder))(TEXT, return_tensors=True)
    expected = model(**tiny_tokenizer()(TEXT, return_tensors="pt")).last_hidden_state
    torch.testing.assert_close(features, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.skipif("question-answering" not in SUPPORTED_TASKS, reason="this Transformers has no such pipeline")
@pytest.mark.parametrize("saved", ["question-answering"], indirect=True)
def test_pipeline_question_answering(saved: tuple[Path, nn.Module]):
    answer = pipeline("question-answering", model=str(saved[0]))(question="who jumps", context=TEXT)
    assert answer["answer"] in TEXT


def test_auto_tokenizer_needs_no_registration(tmp_path: Path):
    make(HfLongformerModel).save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert tokenizer("the dog").input_ids == [0, WORDS.index("the"), WORDS.index("dog"), 2]


WITHOUT_PACKAGE = """
import sys

sys.modules["hf_longformer"] = None

import torch
from transformers import AutoConfig, AutoModel, AutoModelForMaskedLM

folder = sys.argv[1]
try:
    AutoConfig.from_pretrained(folder + "/base")
except ValueError:
    refused = True
arguments = torch.load(folder + "/inputs.pt")
results = {"refused": refused}
for name, auto_class in (("base", AutoModel), ("head", AutoModelForMaskedLM)):
    for implementation in ("sdpa", "eager"):
        load = {"trust_remote_code": True, "attn_implementation": implementation}
        model = auto_class.from_pretrained(folder + "/" + name, **load).eval()
        results[name, implementation] = model(**arguments)[0].detach()
        results["module"] = type(model).__module__
torch.save(results, folder + "/outputs.pt")
"""


def test_code_on_the_hub_works_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    base, head = make(HfLongformerModel), make(HfLongformerForMaskedLM)
    registered = ((HfLongformerConfig, AutoConfig), (HfLongformerModel, AutoModel))
    for ours, auto_class in (*registered, (HfLongformerForMaskedLM, AutoModelForMaskedLM)):
        monkeypatch.setattr(ours, "_auto_class", None)  # undone after the test, and with it what follows
        ours.register_for_auto_class(auto_class.__name__)
    base.save_pretrained(tmp_path / "base")
    head.save_pretrained(tmp_path / "head")
    files = {file.stem for file in (tmp_path / "base").glob("*.py")}
    assert {"modeling_hf_longformer", "configuration_hf_longformer", "window_pattern"} < files
    assert not {"cli", "drawing"} & files

    marked = torch.zeros(2, 21, dtype=torch.long)
    marked[0, 3] = 1
    arguments = {"input_ids": random_ids(2, 21), "global_attention_mask": marked}
    torch.save(arguments, tmp_path / "inputs.pt")
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "HF_MODULES_CACHE": str(tmp_path / "modules")}
    command = [sys.executable, "-c", WITHOUT_PACKAGE, str(tmp_path)]
    run = subprocess.run(command, env=os.environ | offline, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    results = torch.load(tmp_path / "outputs.pt")
    assert results["refused"]
    assert results["module"].startswith("transformers_modules.")
    for name, model in (("base", base), ("head", head)):
        expected = first_output(model(**arguments))
        assert torch.equal(results[name, "sdpa"], expected)
        torch.testing.assert_close(results[name, "eager"], expected, rtol=1e-5, atol=1e-5)
