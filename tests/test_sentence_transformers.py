# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Sentence-transformers folders: converted whole, they load with `SentenceTransformer` and embed as before."""

import json
import sys
from pathlib import Path

import numpy
import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file
from sources import FAMILIES, edit_json, make_source

from hf_longformer.conversion import GateError, InputError, convert, export
from hf_longformer.conversion.sentence_modules import copy_modules

sentence_transformers = pytest.importorskip("sentence_transformers", reason="sentence-transformers is not installed")
TEXTS = ["the quick brown fox", "long documents need long encoders and longer windows", "", "a"]
SMALL = {"max_length": 777, "attention_window": 16}


def make_sentence_source(
    folder: Path, family: str = "bert", dense: bool = True
) -> "sentence_transformers.SentenceTransformer":
    """An encoder with random weights, mean pooling, a dense layer and normalisation."""
    make_source(folder / "encoder", family, "Model")
    modules = sentence_transformers.sentence_transformer.modules
    encoder = modules.Transformer(str(folder / "encoder"), max_seq_length=100)
    parts = [encoder, modules.Pooling(24, "mean")]
    if dense:
        torch.manual_seed(5)
        parts.append(modules.Dense(24, 7))
    model = sentence_transformers.SentenceTransformer(modules=[*parts, modules.Normalize()], device="cpu")
    model.save(str(folder / "sentences"))
    return model


def load(folder: Path, **options: object) -> "sentence_transformers.SentenceTransformer":
    return sentence_transformers.SentenceTransformer(str(folder), device="cpu", local_files_only=True, **options)


@pytest.mark.parametrize("family", FAMILIES)
def test_folder_of_every_family(family: str, tmp_path: Path) -> None:
    source = make_sentence_source(tmp_path, family)
    report = convert(tmp_path / "sentences", tmp_path / "output", max_length=777)
    assert all(check["passed"] for check in report["checks"])
    assert any(check["name"].startswith("embeddings of short texts") for check in report["checks"])
    result = load(tmp_path / "output")
    assert result.max_seq_length == 777
    numpy.testing.assert_allclose(result.encode(TEXTS), source.encode(TEXTS), atol=1e-5, rtol=0)
    long = result.encode(["fox " * 150, "fox " * 150 + "dog " * 20])
    assert numpy.isfinite(long).all()
    assert abs(long[0] - long[1]).max() > 1e-6  # what comes late is read


def test_card_says_how_to_use_it(tmp_path: Path) -> None:
    make_sentence_source(tmp_path)
    convert(tmp_path / "sentences", tmp_path / "output", **SMALL)
    card = ModelCard.load(tmp_path / "output" / "README.md")
    assert (card.data.library_name, card.data.pipeline_tag) == ("sentence-transformers", "sentence-similarity")
    assert 'SentenceTransformer("PATH")' in card.text


def test_encoder_in_a_folder_of_its_own(tmp_path: Path) -> None:
    """As sentence-transformers wrote it until 2021."""
    source = make_sentence_source(tmp_path)
    folder = tmp_path / "sentences"
    (folder / "0_Transformer").mkdir()
    outside = {"modules.json", "config_sentence_transformers.json", "README.md", "0_Transformer"}
    for file in list(folder.iterdir()):
        if file.name not in outside and not file.is_dir():
            file.rename(folder / "0_Transformer" / file.name)
    modules = json.loads((folder / "modules.json").read_text())
    modules[0] |= {"path": "0_Transformer", "type": "sentence_transformers.models.Transformer"}
    (folder / "modules.json").write_text(json.dumps(modules))
    convert(folder, tmp_path / "output", **SMALL)
    result = load(tmp_path / "output", config_kwargs={"attention_window": 260})
    numpy.testing.assert_allclose(result.encode(TEXTS), source.encode(TEXTS), atol=1e-5, rtol=0)


def test_export_loads_without_this_package(tmp_path: Path) -> None:
    source = make_sentence_source(tmp_path)
    convert(tmp_path / "sentences", tmp_path / "output", max_length=777, attention_window=260)
    export(tmp_path / "output", tmp_path / "stock")
    result = load(tmp_path / "stock")
    assert result[0].auto_model.config.model_type == "longformer"
    numpy.testing.assert_allclose(result.encode(TEXTS), source.encode(TEXTS), atol=1e-5, rtol=0)


def test_changed_module_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A conversion that lost the dense layer would not pass."""

    def lose(root: Path, folder: Path, *arguments: object) -> None:
        copy_modules(root, folder, *arguments)
        modules = json.loads((folder / "modules.json").read_text())
        edited = [module for module in modules if not module["type"].endswith("Normalize")]
        (folder / "modules.json").write_text(json.dumps(edited))

    make_sentence_source(tmp_path)
    monkeypatch.setattr(sys.modules[convert.__module__], "copy_modules", lose)
    with pytest.raises(GateError, match="embeddings of short texts"):
        convert(tmp_path / "sentences", tmp_path / "output", **SMALL)


def test_code_of_the_checkpoint_is_refused(tmp_path: Path) -> None:
    make_sentence_source(tmp_path)
    modules = json.loads((tmp_path / "sentences" / "modules.json").read_text())
    modules[0]["type"] = "custom_st.Transformer"
    (tmp_path / "sentences" / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(InputError, match=r"got 'custom_st.Transformer', which is code of its own"):
        convert(tmp_path / "sentences", tmp_path / "output", **SMALL)


def test_pickled_module_only_with_the_flag(tmp_path: Path) -> None:
    make_sentence_source(tmp_path)
    (dense,) = (tmp_path / "sentences").glob("*_Dense")
    torch.save(load_file(dense / "model.safetensors"), dense / "pytorch_model.bin")
    (dense / "model.safetensors").unlink()
    with pytest.raises(InputError, match="got only a pickle in 2_Dense: --allow-pickle copies it"):
        convert(tmp_path / "sentences", tmp_path / "output", **SMALL)
    convert(tmp_path / "sentences", tmp_path / "output", allow_pickle=True, **SMALL)
    assert (tmp_path / "output" / dense.name / "pytorch_model.bin").exists()


def test_settings_of_the_encoder_are_kept(tmp_path: Path) -> None:
    make_sentence_source(tmp_path)
    edit_json(tmp_path / "sentences" / "sentence_bert_config.json", do_lower_case=True)
    convert(tmp_path / "sentences", tmp_path / "output", **SMALL)
    settings = json.loads((tmp_path / "output" / "sentence_bert_config.json").read_text())
    assert settings["do_lower_case"] is True
    assert settings["max_seq_length"] == 777
