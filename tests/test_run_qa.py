# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`finetune/run_qa.py`: formats, windows, the loss over spans, answers as text, thresholds, and what is written."""

import json
import math
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sources import bert_tokenizer, make_source, roberta_tokenizer
from training_runs import Kill, losses
from warm import run_two

import hf_longformer_cli as cli
from hf_longformer import HfLongformerForQuestionAnswering
from hf_longformer.conversion import InputError, convert
from hf_longformer.finetune import question_files, run_qa
from hf_longformer.finetune.data import TableArguments
from hf_longformer.finetune.qa.answers import Answer, answers_of, choose_null_threshold, scores
from hf_longformer.finetune.qa.data import hold_out, read_questions
from hf_longformer.finetune.qa.spans import best_spans, span_loss, spans_of
from hf_longformer.finetune.qa.windows import WindowCollator, cut_questions, make_windows
from hf_longformer.finetune.question_files import matches, read_nested

WORDS = [
    "the",
    "quick",
    "jumps",
    "over",
    "lazy",
    "dog",
    "long",
    "documents",
    "need",
    "encoders",
    "and",
    "longer",
    "windows",
]
ANSWER = "brown fox"


def make_squad(file: Path, number: int, words: int = 25, seed: int = 0, unanswerable: float = 0.0) -> Path:
    """A file in SQuAD's format: somewhere in random words stands the answer, or it does not."""
    draw = random.Random(seed)
    paragraphs = []
    for index in range(number):
        context = draw.choices(WORDS, k=words)
        is_impossible = draw.random() < unanswerable
        if not is_impossible:
            context.insert(draw.randrange(words), ANSWER)
        text = " ".join(context)
        answers = [] if is_impossible else [{"text": ANSWER, "answer_start": text.index(ANSWER)}]
        asked = {"id": f"q{index}", "question": "the animal", "answers": answers, "is_impossible": is_impossible}
        paragraphs.append({"context": text, "qas": [asked]})
    file.write_text(json.dumps({"version": "2.0", "data": [{"title": "words", "paragraphs": paragraphs}]}))
    return file


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_source(tmp_path / "source", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    convert(tmp_path / "source", tmp_path / "model", max_length=260, attention_window=16, check=False)
    make_squad(tmp_path / "train.json", 96)
    make_squad(tmp_path / "dev.json", 13, seed=1)
    return tmp_path


def arguments(folder: Path, output: str = "run", **options: Any) -> list[str]:
    given = {
        "model_name_or_path": folder / "model",
        "train_file": folder / "train.json",
        "validation_file": folder / "dev.json",
        "output_dir": folder / output,
        "max_seq_length": 64,
        "stride": 16,
        "num_train_epochs": 6,
        "learning_rate": 0.01,
        "per_device_train_batch_size": 8,
        "logging_steps": 1,
        "report_to": "none",
        "bf16": False,
        "disable_tqdm": True,
        **options,
    }
    return [word for name, value in given.items() if value is not None for word in (f"--{name}", str(value))]


def read(file: Path) -> Any:
    return json.loads(file.read_text())


def test_training_finds_the_answers(folder: Path) -> None:
    results = run_qa.main(arguments(folder, test_file=make_squad(folder / "test.json", 9, words=100, seed=2)))
    assert results["scores"]["validation"]["f1"] > 90
    assert results["scores"]["test"]["f1"] > 60  # most answers stand beyond the first window
    assert results["windows"]["test"] > 3 * 9
    assert results["questions"] == {"train": 96, "validation": 13, "test": 9}
    written = read(folder / "run" / "results.json")
    assert written["scores"] == results["scores"]
    assert {"command", "seed", "versions", "date", "hyperparameters"} <= written.keys()
    found, n_best = (read(folder / "run" / f"test-{name}.json") for name in ("predictions", "nbest"))
    contexts = {row["qas"][0]["id"]: row["context"] for row in read(folder / "test.json")["data"][0]["paragraphs"]}
    for name, candidates in n_best.items():
        assert found[name] == candidates[0]["text"]
        probabilities = [one["probability"] for one in candidates]
        assert probabilities == sorted(probabilities, reverse=True)
        assert 0 < probabilities[0] <= 1
        for one in candidates:  # exact characters
            assert contexts[name][one["start"] : one["end"]] == one["text"]
    assert (folder / "run" / "curves.png").read_bytes()[:4] == b"\x89PNG"
    assert read(folder / "run" / "prediction.json")["stride"] == 16


def test_truncated_documents_lose_what_is_beyond(folder: Path) -> None:
    make_squad(folder / "dev.json", 20, words=150, seed=3)
    results = run_qa.main(arguments(folder, documents_beyond="truncate"))
    assert results["windows"]["validation"] == 20
    assert results["scores"]["validation"]["f1"] < 60


def test_questions_without_an_answer(folder: Path) -> None:
    make_squad(folder / "train.json", 160, unanswerable=0.5)
    make_squad(folder / "dev.json", 24, seed=1, unanswerable=0.5)
    results = run_qa.main(arguments(folder))
    scores = results["scores"]["validation"]
    assert scores["no_answer_total"] + scores["has_answer_total"] == scores["total"] == 24
    assert scores["f1"] > 80
    threshold = read(folder / "run" / "prediction.json")["null_threshold"]
    assert threshold == results["null_threshold"]
    odds, found = (read(folder / "run" / f"validation-{name}.json") for name in ("null-odds", "predictions"))
    assert all((text == "") == (odds[name] > threshold) for name, text in found.items())


def test_killed_run_goes_on_with_the_same_losses(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"save_strategy": "steps", "save_steps": 4, "eval_strategy": "no", "max_steps": 10}
    options |= {"tokens_per_batch": 256}
    run_qa.main(arguments(folder, "whole", **options))
    with monkeypatch.context() as patch:
        patch.setattr("hf_longformer.finetune.training.StopOnBadLoss", Kill)
        with pytest.raises(KeyboardInterrupt):
            run_qa.main(arguments(folder, **options))
    results = run_qa.main(arguments(folder, **options))
    assert results["training"]["resumed_from"] == "checkpoint-4"
    assert losses(folder / "run") == pytest.approx(losses(folder / "whole"), rel=1e-5)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("sharded", [False, True], ids=["DDP", "FSDP"])
def test_two_processes_train_as_one_with_twice_the_batch(sharded: bool, folder: Path) -> None:
    """Losses to rounding, and the same scores of 13 questions, of which neither process has half."""
    common = {"train_sampling_strategy": "sequential", "max_steps": 6, "save_strategy": "steps", "save_steps": 6}
    common |= {
        "eval_strategy": "steps",
        "eval_steps": 6,
        "optim": "sgd",
        "learning_rate": 0.5,
        "num_train_epochs": None,
    }
    one = run_qa.main(arguments(folder, "one", per_device_train_batch_size=8, **common))
    script = Path(__file__).with_name("fsdp_on_cpu.py") if sharded else run_qa.__file__
    command = ["python", script]
    common |= {"per_device_train_batch_size": 4, "ddp_backend": "gloo", "fsdp": "full_shard" if sharded else None}
    command += arguments(folder, "two", **common)
    done = run_two(command)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("parted: True") == (2 if sharded else 0)  # the script with shards says so
    two = read(folder / "two" / "results.json")
    assert two["processes"] == 2
    assert losses(folder / "two") == pytest.approx(losses(folder / "one"), rel=1e-4)
    assert two["scores"] == one["scores"]
    texts, others = (read(folder / name / "validation-nbest.json") for name in ("one", "two"))
    assert texts.keys() == others.keys()


def test_sharding_that_cannot_be_had_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match="--fsdp shards a model over several processes"):
        run_qa.main(arguments(folder, fsdp="full_shard"))


