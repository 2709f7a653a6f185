# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`finetune/run_hotpotqa.py`: forms of data, windows, gold values, decoding, official scores, and what is written."""

import json
import re
import string
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from datasets import Dataset
from hotpotqa_runs import in_columns, invented, of_articles, write
from sources import make_source
from training_runs import losses
from transformers import AutoTokenizer, pipeline

from hf_longformer.conversion import InputError, convert
from hf_longformer.finetune import pipelines, run_hotpotqa
from hf_longformer.finetune.data import TableArguments
from hf_longformer.finetune.hotpotqa.data import question_row, read_questions, supporting_sentences
from hf_longformer.finetune.hotpotqa.decoding import decode
from hf_longformer.finetune.hotpotqa.predictor import EvidencePredictor
from hf_longformer.finetune.hotpotqa.windows import MARKERS, EvidenceCollator, cut_question, gold_of
from hf_longformer.finetune.metrics import HotpotQA, hotpotqa_scores
from hf_longformer.finetune.predict import predict

ARTICLES = Path(__file__).parents[1] / ".." / "shared" / "data" / "squad-dev"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a converted language model for 260 tokens, and the invented questions."""
    folder = tmp_path_factory.mktemp("hotpotqa")
    make_source(folder / "source", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    convert(folder / "source", folder / "model", max_length=260, attention_window=16, check=False)
    write(folder / "train.json", invented())
    return folder


def arguments(place: Path, output: Path, **options: Any) -> list[str]:
    given = {
        "model_name_or_path": place / "model",
        "train_file": place / "train.json",
        "validation_file": place / "train.json",
        "output_dir": output,
        "learning_rate": 0.01,
        "per_device_train_batch_size": 6,
        "logging_steps": 1,
        "save_strategy": "no",
        "eval_strategy": "no",
        "report_to": "none",
        "bf16": False,
        "disable_tqdm": True,
        **options,
    }
    return [word for name, value in given.items() for word in (f"--{name}", str(value))]


@pytest.fixture(scope="module")
def trained(place: Path) -> tuple[Path, dict[str, Any]]:
    """A run that knows the invented questions by heart, and its results."""
    options = {"save_strategy": "steps", "save_steps": 80, "save_total_limit": 1, "max_steps": 80}
    return place / "run", run_hotpotqa.main(arguments(place, place / "run", **options))


@pytest.fixture(scope="module")
def tokenizer(trained: tuple[Path, Any]) -> Any:
    return AutoTokenizer.from_pretrained(trained[0])


# ---- training and prediction ----


def test_training_learns_answers_and_evidence(trained: tuple[Path, Any]) -> None:
    run, results = trained
    logged = losses(run)
    assert logged[-1] < logged[0] / 20
    assert results["scores"]["validation"]["joint_em"] == 1.0
    assert results["windows"] == results["questions"] == {"train": 12, "validation": 12}
    assert results["cut"] == results["not_found"] == results["skipped"] == {}
    written = json.loads((run / "validation-predictions.json").read_text())
    assert written["answer"] == {one["_id"]: one["answer"] for one in invented()}
    for one in invented():
        assert sorted(written["sp"][one["_id"]]) == sorted(one["supporting_facts"])
    card = (run / "README.md").read_text()
    assert "hf-longformer predict hotpotqa" in card
    assert "joint f1" in card


@pytest.mark.parametrize("form", ["json", "jsonl", "columns", "parquet"])
def test_prediction_says_what_training_said(form: str, trained: tuple[Path, Any], tmp_path: Path) -> None:
    questions = invented()
    for one in questions:
        del one["answer"], one["supporting_facts"]
    if form == "parquet":
        file = tmp_path / "asked.parquet"
        Dataset.from_list([in_columns({**one, "answer": "", "supporting_facts": []}) for one in questions]).to_parquet(
            str(file)
        )
    elif form == "columns":
        columns = [in_columns({**one, "answer": "", "supporting_facts": []}) for one in questions]
        file = write(tmp_path / "asked.jsonl", columns)
    else:
        file = write(tmp_path / f"asked.{form}", questions)
    report = predict("hotpotqa", str(trained[0]), str(file), tmp_path / "out.jsonl")
    assert (report["lines"], report["failed"], report["truncated"]) == (12, [], 0)
    found = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    said = [json.loads(line) for line in (trained[0] / "validation-predictions.jsonl").read_text().splitlines()]
    for one, other in zip(found, said, strict=True):
        assert one.pop("probability") == pytest.approx(other.pop("probability"), rel=1e-4)
        assert {name: value for name, value in one.items() if name != "line"} == {
            name: value for name, value in other.items() if name not in ("row", "gold")
        }


def test_a_file_with_gold_values_is_predicted_with_its_paragraphs(
    trained: tuple[Path, Any], place: Path, tmp_path: Path
) -> None:
    predict("hotpotqa", str(trained[0]), str(place / "train.json"), tmp_path / "out.jsonl")
    found = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [one["answer"] for one in found] == [one["answer"] for one in invented()]


def test_pipeline(trained: tuple[Path, Any]) -> None:
    assert pipelines.ASKED["hotpotqa"].pipeline == "long-hotpotqa"
    answer = pipeline("long-hotpotqa", model=str(trained[0]))
    one = invented()[0]
    found = answer({"question": one["question"], "context": one["context"]})
    assert found["answer"] == one["answer"]
    assert found == answer(question=one["question"], context=in_columns(one)["context"])
    paragraph = dict(one["context"])[found["title"]]
    assert paragraph[found["sentence"]][found["start"] : found["end"]] == found["answer"]
    with pytest.raises(InputError, match="paragraphs are needed, each a title and a list of sentences, got str"):
        answer(question="who", context="a text")
    with pytest.raises(InputError, match="windows hold whole paragraphs and share none, got a stride of 3"):
        answer(question="who", context=one["context"], stride=3)


def test_rows_that_cannot_be_read_are_named(trained: tuple[Path, Any], tmp_path: Path) -> None:
    good = {"question": "who", "context": [["a", ["the fox."]]]}
    rows: list[Any] = [good, {"question": "who"}, {**good, "context": [["a", "b"]]}, {**good, "question": " "}]
    rows.append({**good, "context": [["a", [" "]]]})
    file = write(tmp_path / "asked.jsonl", rows)
    report = predict("hotpotqa", str(trained[0]), str(file), tmp_path / "out.jsonl")
    assert report["failed"] == [2, 3, 4, 5]
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert lines[0]["supporting_facts"] == [["a", 0]]
    assert "entry context is needed" in lines[1]["error"]
    assert "paragraphs are needed" in lines[2]["error"]
    assert "question must not be empty" in lines[3]["error"]
    assert "must have a sentence" in lines[4]["error"]


def test_evaluation_and_prediction_in_windows_agree(trained: tuple[Path, Any], place: Path, tmp_path: Path) -> None:
    given = arguments(place, tmp_path / "run", model_name_or_path=trained[0], do_train=False, max_seq_length=90)
    results = run_hotpotqa.main([*given, "--per_device_eval_batch_size", "5"])
    assert results["windows"]["validation"] > 12
    assert results["cut"] == {}
    said = [json.loads(line) for line in (tmp_path / "run" / "validation-predictions.jsonl").read_text().splitlines()]
    predictor = EvidencePredictor.load(str(trained[0]), max_seq_length=90, device="cpu")
    for one, other in zip(predictor(invented()), said, strict=True):
        assert one["probability"] == pytest.approx(other["probability"], rel=1e-4)
        assert all(one[name] == other[name] for name in ("answer", "title", "sentence", "start", "supporting_facts"))


def test_what_is_beyond_the_limit_is_counted(place: Path, trained: tuple[Path, Any], tmp_path: Path) -> None:
    questions = invented()[:4]
    title, sentences = questions[0]["context"][1]
    sentences += [" the quick brown fox jumps over the lazy dog." * 9, " the fox."]
    questions[0]["supporting_facts"] += [[title, 2], [title, 3], ["nobody", 0], ["Ann", 77]]
    questions[2]["answer"] = "violet"
    write(tmp_path / "train.json", questions)
    options = {"train_file": tmp_path / "train.json", "validation_file": tmp_path / "train.json", "max_steps": 1}
    results = run_hotpotqa.main(arguments(place, tmp_path / "run", max_seq_length=60, **options))
    for split in ("train", "validation"):
        assert results["cut"][split]["questions"] == 1
        assert results["cut"][split]["tokens"] > 20
        assert results["cut"][split]["supporting_sentences"] == 1  # of the other one the beginning is read
        assert results["not_found"][split] == {"answers": 1, "supporting_facts": 2}
    assert "beyond the limit" in (tmp_path / "run" / "README.md").read_text()
    predictor = EvidencePredictor.load(str(trained[0]), max_seq_length=60, device="cpu")
    found = predictor(questions)
    assert found[0]["truncated"] is True
    assert found[0]["tokens_cut"] == results["cut"]["train"]["tokens"]
    assert "truncated" not in found[1]


@pytest.mark.skipif(not ARTICLES.is_dir(), reason="needs the articles of ../shared")
def test_real_articles(place: Path, trained: tuple[Path, Any], tmp_path: Path) -> None:
    file = next(iter(sorted(ARTICLES.rglob("*.json"))))
    questions = of_articles(file, 6)
    assert len(questions) == 6
    write(tmp_path / "train.json", questions)
    table = read_questions(TableArguments(train_file=str(tmp_path / "train.json")))["train"]
    tokenizer = AutoTokenizer.from_pretrained(trained[0])
    for row in table.rows:
        paragraphs = list(zip(row["titles"], row["sentences"], strict=True))
        windows = cut_question(row["question"], paragraphs, tokenizer, length=4096, question_length=128)
        supporting, missing = supporting_sentences(row)
        assert (len(supporting), missing) == (2, 0)
        gold = gold_of(windows, row, supporting)
        assert sum(sum(one["sentence_labels"]) for one in gold) == 2
        texts = []
        for window, one in zip(windows, gold, strict=True):
            for first, last in zip(one["starts"], one["ends"], strict=True):
                paragraph, sentence, start, _ = window["places"][first]
                assert (paragraph, sentence) in supporting
                texts.append(row["sentences"][paragraph][sentence][start : window["places"][last][3]])
        assert texts
        assert all(text.strip().lower() == row["answer"].lower() for text in texts)


# ---- data ----


def test_forms_of_data_are_one(tmp_path: Path) -> None:
    questions = invented()
    write(tmp_path / "a.json", questions)
    write(tmp_path / "b.jsonl", questions)
    write(tmp_path / "c.jsonl", [in_columns(one) for one in questions])
    Dataset.from_list([in_columns(one) for one in questions]).to_parquet(str(tmp_path / "d.parquet"))
    files = ("a.json", "b.jsonl", "c.jsonl", "d.parquet")
    found = [read_questions(TableArguments(train_file=str(tmp_path / name)))["train"].rows.to_list() for name in files]
    assert found[0] == found[1] == found[2] == found[3]
    assert found[0][0]["fact_titles"] == ["Ann", "Bob"]
    (tmp_path / "folder").mkdir()
    write(tmp_path / "folder" / "train.json", questions)
    of_folder = read_questions(TableArguments(dataset_name=str(tmp_path / "folder")))
    assert of_folder["train"].rows.to_list() == found[0]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"answer": None}, "entries answer are needed to train and to measure"),
        ({"answer": " "}, "answer must be a text that is not empty, got ' '"),
        ({"answer": ["red"]}, "answer must be a text that is not empty"),
        ({"context": "text"}, "each a title and a list of sentences, got str text"),
        ({"context": {"title": ["a"], "sentences": []}}, "paragraphs are needed"),
        ({"supporting_facts": [["Ann", "0"]]}, "supporting_facts must be titles with numbers of sentences"),
        ({"question": 7}, "a text, or a list of texts, is needed, got int 7"),
    ],
)
def test_rows_that_cannot_be_used_are_refused(change: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    file = write(tmp_path / "train.jsonl", [invented()[0], {**invented()[1], **change}])
    with pytest.raises(InputError, match=rf"row 2 of train\.jsonl cannot be used: .*{re.escape(sentence)}"):
        read_questions(TableArguments(train_file=str(file)))


def test_two_questions_with_one_id_are_refused(tmp_path: Path) -> None:
    file = write(tmp_path / "train.json", [invented()[0], invented()[1] | {"_id": "hop0"}])
    with pytest.raises(InputError, match="an _id of its own, got hop0 for rows 1 and 2"):
        read_questions(TableArguments(train_file=str(file)))


# ---- windows ----


def windows_of(question: dict[str, Any], tokenizer: Any, **options: int) -> list[dict[str, Any]]:
    given = {"length": 260, "question_length": 128, **options}
    paragraphs = [(title, sentences) for title, sentences in question["context"]]
    return cut_question(question["question"], paragraphs, tokenizer, **given)


def test_the_form_is_that_of_the_paper(tokenizer: Any) -> None:
    question = invented()[0]
    (window,) = windows_of({**question, "question": " colour [s] "}, tokenizer)
    text = tokenizer.decode(window["input_ids"])
    parts = [f"<t> {title}</t> {one}[s]{other}[s]" for title, (one, other) in question["context"]]
    assert re.sub(r"\s", "", text) == re.sub(r"\s", "", "<s>[q]colour[s][/q]" + "".join(parts))
    begins, ends, title, _, sentence = (tokenizer.convert_tokens_to_ids(marker) for marker in MARKERS)
    ids = window["input_ids"]
    assert [ids.count(one) for one in (begins, ends, title, sentence)] == [1, 1, 4, 8]  # a text is no marker
    assert {ids[place] for place in window["paragraph_positions"]} == {title}
    assert {ids[place] for place in window["sentence_positions"]} == {sentence}
    assert [tuple(one) for one in window["sentences"]] == [(one, two) for one in range(4) for two in range(2)]
    assert window["cut"] == 0


def test_windows_hold_whole_paragraphs(tokenizer: Any) -> None:
    question = invented()[0]
    (whole,) = windows_of(question, tokenizer)
    windows = windows_of(question, tokenizer, length=len(whole["input_ids"]) - 1)
    assert [window["paragraphs"] for window in windows] == [[0, 1, 2], [3]]
    assert all(window["cut"] == 0 for window in windows)
    head = whole["paragraph_positions"][0]
    joined = windows[0]["input_ids"] + windows[1]["input_ids"][head:]
    assert joined == whole["input_ids"]
    assert windows[1]["input_ids"][:head] == whole["input_ids"][:head]


@pytest.mark.parametrize("room", [8, 9, 13, 20, 30])
def test_long_paragraphs_and_questions_are_cut_and_counted(room: int, tokenizer: Any) -> None:
    question = {"question": "x" * 50, "context": [["title " * 9, ["the fox. " * 5, "", "dog " * 30]], ["b", ["c"]]]}
    (whole,) = windows_of(question, tokenizer, length=4000)
    windows = windows_of(question, tokenizer, length=13 + room, question_length=10)
    assert all(len(window["input_ids"]) <= 13 + room for window in windows)
    assert all(window["sentences"] for window in windows)

    def tokens(some: list[dict[str, Any]]) -> int:
        markers = sum(2 * len(window["paragraphs"]) + len(window["sentences"]) for window in some)
        return sum(len(window["input_ids"]) - window["paragraph_positions"][0] for window in some) - markers

    in_question = whole["paragraph_positions"][0] - 3
    assert windows[0]["cut"] == tokens([whole]) - tokens(windows) + in_question - 10
    with pytest.raises(InputError, match="a question must leave room for 8 tokens of paragraphs within 20"):
        windows_of(question, tokenizer, length=20, question_length=10)


def gold_texts(question: dict[str, Any], tokenizer: Any, **options: int) -> list[tuple[int, int, str]]:
    row = question_row(question, 1, "data")
    windows = windows_of(question, tokenizer, **options)
    found = []
    for window, gold in zip(windows, gold_of(windows, row, supporting_sentences(row)[0]), strict=True):
        for first, last in zip(gold["starts"], gold["ends"], strict=True):
            paragraph, sentence, start, _ = window["places"][first]
            text = row["titles"][paragraph] if sentence < 0 else row["sentences"][paragraph][sentence]
            found.append((paragraph, sentence, text[start : window["places"][last][3]].strip()))
    return found


def test_gold_spans_are_those_of_supporting_sentences_else_all(tokenizer: Any) -> None:
    question: dict[str, Any] = {
        "_id": "1",
        "question": "who",
        "answer": "fox",
        "context": [["fox", ["the Fox jumps. fox", "foxes"]], ["dog", ["a fox", " the dog"]]],
        "supporting_facts": [["fox", 0], ["dog", 1]],
    }
    assert gold_texts(question, tokenizer) == [(0, 0, "Fox"), (0, 0, "fox")]
    question["supporting_facts"] = [["dog", 1]]
    assert gold_texts(question, tokenizer) == [(0, -1, "fox"), (0, 0, "Fox"), (0, 0, "fox"), (1, 0, "fox")]
    assert gold_texts(question, tokenizer, length=25) == gold_texts(question, tokenizer)
    assert gold_texts({**question, "answer": "cat"}, tokenizer) == []
    assert gold_texts({**question, "answer": "yes"}, tokenizer) == []
    row = question_row({**question, "answer": "Yes"}, 1, "data")
    windows = windows_of(question, tokenizer)
    (gold,) = gold_of(windows, row, supporting_sentences(row)[0])
    assert (gold["labels"], gold["sentence_labels"], gold["paragraph_labels"]) == (1, [0, 0, 0, 1], [0, 1])


def test_answers_are_found_in_scripts_without_spaces(tokenizer: Any) -> None:
    row = {"answer": "首都", "titles": ["東京"], "sentences": [["東京は日本の首都です。"]]}
    windows = cut_question("?", [("東京", row["sentences"][0])], tokenizer, length=260, question_length=9)
    (gold,) = gold_of(windows, row, {(0, 0)})
    ((first,), (last,)) = gold["starts"], gold["ends"]
    assert (windows[0]["places"][first][2], windows[0]["places"][last][3]) == (6, 8)


# ---- decoding ----


def texts_of_tokens(window: dict[str, Any], question: dict[str, Any]) -> list[str]:
    """What stands where an answer may begin or end."""
    texts = {(number, -1): title for number, (title, _) in enumerate(question["context"])}
    for number, (_, sentences) in enumerate(question["context"]):
        texts |= {(number, index): sentence for index, sentence in enumerate(sentences)}
    return [texts[place[:2]][place[2] : place[3]].strip() for place in window["places"] if place[0] >= 0]


def decoded(tokenizer: Any, question: dict[str, Any], type_: list[float], **logits: dict[int, float]) -> dict[str, Any]:
    """What is decoded of the only window of a question, where logits are -1 but for those that are given."""
    (window,) = windows_of(question, tokenizer)
    sizes = {"start": len(window["input_ids"]), "end": len(window["input_ids"])}
    sizes |= {"sentence": len(window["sentences"]), "paragraph": len(window["paragraphs"])}
    arrays = {name: np.full(size, -1.0) for name, size in sizes.items()}
    for name, values in logits.items():
        for index, value in values.items():
            arrays[name][index] = value
    outputs = (arrays["start"], arrays["end"], np.asarray(type_), arrays["sentence"], arrays["paragraph"])
    row = {"titles": [title for title, _ in question["context"]], "sentences": [one for _, one in question["context"]]}
    return decode(row, [window], [outputs], 30)


def test_evidence_comes_from_exactly_two_paragraphs(tokenizer: Any) -> None:
    """Bob, Cy, Ann and Dan: sentences of other paragraphs do not count, and each of the two gives at least one."""
    question = invented()[0]
    titles = [title for title, _ in question["context"]]
    yes = [0.0, 3.0, 0.0]
    found = decoded(tokenizer, question, yes, paragraph={1: 0.5, 3: 2.0}, sentence={0: 9.0, 2: 1.0, 3: 0.5, 7: -0.5})
    assert found["supporting_facts"] == [[titles[1], 0], [titles[1], 1], [titles[3], 1]]
    assert (found["answer"], found["type"], found["start"]) == ("yes", "yes", None)
    assert found["probability"] == pytest.approx(np.exp(3) / (np.exp(3) + 2))


def test_the_answer_stands_in_paragraphs_of_the_evidence(tokenizer: Any) -> None:
    question = invented()[0]
    (window,) = windows_of(question, tokenizer)
    assert not any(text_of_token == "" for text_of_token in texts_of_tokens(window, question))
    first = {place[:2]: token for token, place in reversed(list(enumerate(window["places"])))}
    likely = {first[(0, 0)]: 9.0, first[(1, 0)]: 5.0}
    span = [3.0, 0.0, 0.0]
    found = decoded(tokenizer, question, span, paragraph={1: 1.0, 3: 1.0}, start=likely, end=likely)
    assert found["title"] == question["context"][1][0]
    assert found["sentence"] == 0
    assert found["answer"] == question["context"][1][1][0].split()[0]
    # a start in one sentence and an end in the next are no span
    starts, ends = {first[(1, 0)]: 9.0}, {first[(1, 1)]: 9.0}
    found = decoded(tokenizer, question, span, paragraph={1: 1.0, 3: 1.0}, start=starts, end=ends)
    text = dict(question["context"])[found["title"]][found["sentence"]]
    assert text[found["start"] : found["end"]] == found["answer"] != ""


# ---- scores ----


def official_scores(answers: dict[str, str], facts: dict[str, list], gold: list[dict[str, Any]]) -> dict[str, float]:
    """The definition of HotpotQA's scorer, word for word."""

    def normal(text: str) -> str:
        bare = "".join(one for one in text.lower() if one not in string.punctuation)
        return " ".join(re.sub(r"\b(a|an|the)\b", " ", bare).split())

    def harmonic(one: float, other: float) -> float:
        return 2 * one * other / (one + other) if one + other > 0 else 0.0

    totals: Counter = Counter()
    for row in gold:
        name, complete = row["_id"], True
        if name in answers:
            found, wanted = normal(answers[name]), normal(row["answer"])
            precision = recall = 0.0
            special = {"yes", "no", "noanswer"}
            if found == wanted or not special & {found, wanted}:
                same = sum((Counter(found.split()) & Counter(wanted.split())).values())
                if same:
                    precision, recall = same / len(found.split()), same / len(wanted.split())
            exact = float(found == wanted)
            totals.update({"em": exact, "f1": harmonic(precision, recall), "prec": precision, "recall": recall})
        else:
            complete = False
        if name in facts:
            have, want = {tuple(one) for one in facts[name]}, {tuple(one) for one in row["supporting_facts"]}
            sp_precision = len(have & want) / len(have) if have else 0.0
            sp_recall = len(have & want) / len(want) if want else 0.0
            sp_exact = float(have == want)
            totals.update({"sp_em": sp_exact, "sp_f1": harmonic(sp_precision, sp_recall)})
            totals.update({"sp_prec": sp_precision, "sp_recall": sp_recall})
        else:
            complete = False
        if complete:
            both = precision * sp_precision, recall * sp_recall
            totals.update({"joint_em": exact * sp_exact, "joint_f1": harmonic(*both)})
            totals.update({"joint_prec": both[0], "joint_recall": both[1]})
    return {name: value / len(gold) for name, value in totals.items()}


