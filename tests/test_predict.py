# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`hf-longformer predict` and the pipelines: any length, bad lines, kills, and the same results by every way."""

import csv
import io
import json
import random
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file, save_file
from sources import bert_tokenizer, edit_json, make_source
from summarization_runs import make_summariser
from test_run_qa import WORDS
from transformers import AutoTokenizer, RobertaForQuestionAnswering, pipeline

import hf_longformer_cli as cli
from hf_longformer import (
    HfLongformerForCoreference,
    HfLongformerForEvidenceQuestionAnswering,
    HfLongformerForQuestionAnswering,
    HfLongformerForSequenceClassification,
)
from hf_longformer.conversion import InputError, convert
from hf_longformer.finetune import pipelines
from hf_longformer.finetune.classification.predictor import ClassificationPredictor
from hf_longformer.finetune.hotpotqa.windows import MARKERS
from hf_longformer.finetune.markers import add_tokens
from hf_longformer.finetune.predict import predict
from hf_longformer.finetune.prediction import token_batches
from hf_longformer.finetune.prediction_defaults import save_defaults
from hf_longformer.finetune.qa.predictor import QuestionAnsweringPredictor
from hf_longformer.finetune.tasks import ASKED, module_of
from hf_longformer.finetune.words import whole_words

NAMES = {task: prediction.pipeline for task, prediction in ASKED.items()}
ROWS = dict.fromkeys(ASKED, ("text",)) | dict.fromkeys(("qa", "hotpotqa"), ("question", "context"))
ONE_SIZE = "qa", "hotpotqa", "summarization"  # tasks whose heads have no other
WHOLE = {"classification": "stride-mean", "summarization": "hierarchical"}  # what reads documents to their end
WITHOUT_STRIDE = ("hotpotqa",)  # whose windows hold whole paragraphs
HEADS = {
    "classification": "ForSequenceClassification",
    "qa": "ForQuestionAnswering",
    "token-classification": "ForTokenClassification",
}
TAGS = ["O", "B-X", "I-X"]
SCORERS = {"size": 8, "width": 3, "share": 0.5}  # of coreference


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of every task for 130 tokens with random weights, which answers at random but always the same."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    for task, head in HEADS.items():
        tags = {"id2label": dict(enumerate(TAGS)), "label2id": {name: number for number, name in enumerate(TAGS)}}
        make_source(folder / f"{task}-source", "bert", head, **(tags if task == "token-classification" else {}))
        convert(folder / f"{task}-source", folder / task, max_length=130, attention_window=16, check=False)
    make_source(folder / "encoder-source", "bert", "Model")
    convert(folder / "encoder-source", folder / "encoder", max_length=130, attention_window=16, check=False)
    model = HfLongformerForCoreference.from_pretrained(folder / "encoder", coreference=SCORERS)
    torch.nn.init.zeros_(model.mention_scorer.start_out.bias)  # or there would be no mentions
    for module in model.antecedent_scorer.modules():  # pairs of many sizes, or no two mentions would be linked
        if isinstance(module, torch.nn.Linear):
            torch.nn.init.normal_(module.weight)
    model.save_pretrained(folder / "coref")
    tokenizer = AutoTokenizer.from_pretrained(folder / "encoder")
    tokenizer.save_pretrained(folder / "coref")
    model = HfLongformerForEvidenceQuestionAnswering.from_pretrained(folder / "encoder")
    add_tokens(model, tokenizer, MARKERS)
    model.save_pretrained(folder / "hotpotqa")
    tokenizer.save_pretrained(folder / "hotpotqa")
    make_summariser(folder / "summarization")
    return folder


def make_rows(task: str, number: int = 11, seed: int = 0) -> list[dict[str, Any]]:
    """Texts of 1 to 300 words: most do not fit into 130 tokens; for hotpotqa as paragraphs of 20 words at most."""
    draw = random.Random(seed)
    words = [
        f"row-{index} " + " ".join(draw.choices(WORDS, k=draw.choice((1, 20, 150, 300)))) for index in range(number)
    ]
    if task == "qa":
        return [{"id": f"q{index}", "question": "the dog", "context": text} for index, text in enumerate(words)]
    if task == "hotpotqa":
        return [
            {"id": f"h{index}", "question": "the dog", "context": paragraphs(text)} for index, text in enumerate(words)
        ]
    return [{"id": f"c{index}", "text": text} for index, text in enumerate(words)]


def paragraphs(text: str) -> list[list[Any]]:
    """Titles of one word, and sentences of ten."""
    words = text.split()
    sentences = [" ".join(words[begin : begin + 10]) for begin in range(0, len(words), 10)]
    return [[words[0], sentences[begin : begin + 2]] for begin in range(0, len(sentences), 2)]


def strided(task: str, stride: int) -> dict[str, int]:
    return {} if task in WITHOUT_STRIDE else {"stride": stride}


def write(file: Path, rows: list[Any]) -> Path:
    file.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return file


