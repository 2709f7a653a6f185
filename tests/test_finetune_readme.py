# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`finetune/README.md`: its commands and its Python run, one after the other; every recipe is named and readable."""

import csv
import dataclasses
import json
import math
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import make_tiny
import make_tiny_bart
import measure_ablation
import measure_characters
import measure_embeddings
import measure_evidence
import measure_litbank
import measure_tasks
import pytest
import torch
import yaml
from blocks import blocks, run, run_python
from embedding_runs import make_encoder, write_pairs
from hotpotqa_runs import invented, write
from sources import CORPUS, make_source
from summarization_runs import make_rows, make_summariser
from test_run_coref import CONLL
from test_run_qa import make_squad

from hf_longformer import HfLongformerConfig, HfLongformerForCausalLM
from hf_longformer.benchmarks.report import put_parts
from hf_longformer.conversion import convert
from hf_longformer.finetune import run_mlm
from hf_longformer.finetune.arguments import LongTrainingArguments, ModelArguments, read_recipe
from hf_longformer.finetune.clm import task
from hf_longformer.finetune.tasks import module_of

README = Path(run_mlm.__file__).with_name("README.md")
TEXT = README.read_text(encoding="utf-8")
RECIPES = sorted((README.parent / "recipes").glob("*.yaml"))
SMALL = "max_steps: 2\nsave_strategy: 'no'\n"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where the names in the README mean something."""
    folder = tmp_path_factory.mktemp("finetune")
    make_source(folder / "source")
    convert(folder / "source", folder / "roberta-4096", max_length=520, attention_window=16, check=False)
    text = "\n\n".join(f"{CORPUS[0]}. {CORPUS[1]}. paragraph number {number}" for number in range(60))
    (folder / "corpus.txt").write_text(text)
    (folder / "held-out.txt").write_text(text[:2000])
    make_squad(folder / "train.json", 24)
    make_squad(folder / "dev.json", 6, seed=1)
    write(folder / "hotpot.json", invented())
    asked = [{"question": "the animal", "context": CORPUS[0]}] * 2
    (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    rows = [
        {"text": CORPUS[number % 2] + f" {number}", "label": "fox" if number % 2 else "long"} for number in range(40)
    ]
    (folder / "reviews.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with (folder / "reviews.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, ["text", "label"])
        table.writeheader()
        table.writerows(rows)
    if find_spec("sentence_transformers"):
        (folder / "made").mkdir()
        make_encoder(folder / "made").rename(folder / "sentences-4096")
    write_pairs(folder / "pairs.jsonl", range(2))
    write_pairs(folder / "held-out.jsonl", range(2, 3))
    (folder / "documents.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in CORPUS[:3]))
    for split in ("train", "validation"):
        (folder / "litbank" / split).mkdir(parents=True)
        (folder / "litbank" / split / "book_brat.conll").write_text(CONLL)
    (folder / "novels.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in CORPUS[:3]))
    make_summariser(folder / "bart-16384")
    (folder / "papers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in make_rows(12)))
    (folder / "characters.yaml").write_text(next(code for language, code in blocks(TEXT) if language == "yaml"))
    recipe = "model_name_or_path: roberta-4096\ntrain_files: [corpus.txt]\noutput_dir: run-of-one\n"
    (folder / "recipe.yaml").write_text(recipe + SMALL)
    return folder


@pytest.mark.timeout(1200)
def test_every_block_runs(place: Path) -> None:
    for language, code in blocks(TEXT, "bash|python"):
        if "finetune embeddings" in code and find_spec("sentence_transformers") is None:
            continue  # an extra of its own
        run(code, place) if language == "bash" else run_python(code, place)
    assert json.loads((place / "run-of-two" / "results.json").read_text())["processes"] == 2
    for output, number in (
        ("answers", 2),
        ("labels", 40),
        ("clusters", len(CORPUS[:3])),
        ("summaries", 12),
        ("of-all", 12),
    ):
        lines = [json.loads(line) for line in (place / f"{output}.jsonl").read_text().splitlines()]
        assert len(lines) == number
        assert not any("error" in line for line in lines)
    assert (place / "answers.html").read_text().count('type="application/json"') == 3
    for folder in ("reader", "evidence", "classifier", "coref", "run", "run-of-one", "summariser"):
        card = (place / folder / "README.md").read_text()
        assert ("bart-16384" if folder == "summariser" else "roberta-4096") in card
        assert (place / folder / "curves.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("file", "tables"),
    [
        (measure_tasks.RESULTS, measure_tasks.tables),
        (make_tiny.RESULTS, make_tiny.parts),
        (measure_ablation.RESULTS, measure_ablation.tables),
        (measure_characters.RESULTS, measure_characters.tables),
        (measure_evidence.RESULTS, measure_evidence.tables),
        (measure_litbank.RESULTS, measure_litbank.tables),
        (make_tiny_bart.RESULTS, make_tiny_bart.tables),
        (measure_embeddings.RESULTS, measure_embeddings.tables),
    ],
    ids=["tasks", "tiny", "ablation", "characters", "evidence", "litbank", "tiny bart", "embeddings"],
)
def test_tables_are_those_of_the_results(file: Path, tables: Callable[[dict[str, Any]], dict[str, str]]) -> None:
    assert put_parts(TEXT, tables(json.loads(file.read_text(encoding="utf-8")))) == TEXT


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda file: file.stem)
def test_recipe_is_named_and_has_arguments_that_there_are(recipe: Path) -> None:
    assert f"recipes/{recipe.name}" in TEXT
    tasks = {"tiny": "mlm", "wikihop": "multiple-choice", "characters": "clm", "retrieval": "clm"}
    tasks |= dict.fromkeys(("imdb", "hyperpartisan", "movie"), "classification")
    tasks |= dict.fromkeys(("triviaqa", "squad"), "qa")
    tasks |= {"litbank-coref": "coref", "litbank-entities": "token-classification"}
    tasks |= dict.fromkeys(("arxiv", "tiny-bart-names"), "summarization")
    first = recipe.stem.split("-")[0]
    arguments = module_of(tasks.get(recipe.stem, tasks.get(first, first))).TASK.arguments
    types = (ModelArguments, LongTrainingArguments, arguments)
    known = {field.name for one in types for field in dataclasses.fields(one)}
    read = read_recipe(recipe, known | ({"model", "phases", "retrieval"} if "characters" in recipe.stem else set()))
    if recipe.stem.startswith(("movie", "squad", "characters", "tiny", "litbank", "retrieval", "embeddings")):
        return
    in_all = read["per_device_train_batch_size"] * read["gradient_accumulation_steps"]
    assert in_all == {"mlm": 64, "arxiv": 16}.get(first, 32)  # the paper's


@pytest.mark.parametrize(
    ("name", "layers", "millions", "steps"),
    [
        ("small", 12, 41, [430_000, 50_000, 50_000, 35_000, 5_000]),
        ("large", 30, 102, [350_000, 25_000, 10_000, 5_000, 5_000]),
    ],
)
def test_models_of_characters_are_those_of_the_paper(name: str, layers: int, millions: int, steps: list[int]) -> None:
    """Appendix B: tables 12 and 13."""
    recipe = yaml.safe_load((README.parent / "recipes" / f"characters-paper-{name}.yaml").read_text())
    config = HfLongformerConfig(vocab_size=261, type_vocab_size=1, is_decoder=True, **recipe["model"])
    with torch.device("meta"):
        model = HfLongformerForCausalLM(config)
    assert math.floor(model.num_parameters() / 1e6) == millions
    phases = recipe["phases"]
    assert [phase["max_steps"] for phase in phases] == steps
    assert [phase["max_seq_length"] for phase in phases] == [2048, 4096, 8192, 16384, 23040]
    batches = [phase["per_device_train_batch_size"] * phase["gradient_accumulation_steps"] for phase in phases]
    assert batches == [32, 32, 16, 16, 16]
    assert (phases[0]["attention_window"][0], phases[0]["attention_window"][-1]) == (32, 8192)
    for number, phase in enumerate(phases):
        windows = phase["attention_window"]
        assert len(windows) == layers
        assert windows == sorted(windows)
        assert windows == [window * 2**number for window in phases[0]["attention_window"]]
        assert phase["learning_rate"] == pytest.approx(2.5e-4 / 2**number)
        assert phase["warmup_steps"] == min(10_000, phase["max_steps"] // 10)
        task._set_windows(config, phase, number + 1)
    assert task._check_phases(phases, ["recipe"]) == phases