def as_columns(answer: str | None, facts: list | None) -> dict[str, Any]:
    columns = None if facts is None else {"title": [one for one, _ in facts], "sent_id": [two for _, two in facts]}
    return {"answer": answer, "supporting_facts": columns}


def test_scores_are_those_of_the_official_scorer() -> None:
    draw = np.random.default_rng(0)
    words = ["the", "a", "fox", "Fox,", "dog", "yes", "no", "noanswer", "No.", "over"]

    def text() -> str:
        return " ".join(str(word) for word in draw.choice(words, draw.integers(0, 4)))

    def some() -> list[list[Any]]:
        return [[str(draw.choice(["A", "B"])), int(draw.integers(3))] for _ in range(draw.integers(0, 4))]

    gold = [{"_id": str(number), "answer": text(), "supporting_facts": some()} for number in range(1000)]
    answers = {one["_id"]: text() if draw.random() < 0.6 else one["answer"] for one in gold if draw.random() < 0.95}
    facts = {
        one["_id"]: some() if draw.random() < 0.6 else one["supporting_facts"] for one in gold if draw.random() < 0.95
    }
    found = HotpotQA().compute(
        predictions=[as_columns(answers.get(one["_id"]), facts.get(one["_id"])) for one in gold],
        references=[as_columns(one["answer"], one["supporting_facts"]) for one in gold],
    )
    expected = official_scores(answers, facts, gold)
    assert found == pytest.approx(expected, abs=1e-12)
    assert set(found) == set(expected)
    assert all(0.05 < value < 0.95 for value in found.values())