def read(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def said_of(result: dict[str, Any]) -> Any:
    """The answer, without its probabilities."""
    if "entities" in result:
        return [(one["entity_group"], one["word"], one["start"], one["end"]) for one in result["entities"]]
    return next((result[name] for name in ("label", "answer", "clusters", "summary") if name in result), None)


@pytest.mark.parametrize("task", ASKED)
def test_results_do_not_depend_on_the_batch(task: str, models: Path, tmp_path: Path) -> None:
    """One text alone, all in one batch, windows of one document in different batches."""
    rows = make_rows(task)
    options: Any = {"overflow": WHOLE[task]} if task in WHOLE else {}
    options |= strided(task, 10)
    file = write(tmp_path / "in.jsonl", rows)
    found = []
    for budget in (1, 300, 100_000):
        output = tmp_path / f"{budget}.jsonl"
        report = predict(task, str(models / task), str(file), output, tokens_per_batch=budget, **options)
        assert report == {"lines": len(rows), "failed": [], "truncated": 0, "tokens_cut": 0, "resumed": 0}
        found.append(read(output))
        assert [one["line"] for one in found[-1]] == list(range(1, len(rows) + 1))
        assert [one["id"] for one in found[-1]] == [row["id"] for row in rows]
    assert any(map(said_of, found[0]))
    for other in found[1:]:
        for one, same in zip(found[0], other, strict=True):
            assert one.keys() == same.keys()
            for name, value in one.items():
                if name == "entities":
                    for entity, again in zip(value, same[name], strict=True):
                        assert again == {**entity, "score": pytest.approx(entity["score"], rel=1e-3)}
                elif isinstance(value, float | dict):
                    assert same[name] == pytest.approx(value, rel=1e-3)
                else:
                    assert same[name] == value


def test_classification_is_what_the_model_says(models: Path) -> None:
    """Cut off, and in windows whose logits are averaged or of which the largest count."""
    folder = str(models / "classification")
    rows = make_rows("classification", 5)
    model = HfLongformerForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    for overflow, together in (("truncate", None), ("stride-mean", torch.mean), ("stride-max", torch.amax)):
        found = ClassificationPredictor.load(folder, overflow=overflow, stride=10)(rows)
        for row, result in zip(rows, found, strict=True):
            ids = tokenizer(row["text"], add_special_tokens=False)["input_ids"]
            starts = [0] if together is None else range(0, max(1, len(ids) - 10), 128 - 10)
            logits = []
            for start in starts:
                piece = [tokenizer.cls_token_id, *ids[start : start + 128], tokenizer.sep_token_id]
                with torch.no_grad():
                    logits.append(model(torch.tensor([piece])).logits[0])
            pooled = logits[0] if together is None else together(torch.stack(logits), dim=0)
            expected = pooled.softmax(dim=-1)
            assert list(result["scores"].values()) == pytest.approx(expected.tolist(), abs=1e-5)
            assert result["label"] == model.config.id2label[int(expected.argmax())]


def test_answers_stand_where_they_are_said_to_stand(models: Path) -> None:
    rows = make_rows("qa")
    found = QuestionAnsweringPredictor.load(str(models / "qa"), n_best=3, stride=20)(rows)
    for row, result in zip(rows, found, strict=True):
        assert row["context"][result["start"] : result["end"]] == result["answer"] == result["n_best"][0]["text"]
        assert len(result["n_best"]) == 3
        assert 0 < result["probability"] <= 1
    silent = QuestionAnsweringPredictor.load(str(models / "qa"), null_threshold=-1e9, stride=20)(rows)
    assert all(result["answer"] == "" and result["start"] is None for result in silent)


@pytest.mark.parametrize("task", ASKED)
def test_pipelines_say_the_same(task: str, models: Path) -> None:
    """Also one that Transformers brings, where the model's own choice of global tokens is the right one."""
    rows = make_rows(task, 4)
    options: dict[str, Any] = {**strided(task, 20), **({"overflow": "truncate"} if task == "classification" else {})}
    predictor = module_of(task).PREDICTOR.load(str(models / task), **options)
    name = NAMES[task]
    found = pipeline(name, model=str(models / task), **options)(rows)
    assert pipelines.PIPELINE_REGISTRY.check_task(name)[1]["impl"].predictor_class is module_of(task).PREDICTOR
    for one, other in zip(found, predictor(rows), strict=True):
        assert one.keys() == other.keys()
        assert said_of(one) == said_of(other)
    if task == "classification":
        plain = pipeline("text-classification", model=str(models / task), truncation=True, max_length=130)
        for row, result in zip(rows, predictor(rows), strict=True):
            said = plain(row["text"])[0]
            assert (said["label"], said["score"]) == (result["label"], pytest.approx(max(result["scores"].values())))
    with pytest.raises(ValueError, match="a row cannot be read"):
        pipeline(name, model=str(models / task))({"nothing": "here"})


@pytest.mark.parametrize("task", ASKED)
def test_bad_lines_are_named_and_the_rest_is_done(task: str, models: Path, tmp_path: Path) -> None:
    good = make_rows(task, 3)
    bad = ["{torn", "[1]", {"other": "x"}, dict.fromkeys(ROWS[task], " "), dict.fromkeys(ROWS[task], 3), ""]
    file = write(tmp_path / "in.jsonl", [good[0], *bad, *good[1:]])
    said: list[str] = []
    report = predict(task, str(models / task), str(file), tmp_path / "out.jsonl", say=said.append)
    assert report["failed"] == [2, 3, 4, 5, 6]  # empty lines are none
    assert [line.split(":")[0] for line in said] == [f"line {number}" for number in report["failed"]]
    found = read(tmp_path / "out.jsonl")
    assert [one["line"] for one in found if "error" not in one] == [1, 7, 8]
    predict(task, str(models / task), str(write(tmp_path / "good.jsonl", good)), tmp_path / "good-out.jsonl")
    for one, other in zip([found[0], *found[-2:]], read(tmp_path / "good-out.jsonl"), strict=True):
        assert said_of(one) == said_of(other)


def test_row_that_breaks_the_model_alone_fails(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = ClassificationPredictor.forward

    def break_(self: Any, windows: list[dict[str, Any]]) -> Any:
        if max(len(window["input_ids"]) for window in windows) == longest:
            raise RuntimeError("out of memory")
        return forward(self, windows)

    tokenizer = AutoTokenizer.from_pretrained(models / "classification")
    rows = [{"text": "row " + "dog " * count} for count in (3, 50, 7)]
    longest = len(tokenizer(rows[1]["text"])["input_ids"])
    monkeypatch.setattr(ClassificationPredictor, "forward", break_)
    report = predict(
        "classification",
        str(models / "classification"),
        str(write(tmp_path / "in.jsonl", rows)),
        tmp_path / "out.jsonl",
    )
    assert report["failed"] == [2]
    assert read(tmp_path / "out.jsonl")[1]["error"] == "out of memory"


def test_killed_run_goes_on_without_losing_or_repeating_a_line(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = make_rows("classification", 30)
    arguments: Any = ("classification", str(models / "classification"), str(write(tmp_path / "in.jsonl", rows)))
    predict(*arguments, tmp_path / "whole.jsonl", tokens_per_batch=50)
    calls = 0
    whole = ClassificationPredictor.__call__

    def die(self: Any, rows: list[dict[str, Any]]) -> Any:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        return whole(self, rows)

    with monkeypatch.context() as patch:
        patch.setattr(ClassificationPredictor, "__call__", die)
        with pytest.raises(KeyboardInterrupt):
            predict(*arguments, tmp_path / "out.jsonl", tokens_per_batch=50)
    assert not (tmp_path / "out.jsonl").exists()
    partial = tmp_path / ".out.jsonl.partial"
    done = len(read(partial))
    assert 0 < done < 30
    with partial.open("a") as file:
        file.write('{"line": 99, "lab')  # torn by the kill
    report = predict(*arguments, tmp_path / "out.jsonl", tokens_per_batch=50)
    assert report["resumed"] == done
    assert (tmp_path / "out.jsonl").read_text() == (tmp_path / "whole.jsonl").read_text()
    assert not list(tmp_path.glob(".out*"))


def test_run_of_other_options_is_not_gone_on_with(models: Path, tmp_path: Path) -> None:
    file = str(write(tmp_path / "in.jsonl", [*make_rows("classification", 3), "{"]))
    arguments: Any = ("classification", str(models / "classification"), file, tmp_path / "out.jsonl")

    def die(line: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict(*arguments, say=die)  # at the bad line
    with pytest.raises(InputError, match="another input, checkpoint, version or options"):
        predict(*arguments, overflow="stride-max")
    assert predict(*arguments, overflow="stride-max", overwrite=True)["resumed"] == 0
    with pytest.raises(InputError, match=r"must not exist, got .*out\.jsonl: --overwrite"):
        predict(*arguments)


@pytest.mark.parametrize("task", [task for task, prediction in ASKED.items() if not prediction.as_they_stand])
def test_every_format_and_standard_input(
    task: str, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = make_rows(task, 5)
    write(tmp_path / "in.jsonl", rows)
    for ending, delimiter in (("csv", ","), ("tsv", "\t")):
        with (tmp_path / f"in.{ending}").open("w", newline="") as file:
            table = csv.DictWriter(file, rows[0].keys(), delimiter=delimiter)
            table.writeheader()
            table.writerows(rows)
    found = []
    for ending in ("jsonl", "csv", "tsv"):
        predict(task, str(models / task), str(tmp_path / f"in.{ending}"), tmp_path / f"{ending}.out")
        found.append((tmp_path / f"{ending}.out").read_text())
        bytes_ = io.BytesIO((tmp_path / f"in.{ending}").read_bytes())
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(bytes_, newline=""))
        predict(task, str(models / task), "-", tmp_path / f"{ending}-stdin.out", format=ending)
        found.append((tmp_path / f"{ending}-stdin.out").read_text())
    assert len(set(found)) == 1


def test_columns_of_other_names(models: Path, tmp_path: Path) -> None:
    rows = make_rows("classification", 3)
    renamed = [{"body": row["text"], "id": row["id"]} for row in rows]
    folder = str(models / "classification")
    predict("classification", folder, str(write(tmp_path / "a.jsonl", rows)), tmp_path / "a.out")
    columns = {"text": "body"}
    predict("classification", folder, str(write(tmp_path / "b.jsonl", renamed)), tmp_path / "b.out", columns=columns)
    assert (tmp_path / "a.out").read_text() == (tmp_path / "b.out").read_text()


def test_defaults_are_those_of_the_training(models: Path, tmp_path: Path) -> None:
    model = HfLongformerForQuestionAnswering.from_pretrained(models / "qa")
    model.save_pretrained(tmp_path)
    bert_tokenizer(tmp_path / "tokenizer").save_pretrained(tmp_path)
    save_defaults(tmp_path, "qa", {"max_seq_length": 64, "stride": 5, "null_threshold": 1.5})
    options = QuestionAnsweringPredictor.load(str(tmp_path), stride=9).options
    assert (options["max_seq_length"], options["stride"], options["null_threshold"]) == (64, 9, 1.5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("summaries", "qa", "in.jsonl", "out"), "a task must be one of .* got summaries"),
        (("qa", "nowhere", "in.jsonl", "out"), "the checkpoint .*nowhere cannot be loaded"),
        (
            ("classification", "qa", "in.jsonl", "out"),
            "trained for classification, got a HfLongformerForQuestionAnswering: .* finetune classif",
        ),
        (("qa", "qa", "nowhere.jsonl", "out"), "input must be a file, .* got .*nowhere.jsonl"),
        (("qa", "qa", "in.doc", "out"), "input must end in"),
        (("qa", "qa", "in.txt", "out"), "input must be a file"),
        (("qa", "qa", "in.jsonl", "nowhere/out"), "the folder of the output must exist"),
    ],
)
def test_bad_argument(arguments: tuple[str, ...], message: str, models: Path, tmp_path: Path) -> None:
    write(tmp_path / "in.jsonl", make_rows("qa", 1))
    task, checkpoint, input_, output = arguments
    with pytest.raises(InputError, match=message):
        predict(task, str(models / checkpoint), str(tmp_path / input_), tmp_path / output)
    assert not list(tmp_path.glob("*out*"))


@pytest.mark.parametrize(
    ("task", "options", "message"),
    [
        ("qa", {"max_seq_length": 131}, "the model's 130 tokens, got 131"),
        ("qa", {"overflow": "truncate"}, "options must be of .* got overflow"),
        (
            "classification",
            {"stride": 128},
            "--stride must be 0 or more, and less than a window of 130 tokens, got 128",
        ),
        ("classification", {"overflow": "sum"}, "overflow must be truncate, stride-mean or stride-max, got sum"),
    ],
)
def test_bad_option(task: str, options: dict[str, Any], message: str, models: Path) -> None:
    with pytest.raises(InputError, match=message):
        module_of(task).PREDICTOR.load(str(models / task), **options)


def test_command_line(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for task in ASKED:
        file, output = write(tmp_path / f"{task}.jsonl", [*make_rows(task, 2), "{"]), tmp_path / f"{task}.out"
        words = ["predict", task, str(models / task), str(file), "--output", str(output)]
        words += ["--overflow", WHOLE[task]] if task in WHOLE else []
        monkeypatch.setattr(sys, "argv", ["hf-longformer", *words])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        assert caught.value.code == 1
        assert f"3 lines, 1 of them without a result, in {output}" in capsys.readouterr().out
        with pytest.raises(SystemExit) as caught:
            cli.main()
        assert caught.value.code == 2
        assert "--overwrite replaces it" in capsys.readouterr().err


def test_token_batches_keep_the_budget() -> None:
    lengths = [5, 900, 30, 30, 31, 7, 100]
    batches = list(token_batches(lengths, 100))
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or max(lengths[index] for index in batch) * len(batch) <= 100
    assert batches[0] == [1]


# ---- checkpoints that cannot answer ----


def damage_nothing_converted(folder: Path, task: str) -> None:
    make_source(folder, "roberta", HEADS.get(task, "Model"))


def damage_prefix(folder: Path, task: str) -> None:
    rewrite(folder, lambda name: name.replace("longformer.", "roberta.").replace("model.encoder.", "roberta."))


def damage_half(folder: Path, task: str) -> None:
    rewrite(folder, lambda name: None if ".layer.1." in name else name)


def damage_more_layers(folder: Path, task: str) -> None:
    fewer = {"num_hidden_layers": 1, "attention_window": [16], "attention_dilation": [1]}
    own = json.loads((folder / "config.json").read_text())
    edit_json(folder / "config.json", **({"encoder": own["encoder"] | fewer} if "encoder" in own else fewer))


def damage_no_head(folder: Path, task: str) -> None:
    rewrite(folder, lambda name: name if name.startswith("longformer.") else None)


def damage_head_of_another_size(folder: Path, task: str) -> None:
    labels = {"id2label": {str(n): str(n) for n in range(5)}, "num_labels": 5}
    edit_json(folder / "config.json", **({"coreference": {"size": 9}} if task == "coref" else labels))


def rewrite(folder: Path, rename: Any) -> None:
    weights = load_file(folder / "model.safetensors")
    kept = {rename(name): tensor for name, tensor in weights.items() if rename(name)}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("task", ASKED)
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (damage_nothing_converted, "not converted: run `hf-longformer convert"),
        (damage_prefix, "must have all weights"),
        (damage_half, "must have all weights"),
        (damage_more_layers, "no place for"),
        (damage_no_head, "must have all weights"),
        (damage_head_of_another_size, "has another shape"),
    ],
)
def test_checkpoint_that_cannot_answer(
    task: str, damage: Any, words: str, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: Any
) -> None:
    """By the command and by the pipeline: one sentence, exit code 2, no output."""
    folder = tmp_path / "model"
    if damage is not damage_nothing_converted:
        shutil.copytree(models / task, folder)
    damage(folder, task)
    if damage is damage_head_of_another_size and task in ONE_SIZE:
        pytest.skip("its head has one size")
    file = write(tmp_path / "in.jsonl", make_rows(task, 1))
    code, out = command(monkeypatch, capsys, "predict", task, folder, file, "--output", tmp_path / "out")
    assert code == 2
    assert words.split(":")[0] in out.err.replace("that was not converted", "not converted")
    assert "Traceback" not in out.err
    assert not list(tmp_path.glob("*out*"))
    with pytest.raises(InputError, match=words.split(":")[-1]):
        pipeline(NAMES[task], model=str(folder))


def test_pipeline_refuses_models_of_other_kinds(models: Path, tmp_path: Path) -> None:
    make_source(tmp_path / "roberta", "roberta", "ForQuestionAnswering")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "roberta")
    plain = RobertaForQuestionAnswering.from_pretrained(tmp_path / "roberta")
    with pytest.raises(InputError, match="got a RobertaForQuestionAnswering, not converted: run"):
        pipeline(NAMES["qa"], model=plain, tokenizer=tokenizer)
    other = HfLongformerForSequenceClassification.from_pretrained(models / "classification")
    with pytest.raises(InputError, match="trained for another task"):
        pipeline(NAMES["qa"], model=other, tokenizer=tokenizer)


