# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`hf-longformer predict token-classification` and its pipeline: words, places, windows, strategies, and evaluation."""

import json
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sources import make_source
from test_predict import read, write
from test_run_token_classification import arguments, document
from transformers import AutoTokenizer, RobertaTokenizerFast, pipeline

import hf_longformer_cli as cli
from hf_longformer import HfLongformerForTokenClassification
from hf_longformer.conversion import InputError, convert
from hf_longformer.finetune import pipelines, run_token_classification
from hf_longformer.finetune.predict import predict
from hf_longformer.finetune.token_classification.predictor import (
    STRATEGIES,
    TokenClassificationPredictor,
    joined,
)
from hf_longformer.finetune.words import cut_words, owners_of, places_of, words_of

TAGS = ["O", "B-X", "I-X", "E-X", "S-X"]
WORDS = ["the", "dog", "axe", "unknowing", "e\u0301te\u0301", "हिन्दी", "長い", "ไทย", "😀", "don't", "\u200b", "A.B."]
SPACES = [" ", "  ", "\n\n", "\t", "\u00a0", "\u3000", "\r\n", ""]


def make_model(folder: Path, family: str, tags: list[str], window: int = 16, **options: Any) -> str:
    labels = {"id2label": dict(enumerate(tags)), "label2id": {name: number for number, name in enumerate(tags)}}
    make_source(folder / f"{family}-source", family, "ForTokenClassification", **labels, **options)
    convert(folder / f"{family}-source", folder / family, max_length=130, attention_window=window, check=False)
    model = HfLongformerForTokenClassification.from_pretrained(folder / family).eval()
    with torch.no_grad():  # no tag is likelier than the others
        model.classifier.bias -= model(torch.arange(5, 105)[None] % model.config.vocab_size).logits.mean(dim=(0, 1))
    model.save_pretrained(folder / family)
    return str(folder / family)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Random weights: of bytes and of word pieces, in BIOES and in BIO."""
    folder = tmp_path_factory.mktemp("models")
    return {"roberta": make_model(folder, "roberta", TAGS), "bert": make_model(folder, "bert", TAGS[:3])}


def random_text(draw: random.Random, words: int) -> str:
    return "".join(draw.choice(WORDS) + draw.choice(SPACES) for _ in range(words)) + "dog"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Lincoln's Inn Hall, 1,234.5 men.", ["Lincoln", "'s", "Inn", "Hall", ",", "1,234.5", "men", "."]),
        ("I don't; WON’T -- no...", ["I", "do", "n't", ";", "WON", "’", "T", "--", "no", "..."]),
        ("e\u0301te\u0301 हिन्दी में", ["e\u0301te\u0301", "हिन्दी", "में"]),
        ("長い文", ["長", "い", "文"]),
        ("a😀b\u3000c\n\n d", ["a", "😀", "b", "c", "d"]),
        (" \n", []),
    ],
)
def test_words_of(text: str, words: list[str]) -> None:
    found, places = words_of(text)
    assert found == words == [text[begin:end] for begin, end in places]


@pytest.mark.parametrize("family", ["roberta", "bert"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_places_are_exact(family: str, strategy: str, models: dict[str, str]) -> None:
    draw = random.Random(1)
    texts = [random_text(draw, number) for number in (1, 3, 40, 200)] + [["the dog", "", " a  fox "]]
    label = TokenClassificationPredictor.load(models[family], aggregation_strategy=strategy)
    whole = [text if isinstance(text, str) else "\n\n".join(text) for text in texts]
    results = label([{"text": text} for text in texts])
    assert sum(len(result["entities"]) for result in results) > 30
    for text, result in zip(whole, results, strict=True):
        ends = 0
        for one in result["entities"]:
            assert text[one["start"] : one["end"]] == one["word"]
            assert 0 <= one["start"] < one["end"] <= len(text) or one["word"] == ""
            assert 0 < one["score"] <= 1
            assert one["start"] >= ends or strategy in ("none", "simple")  # one character may be several tokens
            ends = one["end"]
            kind = one["entity" if strategy == "none" else "entity_group"]
            assert kind in (TAGS if strategy == "none" else ["X"])


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_words_of_a_row_are_counted(strategy: str, models: dict[str, str]) -> None:
    """The places of words, and of characters in the words with one space between them; also of empty words."""
    draw = random.Random(2)
    tokens = [draw.choice([*WORDS, "", " ", "a b"]) for _ in range(150)]
    label = TokenClassificationPredictor.load(models["roberta"], aggregation_strategy=strategy)
    found = label([{"tokens": tokens}])[0]["entities"]
    assert len(found) > 10
    for one in found:
        assert " ".join(tokens)[one["start"] : one["end"]] == one["word"]
        inside = " ".join(tokens[one["start_word"] : one["end_word"]])
        assert one["word"] in inside
        if strategy not in ("none", "simple"):
            assert one["word"] == inside
    assert places_of(["ab", "", "c"]) == [(0, 2), (3, 3), (4, 5)]


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_short_texts_are_what_the_pipeline_of_transformers_says(strategy: str, models: dict[str, str]) -> None:
    draw = random.Random(3)
    vocabulary = ["the", "quick", "axe", "dog", "unknowing", "documents"]
    texts = [" ".join(draw.choices(vocabulary, k=number)) for number in (1, 2, 9, 25)]
    theirs = pipeline("token-classification", model=models["bert"], aggregation_strategy=strategy)
    ours = pipeline("long-token-classification", model=models["bert"], aggregation_strategy=strategy)
    kind = "entity" if strategy == "none" else "entity_group"
    number = 0
    for text in texts:
        wanted, found = theirs(text), ours(text)["entities"]
        assert [(one[kind], one["start"], one["end"]) for one in found] == [
            (one[kind], one["start"], one["end"]) for one in wanted
        ]
        assert [one["score"] for one in found] == pytest.approx([one["score"] for one in wanted], abs=1e-5)
        number += len(found)
    assert number > 5


def test_entities_of_words_are_those_of_evaluation(tmp_path: Path) -> None:
    """The tags in `test-predictions.jsonl` and the entities of `predict` are made by the same functions."""
    make_source(tmp_path / "source", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    convert(tmp_path / "source", tmp_path / "model", max_length=260, attention_window=16, check=False)
    generator = np.random.default_rng(0)
    for name in ("train", "validation", "test"):
        rows = [document(generator, generator.choice([8, 20, 70])) for _ in range(8)]
        for row in rows:
            row["tags"] = [tag.replace("I-", "E-") if tag != "B-TEXT" else "S-TEXT" for tag in row["tags"]]  # in BIOES
        write(tmp_path / f"{name}.jsonl", rows)
    given = arguments(tmp_path, tmp_path / "model", test_file=tmp_path / "test.jsonl", max_steps=40)
    results = run_token_classification.main(given)
    assert set(results["scores"]["test"]["f1_per_kind"]) == {"ANIMAL", "TEXT"}
    defaults = json.loads((tmp_path / "run" / "prediction.json").read_text())
    assert defaults == {"task": "token-classification", "max_seq_length": 40, "stride": 10}

    test = read(tmp_path / "test.jsonl")
    asked = write(tmp_path / "asked.jsonl", [{"tokens": row["tokens"]} for row in test])
    for strategy, output in (("none", "tags"), ("first", "entities")):
        options = {"aggregation_strategy": strategy, "tokens_per_batch": 200}
        assert predict("token-classification", str(tmp_path / "run"), str(asked), tmp_path / output, **options)["lines"]
    evaluated = read(tmp_path / "run" / "test-predictions.jsonl")
    right = found = 0
    for line, row, result in zip(evaluated, test, read(tmp_path / "entities"), strict=True):
        tags = ["O"] * len(row["tokens"])
        for one in result["entities"]:
            begin, end, kind = one["start_word"], one["end_word"], one["entity_group"]
            if end - begin == 1:
                tags[begin] = f"S-{kind}"
            else:
                tags[begin:end] = [f"B-{kind}", *[f"I-{kind}"] * (end - begin - 2), f"E-{kind}"]
        assert tags == _well_formed(line["tags"])
        found += len(result["entities"])
        gold = _spans(line["gold"])
        right += sum((one["start_word"], one["end_word"], one["entity_group"]) in gold for one in result["entities"])
    assert found > 5
    assert right / found == pytest.approx(results["scores"]["test"]["precision"])


def _spans(tags: list[str]) -> set[tuple[int, int, str]]:
    """Of well-formed BIOES with entities of one or two words."""
    return {
        (position, position + 1 + (tag[0] == "B"), tag[2:]) for position, tag in enumerate(tags) if tag[0] in ("B", "S")
    }


def _well_formed(tags: list[str]) -> list[str]:
    """Entities of ill-formed tags as well-formed ones, by the rule that `metrics.entities` states."""
    starts = [
        tag != "O" and (index == 0 or tag[0] in "BS" or tags[index - 1][0] in "ESO" or tags[index - 1][2:] != tag[2:])
        for index, tag in enumerate(tags)
    ]
    ends = [
        tag != "O" and (index + 1 == len(tags) or tags[index + 1] == "O" or starts[index + 1])
        for index, tag in enumerate(tags)
    ]
    letters = {(True, True): "S", (True, False): "B", (False, True): "E", (False, False): "I"}
    return [
        tag if tag == "O" else f"{letters[start, end]}-{tag[2:]}"
        for tag, start, end in zip(tags, starts, ends, strict=True)
    ]


def test_windows_say_what_the_whole_text_says(models: dict[str, str]) -> None:
    """Where a window shows all that a token's layers reach, and positions do not matter, cutting changes nothing."""
    folder = models["roberta"]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = HfLongformerForTokenClassification.from_pretrained(folder)
    with torch.no_grad():
        model.longformer.embeddings.position_embeddings.weight.zero_()
    model.name_or_path = ""
    reach = model.config.attention_window // 2 * model.config.num_hidden_layers
    text = {"tokens": random.Random(4).choices(["the", "dog", "quick", "over"], k=120)}
    whole, cut = (
        TokenClassificationPredictor(model, tokenizer, max_seq_length=length, stride=2 * reach + 8)([text])[0]
        for length in (130, 60)
    )
    assert len(whole["entities"]) > 5
    for one, other in zip(whole["entities"], cut["entities"], strict=True):
        assert other == {**one, "score": pytest.approx(one["score"], abs=1e-5)}