@pytest.mark.parametrize(
    ("answer", "facts", "expected"),
    [
        ("The red fox!", [["A", 0], ["B", 1]], {"em": 1, "f1": 1, "sp_em": 1, "joint_em": 1, "joint_f1": 1}),
        ("fox", [["A", 0]], {"em": 0, "prec": 1, "recall": 0.5, "sp_prec": 1, "sp_recall": 0.5, "joint_recall": 0.25}),
        ("fox", [["A", 0]], {"f1": 2 / 3, "sp_f1": 2 / 3, "joint_prec": 1, "joint_f1": 0.4}),
        ("no", [["A", 0], ["B", 1]], {"f1": 0, "sp_em": 1, "joint_em": 0, "joint_f1": 0}),
        ("red fox", [], {"em": 1, "sp_em": 0, "sp_prec": 0, "joint_em": 0}),
        (None, [["A", 0], ["B", 1]], {"em": 0, "sp_em": 1, "joint_em": 0}),
        ("red fox", None, {"em": 1, "sp_em": 0, "joint_em": 0}),
    ],
)
def test_scores_worked_by_hand(answer: str | None, facts: list | None, expected: dict[str, float]) -> None:
    found = hotpotqa_scores(as_columns(answer, facts), as_columns("red fox", [["A", 0], ["B", 1]]))
    assert {name: found[name] for name in expected} == pytest.approx(expected)