def test_accumulated_gradients_are_those_of_the_larger_batch(folder: Path) -> None:
    common = {"train_sampling_strategy": "sequential", "max_steps": 4, "save_strategy": "steps", "save_steps": 4}
    common |= {"optim": "sgd", "learning_rate": 0.5, "eval_strategy": "no"}
    run_qa.main(arguments(folder, "large", per_device_train_batch_size=8, **common))
    small = {**common, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 4}
    run_qa.main(arguments(folder, "small", **small))
    assert losses(folder / "small") == pytest.approx(losses(folder / "large"), rel=1e-4)


def test_command_line(folder: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    words = arguments(folder, max_steps=1, num_train_epochs=None, eval_strategy="no")
    monkeypatch.setattr(sys, "argv", ["hf-longformer", "finetune", "qa", *words])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code in (0, None)
    assert "validation: exact_match" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "train.json must be a JSON object, got one that breaks off"),
        ("[]", "train.json"),
        ('{"data": [1]}', "must be in the format of SQuAD, TriviaQA or HotpotQA"),
        ('{"data": []}', "must have questions, got none"),
        ('{"data": [{"paragraphs": [{"qas": [{}]}]}]}', "not in the format of its kind: KeyError"),
        ('{"Data": []}', "--evidence_folder must hold its documents, got None"),
        ('{"question": "a", "context": "b"}', r"cannot be read|format of SQuAD|must have a column answers"),
    ],
)
def test_damaged_file(content: str, message: str, folder: Path) -> None:
    (folder / "train.json").write_text(content)
    with pytest.raises(InputError, match=message):
        run_qa.main(arguments(folder))
    assert not (folder / "run").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"train_file": "nowhere.json"}, "nowhere.json"),
        ({"max_seq_length": 261}, "between 3 and the model's 260 tokens, got 261"),
        ({"stride": 64}, "--stride must be 0 or more, and less than a window of 64 tokens, got 64"),
        ({"label_smoothing_factor": 0.1}, "--label_smoothing_factor must be 0 for qa"),
        ({"n_best": 0}, "--n_best must be at least 1, got 0"),
        ({"max_train_samples": 0}, "--max_train_samples must be at least 1, got 0"),
        ({"metric_for_best_model": "f"}, "must be one of loss, f1, exact_match, has_.* got f: did you mean f1"),
        ({"validation_file": None, "validation_share": 0.001}, "leaves nothing on one side"),
    ],
)
def test_bad_argument(options: dict[str, Any], message: str, folder: Path) -> None:
    with pytest.raises(InputError, match=message):
        run_qa.main(arguments(folder, **options))


