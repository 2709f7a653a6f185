# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Entities that stand in one another: tags in layers, from files in columns to predictions."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import tiny_config
from sources import make_source
from test_run_token_classification import FILLERS, arguments, lines, write
from torch import nn
from transformers import pipeline

from hf_longformer import HfLongformerForTokenClassification
from hf_longformer.conversion import InputError, convert
from hf_longformer.conversion.export import export
from hf_longformer.finetune import pipelines, run_token_classification
from hf_longformer.finetune.metrics import Entities
from hf_longformer.finetune.predict import predict
from hf_longformer.finetune.token_classification.documents import read_tagged

COLUMNS = ["tags_1", "tags_2"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    make_source(folder / "source", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    convert(folder / "source", folder / "model", max_length=260, attention_window=16, check=False)
    return folder / "model"


def document(generator: np.random.Generator, groups: int) -> list[list[str]]:
    """A word and its tags per line: "brown fox dog" is a group, and a fox in it an animal of its own."""
    found = []
    for _ in range(groups):
        found += [[str(word), "O", "O"] for word in generator.choice(FILLERS, generator.integers(1, 5))]
        found += [["brown", "O", "B-GROUP"], ["fox", "B-ANIMAL", "I-GROUP"], ["dog", "O", "I-GROUP"]]
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Folders of documents as LitBank has them, with a tab at the ends of lines."""
    generator = np.random.default_rng(0)
    for split, number in (("train", 24), ("validation", 5), ("test", 4)):
        (tmp_path / split).mkdir()
        for index in range(number):
            rows = ["".join(f"{field}\t" for field in fields) for fields in document(generator, 3 + index % 9)]
            (tmp_path / split / f"{index:02}.tsv").write_text("\n".join([*rows[:5], "", *rows[5:], ""]))
    return tmp_path


def of_folder(folder: Path, model: Path, *more: str, **options: Any) -> list[str]:
    files = {f"{split}_file": folder / split for split in ("train", "validation", "test")}
    return [*arguments(folder, model, **files, **options), "--tags_column", *COLUMNS, *more]


def test_training_finds_nested_entities_and_prediction_finds_them_again(folder: Path, model: Path) -> None:
    results = run_token_classification.main(of_folder(folder, model, max_steps=120, save_steps=60, eval_steps=60))
    assert results["tag_layers"] == 2
    assert results["windows"]["train"] > results["rows"]["train"] == 24
    assert results["labels"] == ["O", "B-ANIMAL", "B-GROUP", "I-GROUP"]
    assert results["scores"]["test"]["f1"] > 0.95
    assert set(results["scores"]["test"]["f1_per_kind"]) == {"ANIMAL", "GROUP"}
    predicted = lines(folder / "run" / "test-predictions.jsonl")
    gold = read_tagged(str(folder / "test")).rows
    assert [line["gold"] for line in predicted] == [[row[column] for column in COLUMNS] for row in gold]

    again = run_token_classification.main(
        [*of_folder(folder, folder / "run", output_dir=folder / "again"), "--do_train", "False"]
    )
    assert again["scores"]["test"] == results["scores"]["test"]
    one = arguments(folder, folder / "run", output_dir=folder / "one", test_file=folder / "test", tags_column="tags_1")
    one[one.index("--validation_file") + 1] = str(folder / "validation")
    with pytest.raises(InputError, match="--tags_column must name 2 for this model, got tags_1"):
        run_token_classification.main([*one, "--do_train", "False"])

    write(folder / "rows.jsonl", [{"tokens": row["tokens"]} for row in gold])
    predict("token-classification", str(folder / "run"), str(folder / "rows.jsonl"), folder / "found.jsonl")
    asked = pipeline("long-token-classification", model=str(folder / "run"))
    assert isinstance(asked, pipelines.LongDocumentPipeline)
    for row, line, result in zip(gold, predicted, lines(folder / "found.jsonl"), strict=True):
        found = {(one["start_word"], one["end_word"], one["entity_group"]) for one in result["entities"]}
        metric = Entities(keep_in_memory=True)
        spans = metric.compute(predictions=line["tags"], references=line["tags"], layers=2)
        assert spans["f1"] == 1
        expected = {
            (place, place + (1 if kind == "ANIMAL" else 3), kind)
            for layer in line["tags"]
            for place, kind in ((place, tag[2:]) for place, tag in enumerate(layer) if tag.startswith("B-"))
        }
        assert found == expected
        text = " ".join(row["tokens"])
        places = [(one["start"], one["end"]) for one in result["entities"]]
        assert places == sorted(places, key=lambda place: (place[0], -place[1]))
        assert all(text[one["start"] : one["end"]] == one["word"] for one in result["entities"])
        alone = asked({"tokens": row["tokens"]})["entities"]
        assert len(alone) == len(result["entities"])
        for one, other in zip(alone, result["entities"], strict=True):
            assert one == other | {"score": pytest.approx(other["score"], abs=1e-6)}  # of a smaller batch


def test_a_layer_more_than_once_is_one_entity(model: Path, tmp_path: Path) -> None:
    """Both layers say the same of every token: each entity comes out once."""
    config = HfLongformerForTokenClassification.from_pretrained(
        model, tag_layers=2, id2label={0: "O", 1: "B-X"}, label2id={"O": 0, "B-X": 1}
    )
    with torch.no_grad():
        nn.init.normal_(config.classifier.weight)
        config.classifier.weight[2:] = config.classifier.weight[:2]
        config.classifier.bias.zero_()
    config.save_pretrained(tmp_path / "same")
    for file in model.glob("*token*"):
        (tmp_path / "same" / file.name).write_bytes(file.read_bytes())
    write(tmp_path / "rows.jsonl", [{"text": "the quick brown fox jumps over the lazy dog " * 9}])
    for strategy in ("none", "simple", "first", "average", "max"):
        output = tmp_path / f"{strategy}.jsonl"
        options = {"aggregation_strategy": strategy}
        predict("token-classification", str(tmp_path / "same"), str(tmp_path / "rows.jsonl"), output, **options)
        found = [(one["start"], one["end"]) for one in lines(output)[0]["entities"]]
        assert 10 < len(found) == len(set(found))


def test_logits_of_layers_stand_beside_one_another() -> None:
    torch.manual_seed(0)
    config = tiny_config(num_labels=3, tag_layers=2)
    model = HfLongformerForTokenClassification(config).double().eval()
    ids = torch.randint(5, 50, (2, 11))
    labels = torch.randint(0, 3, (2, 11, 2))
    labels[0, 4:7] = -100
    outputs = model(ids, labels=labels)
    assert outputs.logits.shape == (2, 11, 2, 3)
    flat = model.classifier(model.longformer(ids).last_hidden_state)
    assert torch.equal(outputs.logits[:, :, 1], flat[..., 3:])
    expected = nn.functional.cross_entropy(outputs.logits.flatten(0, 2), labels.flatten())
    torch.testing.assert_close(outputs.loss.double(), expected, atol=1e-6, rtol=1e-6)  # the loss is taken in float32


def test_entities_of_layers_count_once() -> None:
    """Of two texts with two layers: three right entities, one of them in another layer; one twice; one wrong."""
    gold = [["B-A", "I-A", "O"], ["O", "B-B", "O"], ["B-A", "O"], ["O", "O"]]
    found = [["O", "B-B", "O"], ["B-A", "I-A", "O"], ["B-A", "O"], ["B-A", "B-B"]]
    scores = Entities(keep_in_memory=True).compute(predictions=found, references=gold, layers=2)
    assert (scores["precision"], scores["recall"]) == (3 / 4, 1.0)
    assert scores["f1"] == 6 / 7
    assert scores["accuracy"] == 4 / 10


def test_read_tagged(tmp_path: Path) -> None:
    """Documents with and without a second layer; another begins where a line says so; sentences are not kept."""
    (tmp_path / "a.tsv").write_text("\ufeffIn\tO\t\nLondon\tB-GPE\t\n\nO\tO\t\n", encoding="utf-8")
    (tmp_path / "b.txt").write_text("-DOCSTART- O O\n\nThe B-PER B-PER\r\nLord O I-PER\n-DOCSTART-\nYes O O\n")
    rows = read_tagged(str(tmp_path)).rows
    assert rows.to_list() == [
        {"tokens": ["In", "London", "O"], "tags_1": ["O", "B-GPE", "O"], "tags_2": ["O", "O", "O"], "row": 1},
        {"tokens": ["The", "Lord"], "tags_1": ["B-PER", "O"], "tags_2": ["B-PER", "I-PER"], "row": 2},
        {"tokens": ["Yes"], "tags_1": ["O"], "tags_2": ["O"], "row": 3},
    ]
    assert read_tagged(str(tmp_path / "b.txt")).rows["row"] == [1, 2]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a\tO\nb\tO\tO\n", "line 2 of .* must have 2 fields, as the lines before, got"),
        ("a\n", "line 1 of .* must have a word and its tags, got 'a'"),
        ("a\t\tO\n", "line 1 of .* must have a word and its tags"),
        ("\n\n", "must hold documents with a word and its tags per line, got none"),
    ],
)
def test_bad_columns(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "bad.conll").write_text(content)
    with pytest.raises(InputError, match=message):
        read_tagged(str(tmp_path / "bad.conll"))


def test_no_columns(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="got no such file"):
        read_tagged(str(tmp_path / "none.conll"))
    with pytest.raises(InputError, match="got none"):
        read_tagged(str(tmp_path))


def test_layers_are_no_part_of_stock(model: Path, tmp_path: Path) -> None:
    layered = HfLongformerForTokenClassification.from_pretrained(model, tag_layers=3)
    layered.save_pretrained(tmp_path / "layered")
    with pytest.raises(InputError, match="its tokens have one tag each, got tag_layers=3"):
        export(tmp_path / "layered", tmp_path / "stock")
    config = json.loads((tmp_path / "layered" / "config.json").read_text())
    assert config["tag_layers"] == 3