def test_yes_is_right_as_a_whole_only() -> None:
    assert hotpotqa_scores(as_columns("yes indeed", []), as_columns("yes", []))["f1"] == 0
    assert hotpotqa_scores(as_columns("Yes.", []), as_columns("yes", [])) == pytest.approx(
        dict.fromkeys(("em", "f1", "prec", "recall", "sp_em", "joint_em"), 1.0)
        | dict.fromkeys(("sp_f1", "sp_prec", "sp_recall", "joint_f1", "joint_prec", "joint_recall"), 0.0)
    )


# ---- batches ----


def test_batches(tokenizer: Any) -> None:
    windows = []
    for question in invented()[:2]:
        row = question_row(question, 1, "data")
        own = windows_of(question, tokenizer)
        windows += [
            {**one, **gold} for one, gold in zip(own, gold_of(own, row, supporting_sentences(row)[0]), strict=True)
        ]
    tokenizer.padding_side = "left"
    batch = EvidenceCollator(tokenizer)(windows)
    tokenizer.padding_side = "right"
    size = max(len(one["input_ids"]) for one in windows)
    assert batch["input_ids"].shape == batch["context_mask"].shape == (2, size)
    assert batch["start_positions"][1].tolist() == [-1] * batch["start_positions"].shape[1]
    assert torch.equal(batch["attention_mask"].sum(dim=1), torch.tensor([len(one["input_ids"]) for one in windows]))
    assert batch["attention_mask"][:, 0].all()
    assert batch["labels"].tolist() == [0, 1]
    assert (batch["context_mask"] <= batch["attention_mask"]).all()
