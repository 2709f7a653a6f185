# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`finetune/run_coref.py`: forms of files, windows, clusters joined, training, resuming, and what is predicted."""

import json
import random
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sources import bert_tokenizer, make_source
from training_runs import Kill, losses

from hf_longformer.conversion import InputError, convert
from hf_longformer.finetune import run_coref
from hf_longformer.finetune.coref import documents as readers
from hf_longformer.finetune.coref.predictor import CoreferencePredictor
from hf_longformer.finetune.coref.scores import coreference_scores
from hf_longformer.finetune.coref.windows import choose_threshold, cut_documents, gold_of, join_windows, packed

LITBANK = Path(__file__).parents[2] / "shared" / "data" / "litbank" / "litbank.zip"
CONLL = """#begin document (bn/one); part 000
bn/one   0   0   The   DT   (TOP(S(NP*   -   -   -   -   *   -   (0
bn/one   0   1   fox   NN   *)           -   -   -   -   *   -   (1)|0)
bn/one   0   2   ran   VB   *            -   -   -   -   *   -   -

bn/one   0   0   It    PR   *            -   -   -   -   *   -   (0)
bn/one   0   1   slept VB   *))          -   -   -   -   *   -   -
#end document
#begin document (bn/one); part 001
bn/one   1   0   Dogs  NN   *            -   -   -   -   *   -   (0)
#end document
"""
LITBANK_FORM = (
    "#begin document (book); part 0\n"
    "book\t0\t0\tThe\t_\t_\t_\t_\t_\t_\t_\t_\t(3|(3\n"
    "book\t0\t1\told\t_\t_\t_\t_\t_\t_\t_\t_\t3)\n"
    "book\t0\t2\tfox\t_\t_\t_\t_\t_\t_\t_\t_\t3)\n\n"
    "book\t0\t0\tslept\t_\t_\t_\t_\t_\t_\t_\t_\t\n"
    "#end document\n"
)


def read_documents(file: str) -> Any:
    return readers.checked(readers.read_documents(file))


def documents(file: Path) -> list[tuple[Any, ...]]:
    return [(row["name"], row["tokens"], row["clusters"]) for row in read_documents(str(file)).rows]


def test_conll_2012(tmp_path: Path) -> None:
    """Parts are documents of their own, with clusters of their own."""
    (tmp_path / "a.v4_gold_conll").write_text(CONLL)
    assert documents(tmp_path / "a.v4_gold_conll") == [
        ("(bn/one); part 000", ["The", "fox", "ran", "It", "slept"], [[[1, 1]], [[0, 1], [3, 3]]]),
        ("(bn/one); part 001", ["Dogs"], [[[0, 0]]]),
    ]


def test_litbank_has_empty_fields_and_mentions_inside_mentions_of_the_same(tmp_path: Path) -> None:
    (tmp_path / "book_brat.conll").write_text(LITBANK_FORM)
    wanted = [("(book); part 0", ["The", "old", "fox", "slept"], [[[0, 1], [0, 2]]])]
    assert documents(tmp_path / "book_brat.conll") == documents(tmp_path) == wanted


def test_tables_of_tokens_and_of_sentences(tmp_path: Path) -> None:
    lines = [
        {"doc_key": "a", "sentences": [["The", "fox"], ["It"]], "clusters": [[[0, 1], [2, 2]]], "speakers": [[""]]},
        {"doc_key": "b", "sentences": [["No"]], "clusters": []},
    ]
    (tmp_path / "s2e.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert documents(tmp_path / "s2e.jsonl") == [("a", ["The", "fox", "It"], [[[0, 1], [2, 2]]]), ("b", ["No"], [])]
    (tmp_path / "own.jsonl").write_text(json.dumps({"tokens": ["It"], "clusters": [[[0, 0]]]}))
    assert documents(tmp_path / "own.jsonl") == [("1", ["It"], [[[0, 0]]])]


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"tokens": ["a"], "clusters": [[[0, 1]]]}, "mentions within its 1 words, the last word included, got \\[0, 1"),
        ({"tokens": ["a", "b"], "clusters": [[[1, 0]]]}, "mentions within its 2 words"),
        ({"tokens": ["a"], "clusters": [[[0, 0]], [[0, 0]]]}, "every mention once, got \\[0, 0\\] twice"),
        ({"tokens": [], "clusters": []}, "must have a list of words in tokens"),
        ({"tokens": ["a"]}, "must have a column clusters"),
        ({"text": "a", "clusters": []}, "must have a column tokens"),
    ],
)
def test_tables_that_make_no_sense(row: dict[str, Any], sentence: str, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text(json.dumps(row))
    with pytest.raises(InputError, match=sentence):
        read_documents(str(tmp_path / "in.jsonl"))


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("(1)|0)", "(1)", "must close all mentions, got open ones of 0"),
        ("(1)|0)", "(1)|2)", "line 3 of .* closes a mention of 2 that was not opened"),
        ("(1)|0)", "[1]", r"must have clusters such as \(3, 3\) or \(3\) in its last field, got \[1"),
        ("#end document\n#begin", "#begin", "begin documents with #begin document and end them with #end document"),
        ("(0)\n#end document\n", "(0)\n", "begin documents with #begin document and end them with #end document"),
        ("bn/one   0   2   ran   VB", "ran VB", "line 4 of .* must have the fields of CoNLL-2012, 12 or more, got 10"),
        (CONLL, "", "must hold documents in CoNLL-2012's form"),
        (CONLL, "It was a dark night.\n", "begin documents with #begin document"),
    ],
)
def test_files_that_are_damaged(old: str, new: str, sentence: str, tmp_path: Path) -> None:
    (tmp_path / "a.conll").write_text(CONLL.replace(old, new, 1))
    with pytest.raises(InputError, match=sentence):
        read_documents(str(tmp_path / "a.conll"))


