# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`hf_longformer.model_cards.embedded_model`: small models that come along, their cards, tables 4 and 5."""

import json
import math
from pathlib import Path
from typing import Any

import make_tiny
import measure_characters
import numpy as np
import pytest
import torch
from blocks import blocks, run_python
from huggingface_hub import ModelCard
from measure_characters import TEST
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer, RobertaForMaskedLM

import hf_longformer
from hf_longformer.benchmarks.report import put_parts
from hf_longformer.conversion import convert
from hf_longformer.conversion.bits import bits_of_text
from hf_longformer.finetune.clm.texts import Text, bits_per_character
from hf_longformer.model_cards import embedded_model

NAMES = (make_tiny.SHORT_NAME, make_tiny.LONG_NAME)
BOOKS = Path(__file__).parents[2] / "shared" / "data" / "text" / "gutenberg"
MEBIBYTE = 2**20


@pytest.fixture(scope="module")
def results() -> dict[str, Any]:
    return json.loads(make_tiny.RESULTS.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", [*NAMES, measure_characters.NAME])
def test_is_small_and_safe(name: str) -> None:
    files = list(embedded_model(name).iterdir())
    assert {file.suffix for file in files} <= {".json", ".md", ".safetensors", ".txt"}
    assert (embedded_model(name) / "model.safetensors").stat().st_size <= 12 * MEBIBYTE


def test_refuses_other_names() -> None:
    with pytest.raises(
        ValueError, match=r"must be one of characters-tiny-en, longformer-tiny-en-4096, roberta-tiny-en, got 'base'"
    ):
        embedded_model("base")


def test_source_is_a_roberta_of_transformers_and_converts(tmp_path: Path) -> None:
    folder = embedded_model(make_tiny.SHORT_NAME)
    model, report = RobertaForMaskedLM.from_pretrained(folder, output_loading_info=True)
    assert not any(report.values())
    assert (model.config.num_hidden_layers, model.config.hidden_size) == (4, 256)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokenizer.model_max_length == make_tiny.SHORT
    text = "“What do you mean, sir?” — naïve, ½, 語"
    assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text
    done = convert(folder, tmp_path / "long", max_length=make_tiny.LONG)
    assert all(check["passed"] for check in done["checks"])


def test_long_model_reads_4096_tokens() -> None:
    folder = embedded_model(make_tiny.LONG_NAME)
    model = AutoModelForMaskedLM.from_pretrained(folder, dtype="float32").eval()
    assert isinstance(model, hf_longformer.HfLongformerForMaskedLM)
    assert model.config.global_projections == "synced"
    assert AutoTokenizer.from_pretrained(folder).model_max_length == make_tiny.LONG
    ids = torch.randint(5, model.config.vocab_size, (1, make_tiny.LONG), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.isfinite(model(ids).logits).all()


@pytest.mark.parametrize("name", NAMES)
def test_predicts_what_its_table_says(name: str, results: dict[str, Any]) -> None:
    """On the beginning of a book that it was not trained on, in bits per character."""
    book = BOOKS / f"{TEST[1]}.txt"
    if not book.exists():
        pytest.skip("needs the held-out novels")
    text = make_tiny.LINE_BREAK.sub(" ", book.read_text(encoding="utf-8").replace("\r\n", "\n"))[20_000:60_000]
    folder = embedded_model(name)
    model = AutoModelForMaskedLM.from_pretrained(folder, dtype="float32")
    length = AutoTokenizer.from_pretrained(folder).model_max_length
    row = {make_tiny.SHORT_NAME: "source", make_tiny.LONG_NAME: make_tiny.PUBLISHED}[name]
    (said,) = [one for one in results["rows"] if one["row"] == row and one["seed"] == 0]
    measured = bits_of_text(model, AutoTokenizer.from_pretrained(folder), text, length).bits_per_character
    assert measured == pytest.approx(said["bits"][str(length)]["bits_per_character"], rel=0.1)  # of all test books


def test_table_5_has_the_paper_s_order(results: dict[str, Any]) -> None:
    def mean(name: str, length: str) -> float:
        found = [row["bits"][length]["bits_per_character"] for row in results["rows"] if row["row"] == name]
        return sum(found) / len(found)

    source = mean("source", "512")
    assert source < 1.6
    assert mean("copied positions", "4096") < 1.1 * source
    assert mean("random positions", "4096") > 1.5 * source
    assert mean("+ longer training", "4096") < source


@pytest.mark.parametrize("name", NAMES)
def test_card(name: str, results: dict[str, Any], tmp_path: Path) -> None:
    file = make_tiny.CARDS / name / "README.md"
    text = file.read_text(encoding="utf-8")
    assert put_parts(text, make_tiny.parts(results)) == text
    data = ModelCard.load(file).data
    assert (data.license, data.language, data.pipeline_tag) == ("apache-2.0", "en", "fill-mask")
    ((_, code),) = blocks(text, "python")
    assert run_python(code, tmp_path).strip()


def test_readme_shows_table_5(results: dict[str, Any]) -> None:
    text = make_tiny.READMES[0].read_text(encoding="utf-8")
    assert make_tiny.table(results) in text
    assert put_parts(text, make_tiny.parts(results)) == text


@pytest.fixture(scope="module")
def characters() -> dict[str, Any]:
    return json.loads(measure_characters.RESULTS.read_text(encoding="utf-8"))


def test_characters_wrote_what_is_shown(characters: dict[str, Any]) -> None:
    """Cooled sampling writes what the model finds likelier than any novel, and nobody else writes so."""
    folder = embedded_model(measure_characters.NAME)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    shown = characters["generated"]["text"]
    assert shown.startswith(measure_characters.PROMPT)
    ids = tokenizer(shown, return_tensors="pt").input_ids
    with torch.inference_mode():
        logits = model(ids).logits[0, len(measure_characters.PROMPT) - 1 : -1]
    likelihood = logits.log_softmax(-1).gather(-1, ids[0, len(measure_characters.PROMPT) :, None])
    assert -likelihood.mean() / math.log(2) < 1.6
    (row,) = [row for row in characters["variants"] if row["variant"] == measure_characters.SMALL]
    assert row["scores"]["test"]["bits_per_character"] > 1.7


def test_characters_predict_what_their_table_says(characters: dict[str, Any]) -> None:
    book = BOOKS / f"{TEST[1]}.txt"
    if not book.exists():
        pytest.skip("needs the held-out novels")
    model = AutoModelForCausalLM.from_pretrained(embedded_model(measure_characters.NAME))
    ids = np.frombuffer(book.read_bytes()[20_000:60_000], np.uint8)
    measured = bits_per_character(model, Text(ids, len(ids)), 2048, 512, batch_size=4)["bits_per_character"]
    (row,) = [row for row in characters["variants"] if row["variant"] == measure_characters.SMALL]
    assert measured == pytest.approx(row["scores"]["test"]["bits_per_character"], rel=0.05)  # of both books


def test_table_4(characters: dict[str, Any]) -> None:
    """The order of windows is the paper's in every seed; dilation, on average, costs nothing where windows are narrow;
    a million characters are read at constant memory.
    """
    bits = {
        (row["variant"], row["seed"]): row["scores"]["test"]["bits_per_character"] for row in characters["variants"]
    }
    for seed in (0, 1, 2):
        increasing, fixed, decreasing = (
            bits[name, seed] for name in ("increasing windows", "fixed window", "decreasing windows")
        )
        assert increasing < fixed < decreasing
    without, dilated = (sum(bits[name, seed] for seed in (0, 1, 2)) for name in measure_characters.NARROW)
    assert dilated <= without
    first, *_, last = characters["long"]
    assert last["characters"] == measure_characters.LONG
    assert last["peak_bytes"] < 1.02 * first["peak_bytes"]


def test_card_of_characters(characters: dict[str, Any], tmp_path: Path) -> None:
    made = measure_characters.tables(characters)
    for file in measure_characters.READMES:
        text = file.read_text(encoding="utf-8")
        assert put_parts(text, made) == text
    data = ModelCard.load(file).data
    assert (data.license, data.language, data.pipeline_tag) == ("apache-2.0", "en", "text-generation")
    ((_, code),) = blocks(text, "python")
    assert measure_characters.PROMPT in run_python(code, tmp_path)