def test_joined_takes_every_token_from_the_middle_of_a_window() -> None:
    windows = cut_words(20, list(range(20)), room=10, stride=4)
    logits = [np.full((end - begin, 2), [0.0, float(index)]) for index, (begin, end) in enumerate(windows)]
    owners = owners_of(windows, list(range(20)))
    expected = 1 / (1 + np.exp(-np.asarray(owners, dtype=float)))
    np.testing.assert_allclose(joined(logits, windows)[:, 1], expected)
    assert joined([np.zeros((0, 3))], [(0, 0)]).shape == (0, 3)


def test_strategies_of_a_word_of_several_tokens(models: dict[str, str]) -> None:
    """By hand, from the model's own logits."""
    tokenizer = AutoTokenizer.from_pretrained(models["bert"])
    model = HfLongformerForTokenClassification.from_pretrained(models["bert"]).eval()
    ids = tokenizer(["unknowing"], is_split_into_words=True, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        scores = model(ids).logits[0, 1:-1].double().softmax(-1)
    assert len(scores) > 2
    wanted = {"first": scores[0], "average": scores.mean(0), "max": scores[scores.amax(-1).argmax()]}
    for strategy, expected in wanted.items():
        label = TokenClassificationPredictor.load(models["bert"], aggregation_strategy=strategy)
        found = label([{"tokens": ["unknowing"]}])[0]["entities"]
        best = int(expected.argmax())
        assert [one["score"] for one in found] == (
            [] if best == 0 else [pytest.approx(float(expected[best]), abs=1e-5)]
        )


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({}, "an entry text or tokens is needed, got none"),
        ({"text": None, "tokens": None}, "an entry text or tokens is needed, got none"),
        ({"text": "the dog", "tokens": ["the"]}, "an entry text or tokens is needed, got both"),
        ({"tokens": []}, "tokens must be a list of words, got"),
        ({"tokens": "the dog"}, "tokens must be a list of words, got 'the dog'"),
        ({"tokens": ["the", 3]}, "tokens must be a list of words, got"),
        ({"text": " \n"}, "text must not be empty"),
        ({"text": 3}, "text: a text, or a list of texts, is needed, got int 3"),
    ],
)
def test_bad_rows(
    row: dict[str, Any], complaint: str, models: dict[str, str], tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    file = write(tmp_path / "in.jsonl", [{"text": "the dog", "tokens": None}, row, {"id": 7, "tokens": ["the", "dog"]}])
    words = ["predict", "token-classification", models["bert"], str(file), "--output", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["hf-longformer", *words, "--aggregation-strategy", "max"])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 1
    assert "3 lines, 1 of them without a result" in capsys.readouterr().out
    found = read(tmp_path / "out")
    assert found[1]["error"].startswith(complaint)
    assert [list(one) for one in (found[0], found[2])] == [["line", "entities"], ["line", "id", "entities"]]
    with pytest.raises(ValueError, match="a row cannot be read"):
        pipeline("long-token-classification", model=models["bert"])(row)


def test_tables_need_one_of_the_columns(models: dict[str, str], tmp_path: Path) -> None:
    arguments: tuple[str, str] = ("token-classification", models["bert"])
    (tmp_path / "in.csv").write_text("id,text\n1,the dog\n")
    assert predict(*arguments, str(tmp_path / "in.csv"), tmp_path / "a")["failed"] == []
    (tmp_path / "other.csv").write_text("id,body\n1,the dog\n")
    with pytest.raises(InputError, match="must have a column text, got id, body: --text-column"):
        predict(*arguments, str(tmp_path / "other.csv"), tmp_path / "b")
    assert predict(*arguments, str(tmp_path / "other.csv"), tmp_path / "b", columns={"text": "body"})["failed"] == []
    with pytest.raises(InputError, match="must have a column words, got id, text: --tokens-column"):
        predict(*arguments, str(tmp_path / "in.csv"), tmp_path / "c", columns={"tokens": "words"})


def test_bad_strategy(models: dict[str, str], tmp_path: Path, monkeypatch: Any, capsys: Any) -> None:
    file = write(tmp_path / "in.jsonl", [{"text": "the dog"}])
    words = ["predict", "token-classification", models["bert"], str(file), "--output", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", ["hf-longformer", *words, "--aggregation-strategy", "last"])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 2
    said = " ".join(capsys.readouterr().err.split())
    assert "aggregation_strategy must be one of none, simple, first, average, max, got last" in said


def test_pipeline(models: dict[str, str]) -> None:
    """Texts, words and generators of rows; and the tokenizer that is given stays as it is."""
    tokenizer = AutoTokenizer.from_pretrained(models["roberta"])
    assert isinstance(tokenizer, RobertaTokenizerFast)
    model = HfLongformerForTokenClassification.from_pretrained(models["roberta"])
    label = pipeline("long-token-classification", model=model, tokenizer=tokenizer)
    assert isinstance(label, pipelines.LongDocumentPipeline)
    assert not tokenizer.backend_tokenizer.pre_tokenizer.add_prefix_space
    text, tokens = "the quick brown fox over the dog", ["the", "quick", "brown", "fox", "over", "the", "dog"]
    found, of_words = label(text), label(tokens=tokens)
    assert found["entities"]
    assert [
        {name: value for name, value in one.items() if not name.endswith("_word")} for one in of_words["entities"]
    ] == found["entities"]
    assert list(label(row for row in ({"text": text}, {"tokens": tokens}))) == [found, of_words]
    assert label([text, text]) == [found, found]


def test_killed_run_goes_on(models: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(5)
    rows = [{"text": random_text(draw, draw.choice([1, 30, 100]))} for _ in range(20)]
    given: Any = ("token-classification", models["bert"], str(write(tmp_path / "in.jsonl", ["{", *rows])))
    monkeypatch.setattr("hf_longformer.finetune.long_documents.POOL_ROWS", 5)
    whole = predict(*given, tmp_path / "whole")
    answer, calls = TokenClassificationPredictor.__call__, iter([False, False, True])

    def die(self: Any, rows: list[dict[str, Any]]) -> Any:
        if next(calls):
            raise KeyboardInterrupt
        return answer(self, rows)

    with monkeypatch.context() as patch:
        patch.setattr(TokenClassificationPredictor, "__call__", die)
        with pytest.raises(KeyboardInterrupt):
            predict(*given, tmp_path / "out")
    report = predict(*given, tmp_path / "out")
    assert report == {**whole, "resumed": 10}
    assert (tmp_path / "out").read_text() == (tmp_path / "whole").read_text()
    with pytest.raises(InputError, match="--overwrite replaces it"):
        predict(*given, tmp_path / "out")