def test_what_is_not_there(tmp_path: Path) -> None:
    for name in ("nowhere", "nowhere.conll"):
        with pytest.raises(InputError, match=r"documents must be a file or a folder, got .*nowhere"):
            read_documents(str(tmp_path / name))
    with pytest.raises(InputError, match="in files with conll in their names, got none"):
        read_documents(str(tmp_path))


@pytest.mark.skipif(not LITBANK.exists(), reason="needs LitBank, which is not part of the project")
def test_litbank_is_read_whole(tmp_path: Path) -> None:
    with zipfile.ZipFile(LITBANK) as archive:
        archive.extractall(tmp_path, [name for name in archive.namelist() if name.endswith(".conll")])
    rows = read_documents(str(tmp_path)).rows
    mentions = [mention for clusters in rows["clusters"] for cluster in clusters for mention in cluster]
    found = len(rows), sum(map(len, rows["tokens"])), len(mentions), sum(map(len, rows["clusters"]))
    assert found == LITBANK_COUNTS


LITBANK_COUNTS = (90, 189_704, 26_216, 7_272)  # documents, words, mentions, clusters


# ---- windows ----


def test_windows_hold_every_word_and_mention(tmp_path: Path) -> None:
    tokenizer, draw = bert_tokenizer(tmp_path), random.Random(0)
    words = [draw.choice(["quick", "dog", "documents", "xyzzyplugh"]) for _ in range(150)]
    windows = cut_documents([words, ["dog"]], tokenizer, length=40, stride=12)
    own = [one for one in windows if one["text"] == 0]
    assert len(own) > 3
    assert windows[-1]["first_word"] == 0
    seen = set()
    for one in own:
        for number, (first, last) in enumerate(one["word_tokens"], one["first_word"]):
            ids = one["input_ids"][first : last + 1]
            assert ids == tokenizer(words[number], add_special_tokens=False)["input_ids"]
            seen.add(number)
    assert seen == set(range(150))
    clusters = [[[0, 1], [50, 50]], [[149, 149]]]
    gold = [gold_of(one, clusters) for one in own]
    assert gold[0]["mentions"][0] == [0, 1]
    assert gold[-1] == {"mentions": [[149 - own[-1]["first_word"]] * 2], "labels": [1]}
    assert sum(50 in range(one["first_word"], one["first_word"] + len(one["word_keys"])) for one in own) == sum(
        [50 - one["first_word"]] * 2 in found["mentions"] for one, found in zip(own, gold, strict=True)
    )


def output(
    spans: list[list[int]],
    antecedents: list[int],
    logits: list[float] | None = None,
    pair_logits: list[float] | None = None,
) -> np.ndarray:
    pairs = pair_logits or [1.0] * len(spans)
    columns = [np.asarray([one]) for one in (spans, logits or [-1.0] * len(spans), antecedents, pairs)]
    return packed(columns)[0]


def test_a_word_that_no_window_holds_is_counted(folder: Path, model: Path) -> None:
    tokenizer = bert_tokenizer(folder / "tokenizer")
    long = "x" * 90
    size = len(tokenizer(long, add_special_tokens=False)["input_ids"])
    if size < 20:  # what is unknown as a whole is one token
        long = "dog" + "quick" * 60
        size = len(tokenizer(long, add_special_tokens=False)["input_ids"])
    windows = cut_documents([["dog", long, "fox"]], tokenizer, length=12, stride=3)
    assert size > 20
    assert {one["cut"] for one in windows} == {size}
    assert {one["first_word"] + index for one in windows for index, _ in enumerate(one["word_keys"])} == {0, 2}
    with pytest.raises(InputError, match="words must fit into windows of 12 tokens, got none"):
        cut_documents([[long]], tokenizer, length=12, stride=3)