def command(monkeypatch: Any, capsys: pytest.CaptureFixture, *words: object) -> tuple[int, Any]:
    """Exit code and what was printed."""
    monkeypatch.setattr(sys, "argv", ["hf-longformer", *map(str, words)])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    return caught.value.code or 0, capsys.readouterr()


# ---- what is cut, and what fails, is said ----


def test_documents_are_read_whole_unless_cutting_is_asked_for(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, tokenizer = models / "classification", AutoTokenizer.from_pretrained(models / "classification")
    rows = make_rows("classification", 12)
    file = write(tmp_path / "in.jsonl", rows)
    cut = [max(0, len(tokenizer(row["text"], verbose=False)["input_ids"]) - 130) for row in rows]
    assert 0 < sum(map(bool, cut)) < len(rows)
    code, said = command(monkeypatch, capsys, "predict", "classification", folder, file, "--output", tmp_path / "a")
    assert (code, "cut" in said.out) == (0, False)
    assert not any("truncated" in one for one in read(tmp_path / "a"))
    words = ("predict", "classification", folder, file, "--output", tmp_path / "b", "--overflow", "truncate")
    code, said = command(monkeypatch, capsys, *words)
    assert f"12 lines, {sum(map(bool, cut))} of them cut by {sum(cut):,} tokens in all" in said.out
    assert "--overflow stride-mean" in said.out
    assert [one.get("tokens_cut", 0) for one in read(tmp_path / "b")] == cut
    assert [one.get("truncated", False) for one in read(tmp_path / "b")] == [bool(one) for one in cut]
    whole = ClassificationPredictor.load(str(folder), overflow="stride-mean")(rows)
    for one, other in zip(read(tmp_path / "a"), whole, strict=True):
        assert one["scores"] == pytest.approx(other["scores"], rel=1e-3)
    (found,) = pipeline(NAMES["classification"], model=str(folder), overflow="truncate")([rows[cut.index(max(cut))]])
    assert (found["truncated"], found["tokens_cut"]) == (True, max(cut))


def test_saved_defaults_decide_whether_to_cut(models: Path, tmp_path: Path) -> None:
    shutil.copytree(models / "classification", tmp_path / "model")
    save_defaults(tmp_path / "model", "classification", {"overflow": "truncate"})
    row = {"text": "dog " * 200}
    assert ClassificationPredictor.load(str(tmp_path / "model"))([row])[0]["truncated"]
    assert "truncated" not in ClassificationPredictor.load(str(tmp_path / "model"), overflow="stride-max")([row])[0]


def test_second_of_two_texts_has_static_count_too(models: Path) -> None:
    predictor = ClassificationPredictor.load(str(models / "classification"), overflow="truncate", text_pair=True)
    row = {"text": "the dog " * 40, "text_pair": "the fox " * 50}
    length = len(predictor.tokenizer(row["text"], row["text_pair"], verbose=False)["input_ids"])
    assert predictor([row])[0]["tokens_cut"] == length - 130 > 0


def test_second_of_two_texts_may_be_empty(models: Path, tmp_path: Path) -> None:
    """As in training; there must be an entry, though."""
    rows = [{"text": "the dog", "text_pair": pair} for pair in (None, "", "the fox")] + [{"text": "the dog"}]
    given = ("classification", str(models / "classification"), str(write(tmp_path / "in.jsonl", rows)))
    report = predict(*given, tmp_path / "out", text_pair=True)
    assert report["failed"] == [4]
    found = read(tmp_path / "out")
    assert found[0]["scores"] == pytest.approx(found[1]["scores"], rel=1e-4)
    assert found[0]["scores"] != pytest.approx(found[2]["scores"], rel=1e-2)


def test_cut_question_is_said(models: Path, tmp_path: Path) -> None:
    shutil.copytree(models / "qa", tmp_path / "model")
    save_defaults(tmp_path / "model", "qa", {"max_question_length": 7})
    rows = [{"question": "the dog " * number, "context": "the quick brown fox"} for number in (3, 5)]
    report = predict("qa", str(tmp_path / "model"), str(write(tmp_path / "in.jsonl", rows)), tmp_path / "out")
    assert (report["truncated"], report["tokens_cut"]) == (1, 3)
    assert ["truncated" in one for one in read(tmp_path / "out")] == [False, True]


def test_counts_of_a_killed_run_are_not_lost(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = ["{", *make_rows("classification", 40)]
    arguments: Any = ("classification", str(models / "classification"), str(write(tmp_path / "in.jsonl", rows)))
    options: Any = {"tokens_per_batch": 50, "overflow": "truncate"}
    whole = predict(*arguments, tmp_path / "whole", **options)
    answer = ClassificationPredictor.__call__
    calls = iter([False, False, True])

    def die(self: Any, rows: list[dict[str, Any]]) -> Any:
        if next(calls):
            raise KeyboardInterrupt
        return answer(self, rows)

    with monkeypatch.context() as patch:
        patch.setattr(ClassificationPredictor, "__call__", die)
        with pytest.raises(KeyboardInterrupt):
            predict(*arguments, tmp_path / "out", **options)
    report = predict(*arguments, tmp_path / "out", **options)
    assert report["resumed"] > 0
    assert {**report, "resumed": 0} == whole
    assert whole["failed"] == [1]


def test_other_weights_under_the_same_name_are_another_run(models: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(models / "classification", tmp_path / "model")
    file = str(write(tmp_path / "in.jsonl", [*make_rows("classification", 3), "{"]))

    def die(line: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict("classification", str(folder), file, tmp_path / "out", say=die)
    weights = load_file(folder / "model.safetensors")
    save_file({name: one + 1 for name, one in weights.items()}, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match="of a run with another input, checkpoint"):
        predict("classification", str(folder), file, tmp_path / "out")


def test_weights_that_give_no_numbers_fail(models: Path, tmp_path: Path) -> None:
    for task in ASKED:
        folder = shutil.copytree(models / task, tmp_path / task)
        weights = load_file(folder / "model.safetensors")
        save_file({name: one * float("nan") for name, one in weights.items()}, folder / "model.safetensors")
        report = predict(
            task, str(folder), str(write(tmp_path / "in.jsonl", make_rows(task, 2))), tmp_path / f"{task}-out"
        )
        assert report["failed"] == [1, 2]
        assert "got NaN" in read(tmp_path / f"{task}-out")[0]["error"]


# ---- every format that training reads ----


def test_formats_of_tables(models: Path, tmp_path: Path) -> None:
    rows = [{**row, "text": row["text"] + '; "quoted", and more'} for row in make_rows("classification", 5)]
    write(tmp_path / "in.jsonl", rows)
    (tmp_path / "list.json").write_text(json.dumps(rows, indent=1))
    (tmp_path / "bom.jsonl").write_bytes(b"\xef\xbb\xbf" + (tmp_path / "in.jsonl").read_bytes())
    (tmp_path / "lines.json").write_bytes((tmp_path / "in.jsonl").read_bytes())
    Dataset.from_list(rows).to_parquet(tmp_path / "in.parquet")
    for name, delimiter in (("semicolons.csv", ";"), ("commas.CSV", ","), ("tabs.csv", "\t")):
        with (tmp_path / name).open("w", newline="", encoding="utf-8-sig") as file:
            table = csv.DictWriter(file, rows[0].keys(), delimiter=delimiter)
            table.writeheader()
            table.writerows(rows)
    found = {}
    for file in sorted(tmp_path.iterdir()):
        output = tmp_path / f"{file.name}.out"
        assert predict("classification", str(models / "classification"), str(file), output)["failed"] == []
        found[file.name] = output.read_text()
    assert len(found) == 8
    assert len(set(found.values())) == 1


def test_folder_of_texts(models: Path, tmp_path: Path) -> None:
    rows = make_rows("classification", 3)
    (tmp_path / "texts").mkdir()
    for row in rows:
        (tmp_path / "texts" / f"{row['id']}.txt").write_text(row["text"])
    (tmp_path / "texts" / "c2.txt").rename(tmp_path / "texts" / "c2.TXT")
    (tmp_path / "texts" / "c9.txt").write_bytes(b"\xff\xfe broken")
    folder = str(models / "classification")
    report = predict("classification", folder, str(tmp_path / "texts"), tmp_path / "out")
    assert report["failed"] == [4]
    predict("classification", folder, str(write(tmp_path / "in.jsonl", rows)), tmp_path / "other")
    found = read(tmp_path / "out")
    assert [one.get("id") for one in found] == ["c0.txt", "c1.txt", "c2.TXT", None]
    for one, other in zip(found, read(tmp_path / "other"), strict=False):
        assert one["scores"] == pytest.approx(other["scores"], rel=1e-4)
    with pytest.raises(InputError, match="question and context are needed"):
        predict("qa", str(models / "qa"), str(tmp_path / "texts"), tmp_path / "qa-out")
    with pytest.raises(InputError, match="must not be one of the documents that are read"):
        predict("classification", folder, str(tmp_path / "texts"), tmp_path / "texts" / "new.txt")


def test_files_of_squad_and_triviaqa(models: Path, tmp_path: Path) -> None:
    rows = make_rows("qa", 3)
    paragraphs = [
        {"context": row["context"], "qas": [{"id": row["id"], "question": row["question"], "answers": []}]}
        for row in rows
    ]
    (tmp_path / "squad.json").write_text(json.dumps({"version": "1.1", "data": [{"paragraphs": paragraphs}]}))
    (tmp_path / "evidence" / "web").mkdir(parents=True)
    for row in rows:
        (tmp_path / "evidence" / "web" / f"{row['id']}.txt").write_text(row["context"])
    asked = [
        {"QuestionId": row["id"], "Question": row["question"], "SearchResults": [{"Filename": f"{row['id']}.txt"}]}
        for row in rows
    ]
    (tmp_path / "trivia.json").write_text(json.dumps({"Data": asked}))
    write(tmp_path / "plain.jsonl", rows)
    for name in ("squad.json", "trivia.json", "plain.jsonl"):
        evidence = str(tmp_path / "evidence") if name == "trivia.json" else None
        predict("qa", str(models / "qa"), str(tmp_path / name), tmp_path / f"{name}.out", evidence_folder=evidence)
    assert len({(tmp_path / f"{name}.out").read_text() for name in ("squad.json", "trivia.json", "plain.jsonl")}) == 1
    with pytest.raises(InputError, match="--evidence_folder must hold its documents"):
        predict("qa", str(models / "qa"), str(tmp_path / "trivia.json"), tmp_path / "out")
    document = next((tmp_path / "evidence" / "web").iterdir())
    options: Any = {"evidence_folder": str(tmp_path / "evidence"), "overwrite": True}
    with pytest.raises(InputError, match="must not be one of the documents that are read"):
        predict("qa", str(models / "qa"), str(tmp_path / "trivia.json"), document, **options)


@pytest.mark.parametrize("value", [3, 2.5, True, {"a": "b"}, [["a"]], ["a", 3], ["a", None]])
def test_document_that_is_no_text_is_refused(value: Any, models: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "in.jsonl", [{"text": "the dog"}, {"text": value}])
    assert predict("classification", str(models / "classification"), str(file), tmp_path / "out")["failed"] == [2]
    assert "a text, or a list of texts, is needed" in read(tmp_path / "out")[1]["error"]


@pytest.mark.parametrize("value", [None, float("nan"), [], "", " ", ["", " "]])
def test_document_that_is_nothing_is_refused(value: Any, models: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "in.jsonl", [{"text": "the dog"}, {"text": value}])
    assert predict("classification", str(models / "classification"), str(file), tmp_path / "out")["failed"] == [2]
    assert "text must not be empty" in read(tmp_path / "out")[1]["error"]


def test_paragraphs_are_joined_with_an_empty_line(models: Path) -> None:
    parts = ["the quick brown fox", "the lazy dog"]
    classify = ClassificationPredictor.load(str(models / "classification"))
    assert classify([{"text": parts}]) == classify([{"text": "\n\n".join(parts)}])
    ask = QuestionAnsweringPredictor.load(str(models / "qa"))
    rows = [{"question": "the dog", "context": context} for context in (parts, "\n\n".join(parts))]
    assert ask(rows[:1]) == ask(rows[1:])


def test_columns_are_never_mixed_up(models: Path, tmp_path: Path) -> None:
    """A column that was named and is not there is not replaced by one of the usual name; names can be exchanged."""
    folder = str(models / "classification")
    file = write(tmp_path / "in.jsonl", [{"text": "a"}, {"body": "the dog"}])
    report = predict("classification", folder, str(file), tmp_path / "out", columns={"text": "body"})
    assert report["failed"] == [1]
    assert "an entry body is needed" in read(tmp_path / "out")[0]["error"]
    (tmp_path / "in.csv").write_text("text\nthe dog\n")
    with pytest.raises(InputError, match=r"must have a column body, got text: --text-column gives it another name"):
        predict("classification", folder, str(tmp_path / "in.csv"), tmp_path / "no", columns={"text": "body"})
    first, second = {"text": "the dog", "text_pair": "the quick fox"}, {"text_pair": "the dog", "text": "the quick fox"}
    write(tmp_path / "one.jsonl", [first])
    write(tmp_path / "other.jsonl", [second])
    predict("classification", folder, str(tmp_path / "one.jsonl"), tmp_path / "one", text_pair=True)
    swapped = {"text": "text_pair", "text_pair": "text"}
    predict("classification", folder, str(tmp_path / "other.jsonl"), tmp_path / "2", text_pair=True, columns=swapped)
    assert (tmp_path / "one").read_text() == (tmp_path / "2").read_text()


def test_rows_of_a_table_that_are_damaged(models: Path, tmp_path: Path) -> None:
    folder = str(models / "classification")
    long = "the dog " * 30_000  # beyond the csv module's own limit
    (tmp_path / "in.csv").write_bytes(b'id,text\n1,a dog\n2\n3,a,b\n4,\xff\n5,"' + long.encode() + b'"\n')
    report = predict("classification", folder, str(tmp_path / "in.csv"), tmp_path / "out")
    assert report["failed"] == [2, 3, 4]
    found = read(tmp_path / "out")
    assert "must have 2 fields" in found[1]["error"]
    assert found[3]["error"] == "not in UTF-8"
    assert found[4]["id"] == "5"
    (tmp_path / "open.csv").write_text('id,text\n1,"a dog\n2,fox\n')
    with pytest.raises(InputError, match=r"line 3 of .*open.csv cannot be read"):
        predict("classification", folder, str(tmp_path / "open.csv"), tmp_path / "open")
    assert not list(tmp_path.glob(".open*"))
    (tmp_path / "no.parquet").write_text("nothing of the kind")
    with pytest.raises(InputError, match="cannot be read"):
        predict("classification", folder, str(tmp_path / "no.parquet"), tmp_path / "no")


# ---- answers ----


@pytest.mark.parametrize(
    ("text", "span", "expected"),
    [
        ("the foxes jump", (5, 7), "foxes"),
        ("the foxes jump", (4, 9), "foxes"),
        ("the foxes jump", (3, 6), " foxes"),
        ("Zwölf Boxkämpfer", (2, 8), "Zwölf Boxkämpfer"),
        ("in 1,234.56 €", (5, 6), "234"),
        ("हिन्दी में", (1, 2), "हिन्दी"),
        ("長い文書を読む", (1, 3), "い文"),
        ("well-known", (1, 2), "well"),
    ],
)
def test_answers_are_whole_words(text: str, span: tuple[int, int], expected: str) -> None:
    assert text[slice(*whole_words(*span, text))] == expected


def test_answers_of_a_model_are_whole_words_and_differ(models: Path) -> None:
    text = " ".join(["foxes", "unknowing", "doglike", "quickest"] * 20)  # of several tokens each
    for one in pipeline(NAMES["qa"], model=str(models / "qa"), n_best=5)(question=["dog", "fox"], context=text):
        places = [(other["start"], other["end"]) for other in one["n_best"]]
        assert len(places) == len(set(places)) == 5
        for start, end in places:
            assert start == 0 or text[start - 1] == " "
            assert end == len(text) or text[end] == " "


def test_pipeline_takes_keywords_and_refuses_unknown_ones(models: Path) -> None:
    answer = pipeline(NAMES["qa"], model=str(models / "qa"))
    rows = make_rows("qa", 2)
    one = answer(rows[0])
    assert answer(question=rows[0]["question"], context=rows[0]["context"]) == one
    assert answer(rows) == answer(question=[row["question"] for row in rows], context=[row["context"] for row in rows])
    assert len(answer(rows[0], top_k=3)["n_best"]) == len(answer(rows[0], n_best=3)["n_best"]) == 3
    assert answer(rows[0]) == one
    assert answer([]) == []
    for words, message in (
        ({"top_k": 2, "n_best": 2}, "give one of them"),
        ({"topk": 2}, "options must be of top_k, .* got topk"),
        ({"top_k": 0}, "n_best must be a whole number of at least 1, got 0"),
        ({"question": "who"}, "got both"),
    ):
        with pytest.raises(InputError, match=message):
            answer(rows[0], **words)
    for words, message in (({}, "got none"), ({"question": ["a"], "context": ["b", "c"]}, "got 1 and 2")):
        with pytest.raises(InputError, match=message):
            answer(**words)
    with pytest.raises(InputError, match="options must be of"):
        pipeline(NAMES["qa"], model=str(models / "qa"), doc_stride=3)
    classify = pipeline(NAMES["classification"], model=str(models / "classification"))
    assert classify(text="the dog") == classify("the dog") == classify(["the dog"])[0]
    assert classify([["the", "dog"]]) == [classify("the\n\ndog")]
    with pytest.raises(InputError, match="got top_k"):
        classify("the dog", top_k=1)
    with pytest.raises(InputError, match="batched by their tokens, with tokens_per_batch, got batch_size=2"):
        classify(["the dog", "fox"], batch_size=2)