def test_answers_that_do_not_stand_in_their_document_are_skipped_and_counted(folder: Path) -> None:
    content = read(folder / "train.json")
    for paragraph in content["data"][0]["paragraphs"][:3]:
        paragraph["qas"][0]["answers"][0]["answer_start"] += 1
    content["data"][0]["paragraphs"][5]["qas"][0]["question"] = "  "
    (folder / "train.json").write_text(json.dumps(content))
    results = run_qa.main(arguments(folder, max_steps=1))
    assert results["skipped"] == {"train": 4}
    assert results["questions"]["train"] == 92


def test_held_out_documents_are_not_trained_on(folder: Path) -> None:
    table = read_nested(folder / "train.json")
    kept, held = hold_out(table, 0.25, seed=3)
    assert not set(kept.rows["context"]) & set(held.rows["context"])
    assert sorted([*kept.rows["row"], *held.rows["row"]]) == table.rows["row"][:]
    assert hold_out(table, 0.25, seed=3)[1].rows["row"][:] == held.rows["row"][:]


def test_formats(tmp_path: Path) -> None:
    """TriviaQA's and tables, with and without places of answers."""
    evidence = tmp_path / "evidence"
    (evidence / "wikipedia").mkdir(parents=True)
    (evidence / "wikipedia" / "A.txt").write_text("A fox. A Fox, a foxtrot and a FOX's tail.")
    (evidence / "wikipedia" / "B.txt").write_text("No such animal.")
    asked = {"Question": "Which?", "QuestionId": "t1", "Answer": {"Aliases": ["fox", "Vulpes"]}}
    asked |= {"EntityPages": [{"Filename": "A.txt"}, {"Filename": "B.txt"}]}
    (tmp_path / "trivia.json").write_text(json.dumps({"Data": [asked], "Domain": "Wikipedia"}))
    rows = read_nested(tmp_path / "trivia.json", str(evidence)).rows
    assert rows["id"] == ["t1", "t1"]
    assert rows["spans"] == [[[2, 5], [9, 12], [30, 33]], []]
    asked["EntityPages"].append({"Filename": "C.txt"})
    (tmp_path / "trivia.json").write_text(json.dumps({"Data": [asked], "Domain": "Wikipedia"}))
    with pytest.raises(InputError, match=r"the document C.txt of t1 must be in"):
        read_nested(tmp_path / "trivia.json", str(evidence))
    asked = {"_id": "h1", "question": "Is it?", "answer": "yes", "supporting_facts": [["A", 0]], "type": "comparison"}
    asked["context"] = [["A", ["One sentence.", " Yes, another."]], ["B", ["A third."]]]
    (tmp_path / "hotpot.json").write_text(json.dumps([asked]))
    row = read_nested(tmp_path / "hotpot.json").rows[0]
    assert row["context"] == "yes no\nA. One sentence. Yes, another.\nB. A third."
    assert (row["id"], row["answers"], row["spans"]) == ("h1", ["yes"], [[0, 3], [24, 27]])
    lines = [
        {"question": "a", "context": "b c b", "answers": {"text": ["b"], "answer_start": [4]}},
        {"question": "a", "context": "b c b", "answers": {"text": ["c", "c", "d"], "answer_start": [2, 2, 0]}},
        {"question": "a", "context": "b c b", "answers": {"text": [], "answer_start": []}},
    ]
    (tmp_path / "table.jsonl").write_text("\n".join(map(json.dumps, lines)))
    rows = read_questions(TableArguments(train_file=str(tmp_path / "table.jsonl")), None)["train"].rows
    assert rows["spans"] == [[[4, 5]], [[2, 3]], []]
    assert rows["row"] == [1, 2, 3]