def test_a_mention_of_two_windows_joins_their_clusters() -> None:
    outputs = [output([[0, 0], [4, 5]], [-1, 0]), output([[1, 2], [6, 6], [-1, -1]], [-1, 0, -1])]
    found = join_windows([(0, 0), (0, 3)], outputs, singletons=False)
    assert found == {0: [[[0, 0], [4, 5], [9, 9]]]}
    apart = join_windows([(0, 0), (1, 3)], outputs, singletons=False)
    assert apart == {0: [[[0, 0], [4, 5]]], 1: [[[4, 5], [9, 9]]]}


def test_singletons_are_mentions_that_nothing_is_linked_to() -> None:
    one = output([[0, 0], [2, 2], [3, 3], [5, 5]], [-1, -1, 0, -1], [2.0, 1.0, 3.0, -0.5])
    assert join_windows([(0, 0)], [one], singletons=True) == {0: [[[0, 0], [3, 3]], [[2, 2]]]}
    assert join_windows([(0, 0)], [one], singletons=False) == {0: [[[0, 0], [3, 3]]]}


def test_the_threshold_is_the_best_one_and_the_nearest_to_nothing() -> None:
    spans = [[0, 0], [1, 1], [2, 2], [3, 3]]
    outputs = [output(spans, [-1, 0, 1, 2], pair_logits=[-np.inf, 3.0, -0.6, -2.2])]
    for gold, wanted in (
        ([[[0, 0], [1, 1]]], 0.0),
        ([[[0, 0], [1, 1], [2, 2]]], -0.75),
        ([[[0, 0], [1, 1], [2, 2], [3, 3]]], -2.25),
    ):
        threshold = choose_threshold([(0, 0)], outputs, False, [gold])
        assert threshold == wanted
        assert join_windows([(0, 0)], outputs, False, threshold) == {0: gold}
    far = [output(spans[:2], [-1, 0], pair_logits=[-np.inf, 3.6])]
    assert choose_threshold([(0, 0)], far, False, [[[[5, 5]]]]) == 0.0  # nothing is right, whatever it is


# ---- training ----