def test_triviaqa_as_it_is_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names and gold answers are those of the official scorer: of the web every document is a question."""
    said: list[str] = []
    monkeypatch.setattr(question_files.logger, "warning", said.append)
    for kind, name, text in (
        ("wikipedia", "Fox_One.txt", "AC/DC sang."),
        ("web", "35/35_995.txt", "The ‘AC DC’ sang."),
    ):
        (tmp_path / kind / name).parent.mkdir(parents=True)
        (tmp_path / kind / name).write_text(text, encoding="utf-8")
    answer = {"Aliases": ["AC/DC", "Acca Dacca"], "NormalizedAliases": ["ac dc", "acca dacca", ""], "Type": "FreeForm"}
    answer |= {"MatchedWikiEntityName": "AC/DC", "NormalizedMatchedWikiEntityName": "ac dc"}
    answer |= {"NormalizedValue": "ac dc", "Value": "AC/DC"}
    page = {"DocSource": "TagMe", "Filename": "Fox_One.txt", "LinkProbability": "0.02934", "Title": "Fox One"}
    result = {"Description": "…", "DisplayUrl": "www", "Filename": "35/35_995.txt", "Rank": 0, "Title": "a", "Url": "u"}
    asked: dict[str, Any] = {"Answer": answer, "EntityPages": [page], "Question": "Who?", "QuestionId": "tc_33"}
    asked |= {"QuestionSource": "http://www", "SearchResults": [result]}

    def rows(**content: Any) -> Any:
        file = tmp_path / f"{len(list(tmp_path.glob('*.json')))}.json"
        file.write_text(json.dumps({"Data": [asked], "VerifiedEval": False, "Version": 1.0, **content}))
        return read_nested(file, str(tmp_path)).rows

    found = rows(Domain="Web")
    assert found["id"] == ["tc_33--Fox_One.txt", "tc_33--35/35_995.txt"]
    assert found["answers"] == [["ac dc", "acca dacca", ""]] * 2
    assert found["spans"] == [[[0, 5]], [[5, 10]]]
    assert rows(Domain="Wikipedia")["id"] == ["tc_33", "tc_33"]
    answer["HumanAnswers"] = ["The Young brothers"]
    assert rows(Domain="Web")["answers"][0] == ["ac dc", "acca dacca", "", "The Young brothers"]
    page["DocPartOfVerifiedEval"], result["DocPartOfVerifiedEval"] = False, True
    assert len(rows(Domain="Wikipedia", VerifiedEval=True)) == 2
    assert said == []
    verified = rows(Domain="Web", VerifiedEval=True)
    assert verified["context"] == ["The ‘AC DC’ sang."]
    assert "1 documents of 4.json are not part of the verified evaluation, and are left out" in said[0]
    del asked["Answer"]  # the test questions have none
    assert rows(Domain="Wikipedia")["answers"] == [[], []]
    page["Filename"] *= 999
    with pytest.raises(InputError, match=r"the document Fox_One.txtFox_One.txt.* of tc_33 must be in"):
        rows(Domain="Web")
    asked["EntityPages"] = [3]
    with pytest.raises(InputError, match=r"EntityPages must be a list of documents with a Filename each, got \[3\]"):
        rows(Domain="Web")


def test_rows_of_another_version_are_read_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_squad(tmp_path / "squad.json", 3)
    before = read_nested(tmp_path / "squad.json").rows
    assert read_nested(tmp_path / "squad.json").rows.cache_files == before.cache_files
    monkeypatch.setattr(question_files, "__version__", "another")
    assert read_nested(tmp_path / "squad.json").rows.cache_files != before.cache_files


def test_matches_are_whole_words_whatever_their_case() -> None:
    assert matches("Cat cats CAT. (cat) concat", ["cat", " "]) == [(0, 3), (9, 12), (15, 18)]
    assert matches("C++ or c++", ["C++"]) == [(0, 3), (7, 10)]
    assert matches("New York City", ["New York", "New York City"]) == [(0, 13)]
    assert matches("anything", []) == []
    assert matches("東京は日本の首都です。", ["首都", "東京"]) == [(0, 2), (6, 8)]  # scripts without spaces
    assert matches("NHK東京 NHKs", ["NHK"]) == [(0, 3)]


@pytest.mark.parametrize("make", [roberta_tokenizer, bert_tokenizer])
@pytest.mark.parametrize("stride", [0, 7, 20])
def test_windows_hold_every_answer_and_name_its_tokens(make: Any, stride: int, tmp_path: Path) -> None:
    make_squad(tmp_path / "long.json", 12, words=60, seed=5)
    tokenizer = make(tmp_path / "tokenizer")
    rows = read_nested(tmp_path / "long.json").rows
    windows = make_windows(rows, tokenizer, length=40, stride=stride, question_length=8)
    with_answer = set()
    for window in windows:
        context = rows[window["index"]]["context"]
        assert len(window["input_ids"]) <= 40
        for first, last in zip(window["starts"], window["ends"], strict=True):
            start, end = window["offset_mapping"][first][0], window["offset_mapping"][last][1]
            assert context[start:end] == ANSWER
            with_answer.add(window["index"])
    assert stride < 7 or with_answer == set(range(12))  # an answer of two words lies in a window as a whole
    read_characters = [
        {c for window in windows if window["index"] == index for a, b in window["offset_mapping"] for c in range(a, b)}
        for index in range(12)
    ]
    for index, seen in enumerate(read_characters):
        assert {place for place, letter in enumerate(rows[index]["context"]) if letter != " "} <= seen


def test_first_answer_only(tmp_path: Path) -> None:
    rows = [{"question": "a", "context": "dog fox dog fox", "answers": ["fox"], "spans": [[4, 7], [12, 15]], "row": 1}]
    from datasets import Dataset

    tokenizer = bert_tokenizer(tmp_path / "tokenizer")
    for kind, number in (("any", 2), ("first", 1)):
        windows = make_windows(
            Dataset.from_list(rows), tokenizer, length=30, stride=4, question_length=8, answer_loss=kind
        )
        assert len(windows[0]["starts"]) == number


def test_long_question_is_shortened(tmp_path: Path) -> None:
    tokenizer = bert_tokenizer(tmp_path / "tokenizer")
    found = cut_questions(["the fox " * 50], ["the dog"], tokenizer, length=20, stride=0, question_length=6)
    assert found["input_ids"][0].count(tokenizer.sep_token_id) == 2
    assert found["input_ids"][0].index(tokenizer.sep_token_id) == 7


def test_span_loss_is_an_or_over_right_spans() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 6, dtype=torch.float64).float()
    candidates = torch.tensor([[1, 0, 1, 1, 1, 0], [1, 0, 0, 1, 1, 1]]).bool()
    right = torch.tensor([[2, 4, 2], [0, -1, -1]])
    found = span_loss(logits, candidates, right)
    for row, positions in enumerate(([2, 4], [0])):
        probabilities = logits[row].exp() * candidates[row]
        expected = -math.log(float(probabilities[positions].sum() / probabilities.sum()))
        assert found[row].item() == pytest.approx(expected, abs=1e-6)


def test_best_spans_are_those_of_all_pairs() -> None:
    torch.manual_seed(0)
    start, end = torch.randn(2, 3, 12) * 3
    candidates = torch.ones(3, 12, dtype=torch.bool)
    candidates[:, 1:4] = False
    found = best_spans(start, end, candidates, n_best=5, answer_length=3)
    for row in range(3):
        log_start, log_end = (
            one[row].masked_fill(~candidates[row], -torch.inf).log_softmax(-1) for one in (start, end)
        )
        assert found[row, 0].tolist() == pytest.approx([0, 0, float(log_start[0] + log_end[0])], abs=1e-5)
        pairs = [(i, j, float(log_start[i] + log_end[j])) for i in range(4, 12) for j in range(i, min(i + 3, 12))]
        expected = sorted(pairs, key=lambda one: -one[2])[:5]
        for one, other in zip(found[row, 1:].tolist(), expected, strict=True):
            assert one == pytest.approx(other, abs=1e-5)


@pytest.mark.parametrize("side", ["left", "right"])
def test_batch_of_windows(side: str, tmp_path: Path) -> None:
    tokenizer = bert_tokenizer(tmp_path / "tokenizer")
    tokenizer.padding_side = side
    rows = cut_questions(["the", "the"], ["quick fox jumps", "dog"], tokenizer, length=20, stride=0, question_length=6)
    features = [
        {**{name: values[index] for name, values in rows.items()}, "starts": starts, "ends": starts, "index": index}
        for index, starts in enumerate(([4], []))
    ]
    batch = WindowCollator(tokenizer)(features)
    words = ["[CLS] quick fox jumps", "[CLS] dog"]
    for row, (text, right) in enumerate(zip(words, ("fox", "[CLS]"), strict=True)):
        seen = tokenizer.convert_ids_to_tokens(batch["input_ids"][row][batch["candidates"][row]])
        assert " ".join(seen) == text
        assert tokenizer.convert_ids_to_tokens(int(batch["input_ids"][row, batch["starts"][row, 0]])) == right


def test_padding_side_changes_no_answer(folder: Path) -> None:
    model = HfLongformerForQuestionAnswering.from_pretrained(folder / "model").eval()
    spans = {}
    for side in ("left", "right"):
        tokenizer = roberta_tokenizer(folder / "tokenizer")
        tokenizer.padding_side = side
        texts = ["the quick brown fox jumps", "lazy dog"]
        rows = cut_questions(["the", "over"], texts, tokenizer, length=40, stride=0, question_length=6)
        features = [
            {**{name: values[index] for name, values in rows.items()}, "starts": [], "ends": [], "index": index}
            for index in range(2)
        ]
        batch = WindowCollator(tokenizer)(features)
        with torch.no_grad():
            outputs = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
        spans[side] = spans_of(outputs, batch, tokenizer, 3, 5)
    torch.testing.assert_close(spans["left"], spans["right"], atol=1e-4, rtol=1e-4)


def test_answers_of_several_windows_and_documents() -> None:
    windows = {"offset_mapping": [[(-1, -1), (0, 3), (4, 7)], [(-1, -1), (4, 7), (8, 11)], [(-1, -1), (0, 2), (3, 4)]]}
    windows["index"] = [0, 0, 1]
    spans = np.asarray(
        [
            [[0, 0, -3.0], [1, 1, -1.0], [2, 2, -2.0]],
            [[0, 0, -0.1], [1, 1, -1.5], [-np.inf, -np.inf, -np.inf]],  # the same place as in the window before
            [[0, 0, -2.0], [1, 2, -0.5], [1, 1, -4.0]],
        ]
    )
    rows = {"id": ["a", "a"], "context": ["one two six", "be c"], "row": [7, 8]}
    found = answers_of(windows, spans, rows, n_best=3)["a"]
    assert [(one["text"], one["row"]) for one in found.candidates] == [("be c", 8), ("one", 7), ("two", 7)]
    assert found.candidates[2]["probability"] == pytest.approx(math.exp(-1.5))
    assert found.null_score == pytest.approx(-3.0 + 0.5)
    assert found.text(None) == found.text(0.0) == "be c"
    assert found.text(-2.6) == ""


def test_null_threshold_is_the_best_one() -> None:
    draw = random.Random(0)
    answers, gold = {}, {}
    for index in range(40):
        gold[f"{index}"] = ["fox"] if draw.random() < 0.6 else []
        score = draw.gauss(-1 if gold[f"{index}"] else 1, 2)
        answers[f"{index}"] = Answer([{"text": draw.choice(["fox", "fox", "dog"])}], score)
    chosen = choose_null_threshold(answers, gold)
    best = scores(answers, gold, chosen, None)["f1"]
    for threshold in sorted(one.null_score for one in answers.values()):
        for moved in (threshold - 1e-6, threshold + 1e-6):
            assert scores(answers, gold, moved, None)["f1"] <= best + 1e-9
    assert best > scores(answers, gold, None, None)["f1"]