def make_document(draw: random.Random, words: int) -> dict[str, Any]:
    """Foxes are one cluster, dogs another; what they are called gives them away. Other animals are said once."""
    tokens: list[str] = []
    clusters: dict[str, list[list[int]]] = {}
    while len(tokens) < words:
        kind = draw.random()
        if kind < 0.3:
            animal = draw.choice(["fox", "dog"])
            clusters.setdefault(animal, []).append([len(tokens), len(tokens) + 1])
            tokens += ["the", animal]
        else:
            tokens.append(draw.choice(["quick", "over", "jumps", "long", "windows", "and", "need"]))
    return {"tokens": tokens, "clusters": list(clusters.values())}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    make_source(folder / "source", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    convert(folder / "source", folder / "model", max_length=260, attention_window=16, check=False)
    return folder / "model"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    draw = random.Random(0)
    for name, number in (("train", 48), ("validation", 4), ("test", 4)):
        rows = [make_document(draw, draw.choice([12, 30, 80])) for _ in range(number)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def arguments(folder: Path, model: Path, output: str = "run", **options: Any) -> list[str]:
    given = {"model_name_or_path": model, "output_dir": folder / output, "max_seq_length": 48, "stride": 12}
    given |= {f"{split}_file": folder / f"{split}.jsonl" for split in ("train", "validation", "test")}
    given |= {"mention_width": 4, "scorer_size": 64, "max_steps": 12, "learning_rate": 0.01, "logging_steps": 1}
    given |= {"save_strategy": "steps", "save_steps": 4, "eval_strategy": "steps", "eval_steps": 4}
    given |= {"report_to": "none", "bf16": False, "disable_tqdm": True, **options}
    return [word for name, value in given.items() for word in (f"--{name}", str(value))]


def test_training_finds_clusters_and_prediction_finds_them_again(folder: Path, model: Path) -> None:
    options = {
        "max_steps": 400,
        "save_steps": 200,
        "eval_steps": 200,
        "learning_rate": 0.02,
        "per_device_train_batch_size": 8,
    }
    results = run_coref.main(arguments(folder, model, **options))
    assert results["documents"] == {"train": 48, "validation": 4, "test": 4}
    assert results["windows"]["test"] > 4
    assert results["coreference"]["singletons"] is any(
        len(cluster) == 1 for row in map(json.loads, (folder / "train.jsonl").open()) for cluster in row["clusters"]
    )
    gold = [json.loads(line)["clusters"] for line in (folder / "test.jsonl").open()]
    one_cluster = coreference_scores(
        [[[one for cluster in row for one in cluster]] if row else [] for row in gold], gold
    )
    own_clusters = coreference_scores([[[one] for cluster in row for one in cluster] for row in gold], gold)
    assert results["scores"]["test"]["mention_f1"] > 80
    # Better than all gold mentions in one cluster, and than each in its own.
    for others in (one_cluster, own_clusters):
        assert results["scores"]["test"]["conll_f1"] > others["conll_f1"] + 5, others
    lines = [json.loads(line) for line in (folder / "run" / "test-predictions.jsonl").open()]
    rows = [json.loads(line) for line in (folder / "test.jsonl").open()]
    assert [line["gold"] for line in lines] == [row["clusters"] for row in rows]
    card = (folder / "run" / "README.md").read_text()
    assert "hf-longformer predict coref" in card
    assert "conll f1 without singletons" in card

    predictor = CoreferencePredictor.load(str(folder / "run"))
    assert (predictor.options["max_seq_length"], predictor.options["stride"]) == (48, 12)
    for line, row in zip(lines, rows, strict=True):
        text = " ".join(row["tokens"])
        starts = np.cumsum([0, *(len(word) + 1 for word in row["tokens"])])
        found = predictor([{"text": text}])[0]["clusters"]
        assert all(text[one["start"] : one["end"]] == one["text"] for cluster in found for one in cluster)
        assert [[[one["start"], one["end"]] for one in cluster] for cluster in found] == [
            [[int(starts[first]), int(starts[last + 1]) - 1] for first, last in cluster] for cluster in line["clusters"]
        ]
        given = predictor([{"tokens": row["tokens"]}])[0]["clusters"]
        assert [[[one["start_word"], one["end_word"] - 1] for one in cluster] for cluster in given] == line["clusters"]
        places = [[{name: one[name] for name in ("text", "start", "end")} for one in cluster] for cluster in given]
        assert places == found


def test_killed_run_goes_on_with_the_same_losses(folder: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = run_coref.main(arguments(folder, model, "whole"))
    with monkeypatch.context() as patch:
        patch.setattr("hf_longformer.finetune.training.StopOnBadLoss", Kill)
        with pytest.raises(KeyboardInterrupt):
            run_coref.main(arguments(folder, model))
    results = run_coref.main(arguments(folder, model))
    assert results["training"]["resumed_from"] == "checkpoint-4"
    assert losses(folder / "run") == pytest.approx(losses(folder / "whole"), rel=1e-6)
    assert results["scores"] == whole["scores"]


def test_accumulated_batches_are_as_one(folder: Path, model: Path) -> None:
    """The loss is per gold mention of the whole step, however it is divided."""
    common = {"max_steps": 3, "train_sampling_strategy": "sequential", "optim": "sgd", "do_predict": False}
    common |= {"eval_strategy": "no", "save_steps": 3}
    run_coref.main(arguments(folder, model, "one", per_device_train_batch_size=4, **common))
    options = {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2}
    run_coref.main(arguments(folder, model, "two", **options, **common))
    assert losses(folder / "two") == pytest.approx(losses(folder / "one"), rel=1e-4)


def test_a_trained_checkpoint_is_measured(folder: Path, model: Path) -> None:
    first = run_coref.main(arguments(folder, model))
    options = {"do_train": False, "model_name_or_path": folder / "run"}
    again = run_coref.main(arguments(folder, model, "again", **options))
    assert again["scores"] == first["scores"]
    kept = folder / "run" / "prediction.json"
    kept.write_text(json.dumps(json.loads(kept.read_text()) | {"link_threshold": 1e9}))
    alone = run_coref.main(arguments(folder, model, "alone", **options, do_eval=False, eval_strategy="no"))
    assert alone["link_threshold"] == 1e9  # no validation decides: it is that of the checkpoint
    assert alone["scores"]["test"]["muc_recall"] == 0


def test_mentions_beyond_the_width_are_counted(folder: Path, model: Path) -> None:
    results = run_coref.main(arguments(folder, model, mention_width=1, max_steps=1, eval_strategy="no", save_steps=1))
    rows = [json.loads(line) for line in (folder / "test.jsonl").open()]
    mentions = sum(len(cluster) for row in rows for cluster in row["clusters"])
    assert results["cut"]["test"] == {"mentions_of_more_than_1_words": mentions}
