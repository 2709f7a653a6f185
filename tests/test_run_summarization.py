# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`finetune/run_summarization.py`: cuts that are counted, exact losses, summaries written in evaluation, resuming."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from classification_runs import read_lines, write_rows
from sources import CORPUS, bert_tokenizer, edit_json, make_source, roberta_tokenizer
from summarization_runs import arguments, make_rows, make_summariser
from training_runs import Kill, losses
from transformers import AutoTokenizer, LEDConfig, LEDForConditionalGeneration
from warm import run_two

from hf_longformer import DataCollatorWithGlobalAttention, HfLongformerForConditionalGeneration
from hf_longformer.conversion import InputError, convert
from hf_longformer.finetune import run_classification, run_summarization
from hf_longformer.finetune.errors import TrainingError
from hf_longformer.finetune.predict import predict
from hf_longformer.finetune.summarization import TASK
from hf_longformer.finetune.summarization.data import SummarizationCollator, cut_documents, cut_summaries
from hf_longformer.finetune.summarization.generation import generation_of, whole
from hf_longformer.finetune.summarization.predictor import SummarizationPredictor

pytest.importorskip("rouge_score", reason="rouge-score is not installed")
TEXTS = ["", "fox", CORPUS[0], f"{CORPUS[1]}. " * 9]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    make_summariser(folder)
    return folder


@pytest.fixture(scope="module")
def tokenizer(model: Path) -> Any:
    return AutoTokenizer.from_pretrained(model)


# ---- documents and summaries as tokens ----


@pytest.mark.parametrize("length", [3, 17, 1000])
def test_documents_are_cut_as_the_tokenizer_cuts(length: int, tokenizer: Any) -> None:
    rows = cut_documents(tokenizer, TEXTS, length=length, prefix="long: ")
    for text, row in zip(TEXTS, rows, strict=True):
        whole_, cut = (
            tokenizer(f"long: {text}", truncation=truncation, max_length=length)["input_ids"]
            for truncation in (False, True)
        )
        assert row["input_ids"] == cut
        assert row["cut"] == len(whole_) - len(cut)
        assert row["length"] == len(row["attention_mask"]) == sum(row["attention_mask"]) == len(cut)


@pytest.mark.parametrize(("prefix", "stride"), [("", 0), ("", 5), ("summary of: ", 0), ("summary of: ", 3)])
def test_windows_hold_every_token_and_the_prefix(prefix: str, stride: int, tokenizer: Any) -> None:
    rows = cut_documents(tokenizer, TEXTS, length=20, prefix=prefix, stride=stride)
    assert {row["cut"] for row in rows} == {0}
    for number, text in enumerate(TEXTS):
        ids = tokenizer(prefix + text)["input_ids"][1:-1]
        kept = len(tokenizer(prefix.rstrip())["input_ids"][1:-1])
        if prefix and ids[kept : kept + 1] == tokenizer(" ")["input_ids"][1:-1]:  # no word follows this space
            kept += 1
        own = [row["input_ids"] for row in rows if row["text"] == number]
        assert all(one[0] == 0 and one[-1] == 2 and len(one) <= 20 for one in own)
        assert all(one[1 : 1 + kept] == ids[:kept] for one in own)
        parts = [one[1 + kept : -1] for one in own]
        assert parts[0] + [token for part in parts[1:] for token in part[stride:]] == ids[kept:]
    assert len(own) > 3
    with pytest.raises(InputError, match="--stride must be 0 or more, and less than the"):
        cut_documents(tokenizer, TEXTS, length=20, prefix=prefix, stride=18)


def test_summaries_end_where_they_are_cut(tokenizer: Any) -> None:
    labels, cut = cut_summaries(tokenizer, TEXTS, 7)
    for text, ids, number in zip(TEXTS, labels, cut, strict=True):
        everything = tokenizer(text)["input_ids"]
        assert (ids[0], ids[-1]) == (0, 2)
        assert ids[:-1] == everything[: len(ids) - 1]
        assert len(ids) == min(7, len(everything)) == len(everything) - number


@pytest.mark.parametrize("side", ["right", "left"])
def test_collator_pads_labels_on_the_right(side: str, tmp_path: Path) -> None:
    """Wherever documents are padded: the decoder counts from its first token."""
    model, tokenizer = make_summariser(tmp_path / "model"), roberta_tokenizer(tmp_path / "tokenizer")
    tokenizer.padding_side = side
    collate = SummarizationCollator(tokenizer, model.prepare_decoder_input_ids_from_labels)
    rows = [{"input_ids": [0, 5, 2], "attention_mask": [1, 1, 1], "labels": [0, 7, 8, 2], "row": 1}]
    rows.append({"input_ids": [0, 5, 6, 6, 2], "attention_mask": [1] * 5, "labels": [0, 2], "row": 2})
    batch = collate(rows)
    padded = [1, 1, 0, 5, 2] if side == "left" else [0, 5, 2, 1, 1]
    assert batch["input_ids"].tolist() == [padded, [0, 5, 6, 6, 2]]
    assert batch["attention_mask"].tolist() == [[int(token != 1) for token in padded], [1] * 5]
    assert batch["labels"].tolist() == [[0, 7, 8, 2], [0, 2, -100, -100]]
    assert batch["decoder_input_ids"].tolist() == [[2, 0, 7, 8], [2, 0, 2, 1]]
    assert set(batch) == {"input_ids", "attention_mask", "labels", "decoder_input_ids"}
    with_masks = [{**row, "global_attention_mask": [1] + [0] * (len(row["input_ids"]) - 1)} for row in rows]
    masks = DataCollatorWithGlobalAttention(tokenizer, None, collate)(with_masks)["global_attention_mask"].tolist()
    assert masks == [[0, 0, 1, 0, 0] if side == "left" else [1, 0, 0, 0, 0], [1, 0, 0, 0, 0]]
    with torch.no_grad():
        together, *alone = (float(model(**collate(some)).loss) for some in (rows, rows[:1], rows[1:]))
    assert together == pytest.approx((4 * alone[0] + 2 * alone[1]) / 6, rel=1e-5)


# ---- training ----


def test_training_learns_and_prediction_writes_the_same(model: Path, tmp_path: Path) -> None:
    write_rows(tmp_path / "train.jsonl", make_rows(200, seed=9))
    given = {"max_steps": 75, "eval_steps": 75, "save_steps": 75, "per_device_train_batch_size": 8, "num_beams": 3}
    given |= {
        "max_new_tokens": 14,
        "min_new_tokens": 2,
        "length_penalty": 0.5,
        "no_repeat_ngram_size": 4,
        "prefix": "long: ",
    }
    results = run_summarization.main(arguments(model, tmp_path, **given))
    scores = results["scores"]["test"]
    assert scores["rouge2"] > 90
    assert scores["rouge1"] >= scores["rougeL"] == scores["rougeLsum"] >= scores["rouge2"]
    assert scores["length_ratio"] == pytest.approx(1, abs=0.3)
    assert scores["copied_2grams"] == scores["at_limit"] == 0
    assert {"rows", "windows", "prefix", "max_target_length", "leaks"} <= set(results)
    lines = read_lines(tmp_path / "run" / "test-predictions.jsonl")
    rows = read_lines(tmp_path / "test.jsonl")
    assert [(line["row"], line["gold"]) for line in lines] == [(n, row["summary"]) for n, row in enumerate(rows, 1)]

    written = json.loads((tmp_path / "run" / "generation_config.json").read_text())
    wanted = {"num_beams": 3, "max_new_tokens": 14, "min_new_tokens": 2, "length_penalty": 0.5}
    wanted["no_repeat_ngram_size"] = 4
    assert {name: written[name] for name in wanted} == wanted == results["generation"]
    assert "max_length" not in written
    assert json.loads((tmp_path / "run" / "prediction.json").read_text())["prefix"] == "long: "
    card = (tmp_path / "run" / "README.md").read_text()
    for words in (
        "hf-longformer predict summarization",
        "pipeline_tag: summarization",
        "| rougeLsum |",
        "| num beams |",
    ):
        assert words in card, words

    # Written anew from ids, not from what the encoder had given for the loss.
    predict("summarization", str(tmp_path / "run"), str(tmp_path / "test.jsonl"), tmp_path / "out.jsonl")
    found = read_lines(tmp_path / "out.jsonl")
    assert [one["summary"] for one in found] == [line["summary"] for line in lines]
    assert [one["id"] for one in found] == [row["id"] for row in rows]
    options = {"do_train": False, "model_name_or_path": tmp_path / "run", "prefix": "long: "}
    again = run_summarization.main(arguments(model, tmp_path, "again", num_beams=None, max_new_tokens=None, **options))
    assert again["scores"]["test"] == pytest.approx(scores)


def test_what_is_beyond_the_limits_is_counted(model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tokenizer = AutoTokenizer.from_pretrained(model)
    options = {"max_seq_length": 12, "max_target_length": 5, "max_steps": 1, "eval_strategy": "no", "save_steps": 1}
    results = run_summarization.main(arguments(model, tmp_path, max_new_tokens=None, **options))
    for split in ("train", "validation", "test"):
        rows = read_lines(tmp_path / f"{split}.jsonl")
        beyond = {
            name: [max(0, len(tokenizer(row[name])["input_ids"]) - limit) for row in rows]
            for name, limit in (("text", 12), ("summary", 5))
        }
        assert results["cut"][split] == {
            **{"documents": sum(map(bool, beyond["text"])), "tokens": sum(beyond["text"])},
            **{"summaries": sum(map(bool, beyond["summary"])), "tokens_of_summaries": sum(beyond["summary"])},
        }
        assert sum(beyond["summary"]) > 0 < sum(beyond["text"])
    assert results["generation"]["max_new_tokens"] == 5  # as the longest that was trained on
    assert "documents and " in caplog.text
    assert "tokens of summaries" in caplog.text
    assert "6 of 6 summaries of test are as long as --max_new_tokens lets them be" in caplog.text


def test_rows_without_text_are_skipped_and_counted(model: Path, tmp_path: Path) -> None:
    rows = make_rows(12)
    rows[3]["text"], rows[5]["summary"], rows[7]["text"] = "", " ", ["two", "paragraphs"]
    write_rows(tmp_path / "train.jsonl", [{"body": row["text"], "gist": row["summary"]} for row in rows])
    for split in ("validation", "test"):
        write_rows(tmp_path / f"{split}.jsonl", [{"body": row["text"], "gist": row["summary"]} for row in make_rows(3)])
    options = {"text_column": "body", "summary_column": "gist", "max_steps": 1, "eval_strategy": "no", "save_steps": 1}
    results = run_summarization.main(arguments(model, tmp_path, **options))
    assert results["skipped"] == {"train": 2}
    assert results["rows"]["train"] == 10
    with pytest.raises(InputError, match=r"train\.jsonl must have a column text, got body, gist"):
        run_summarization.main(arguments(model, tmp_path, "other"))


@pytest.mark.parametrize("column", ["text", "summary"])
def test_what_is_no_text_is_refused(column: str, model: Path, tmp_path: Path) -> None:
    write_rows(tmp_path / "train.jsonl", [{**row, column: 3} for row in make_rows(3)])
    with pytest.raises(InputError, match=r"row 1 of train\.jsonl cannot be used: a text, or a list of texts"):
        run_summarization.main(arguments(model, tmp_path))


SMALL = {"optim": "sgd", "max_grad_norm": 0, "max_steps": 2, "save_steps": 2, "eval_strategy": "no", "warmup_steps": 0}


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_accumulated_batches_are_as_one(smoothing: float, model: Path, tmp_path: Path) -> None:
    """The loss is per token of the whole step, however it is divided: gradients, and the loss by hand."""
    rows = make_rows(4)
    write_rows(tmp_path / "train.jsonl", rows)
    common = {
        **SMALL,
        "train_sampling_strategy": "sequential",
        "label_smoothing_factor": smoothing,
        "do_predict": False,
    }
    common |= {"do_eval": False, "lr_scheduler_type": "constant"}
    found = {}
    for name, size in {"one": 4, "two": 1}.items():
        options = {"per_device_train_batch_size": size, "gradient_accumulation_steps": 4 // size}
        run_summarization.main(arguments(model, tmp_path, name, **options, **common))
        found[name] = HfLongformerForConditionalGeneration.from_pretrained(tmp_path / name).state_dict()
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-4)
    before = HfLongformerForConditionalGeneration.from_pretrained(model)
    for key, value in before.state_dict().items():
        torch.testing.assert_close(found["two"][key] - value, found["one"][key] - value, rtol=1e-3, atol=1e-6)

    tokenizer = AutoTokenizer.from_pretrained(model)
    total = number = 0
    for row in rows:
        labels = torch.tensor(tokenizer([row["summary"]])["input_ids"])
        ids = torch.tensor([cut_documents(tokenizer, [row["text"]], length=130)[0]["input_ids"]])
        with torch.no_grad():
            logits = before(ids, labels=labels).logits[0]
        given: dict[str, Any] = {"label_smoothing": smoothing, "reduction": "sum"}
        total += float(torch.nn.functional.cross_entropy(logits, labels[0], **given))
        number += labels.numel()
    assert losses(tmp_path / "one")[0] == pytest.approx(total / number, rel=1e-3)


def test_loss_of_evaluation_is_of_all_tokens_alike(model: Path, tmp_path: Path) -> None:
    """Whatever the batches and label smoothing; without written summaries it is what the best model is chosen by."""
    found = []
    common = {"label_smoothing_factor": 0.1, "do_predict": False, "max_steps": 1, "eval_steps": 1, "save_steps": 1}
    for size, generates in ((1, False), (4, True)):
        options = {"per_device_eval_batch_size": size, "predict_with_generate": generates}
        results = run_summarization.main(arguments(model, tmp_path, str(size), **options, **common))
        log = json.loads((tmp_path / str(size) / "checkpoint-1" / "trainer_state.json").read_text())
        entry = next(one for one in log["log_history"] if "eval_loss" in one)
        found.append((entry["eval_loss"], results["scores"]["validation"]["loss"]))
        assert ("eval_rouge2" in entry) == generates
        assert log["best_metric"] == (entry["eval_rouge2"] if generates else entry["eval_loss"])
        assert "rouge2" in results["scores"]["validation"]
    tokenizer = AutoTokenizer.from_pretrained(model)
    trained = HfLongformerForConditionalGeneration.from_pretrained(tmp_path / "1").eval()
    total = number = 0
    for row in read_lines(tmp_path / "validation.jsonl"):
        labels = torch.tensor(tokenizer([row["summary"]])["input_ids"])
        with torch.no_grad():
            ids = torch.tensor(cut_documents(tokenizer, [row["text"]], length=130)[0]["input_ids"])[None]
            total += float(trained(ids, labels=labels).loss) * labels.numel()
        number += labels.numel()
    assert [value for pair in found for value in pair] == pytest.approx([total / number] * 4, rel=1e-4)


def test_killed_run_goes_on_with_the_same_losses(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"eval_strategy": "no", "do_eval": False}
    whole_ = run_summarization.main(arguments(model, tmp_path, "whole", **options))
    with monkeypatch.context() as patch:
        patch.setattr("hf_longformer.finetune.training.StopOnBadLoss", Kill)
        with pytest.raises(KeyboardInterrupt):
            run_summarization.main(arguments(model, tmp_path, **options))
    results = run_summarization.main(arguments(model, tmp_path, **options))
    assert results["training"]["resumed_from"] == "checkpoint-4"
    assert losses(tmp_path / "run") == pytest.approx(losses(tmp_path / "whole"), rel=1e-6)
    assert results["scores"] == whole_["scores"]


@pytest.mark.timeout(300)
def test_two_processes_train_as_one_with_twice_the_batch(model: Path, tmp_path: Path) -> None:
    """Losses to rounding, and the same summaries of 7 documents, of which neither process has half."""
    write_rows(tmp_path / "test.jsonl", make_rows(7, 5))
    common = {**SMALL, "train_sampling_strategy": "sequential", "do_eval": False, "label_smoothing_factor": 0.1}
    common["max_target_length"] = 20
    one = run_summarization.main(arguments(model, tmp_path, "one", per_device_train_batch_size=4, **common))
    common |= {"per_device_train_batch_size": 2, "ddp_backend": "gloo"}
    done = run_two(["python", run_summarization.__file__, *arguments(model, tmp_path, "two", **common)])
    assert done.returncode == 0, done.stderr[-3000:]
    two = json.loads((tmp_path / "two" / "results.json").read_text())
    assert two["processes"] == 2
    assert losses(tmp_path / "two") == pytest.approx(losses(tmp_path / "one"), rel=1e-4)
    assert two["scores"]["test"] == pytest.approx(one["scores"]["test"], rel=1e-4)
    found = [read_lines(tmp_path / name / "test-predictions.jsonl") for name in ("one", "two")]
    assert found[0] == found[1]


def test_arguments_of_the_model_reach_both_halves(model: Path, tmp_path: Path) -> None:
    """And activations that are computed again, and batches by tokens, change no loss but by rounding."""
    options = {"attention_window": 8, "attention_probs_dropout_prob": 0.2, "global_attention": "none"}
    common = {"max_steps": 2, "eval_strategy": "no", "save_steps": 2, "do_eval": False, "do_predict": False}
    run_summarization.main(arguments(model, tmp_path, hidden_dropout_prob=0.25, **options, **common))
    config = HfLongformerForConditionalGeneration.from_pretrained(tmp_path / "run").config
    encoder, decoder = config.encoder, config.decoder
    assert (encoder.attention_window, encoder.hidden_dropout_prob, encoder.attention_probs_dropout_prob) == (
        8,
        0.25,
        0.2,
    )
    assert (decoder.dropout, decoder.attention_dropout, encoder.global_attention) == (0.25, 0.2, "none")
    assert encoder.global_projections == "trained"
    run_summarization.main(arguments(model, tmp_path, "kept", tokens_per_batch=300, **common))
    again = arguments(model, tmp_path, "again", tokens_per_batch=300, checkpoint_above=8, **common)
    run_summarization.main(again)
    assert losses(tmp_path / "again") == pytest.approx(losses(tmp_path / "kept"), rel=1e-5)


def test_stock_led_is_trained_with_its_own_generation(tmp_path: Path) -> None:
    """Also where that stands in an old config.json."""
    config = LEDConfig(
        **{"vocab_size": 301, "d_model": 24, "encoder_layers": 1, "decoder_layers": 1, "attention_window": 8},
        **{"encoder_attention_heads": 3, "decoder_attention_heads": 3, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16},
        **{"max_encoder_position_embeddings": 128, "max_decoder_position_embeddings": 40},
    )
    torch.manual_seed(0)
    LEDForConditionalGeneration(config).save_pretrained(tmp_path / "led")
    roberta_tokenizer(tmp_path / "tokenizer").save_pretrained(tmp_path / "led")
    (tmp_path / "led" / "generation_config.json").unlink()
    old = {"num_beams": 3, "max_length": 13, "min_length": 4, "no_repeat_ngram_size": 3, "length_penalty": 2.0}
    edit_json(tmp_path / "led" / "config.json", **old)
    options = {"num_beams": None, "max_new_tokens": None, "max_steps": 1, "eval_strategy": "no", "save_steps": 1}
    options |= {"attention_window": 6, "do_eval": False}
    results = run_summarization.main(arguments(tmp_path / "led", tmp_path, **options))
    expected = {"num_beams": 3, "min_new_tokens": 3, "no_repeat_ngram_size": 3, "length_penalty": 2.0}
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "led")
    longest = max(len(tokenizer(row["summary"])["input_ids"]) for row in read_lines(tmp_path / "train.jsonl"))
    assert results["generation"] == expected | {"max_new_tokens": longest}
    asked = SummarizationPredictor.load(str(tmp_path / "led"))
    assert {name: asked.options[name] for name in results["generation"]} == expected | {"max_new_tokens": 12}
    assert asked.model.config.encoder.attention_window == [8]
    trained = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (trained["model_type"], trained["encoder"]["attention_window"]) == ("hf_longformer_encoder_decoder", 6)


# ---- what cannot be had ----


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_seq_length": 131}, "--max_seq_length must lie between 3 and the model's 130 tokens, got 131"),
        ({"max_target_length": 131}, "--max_target_length must lie between 3 and the decoder's 130 tokens, got 131"),
        ({"max_target_length": 2}, "between 3 and the decoder's 130 tokens, got 2"),
        ({"max_new_tokens": 131}, "max_new_tokens must lie between 1 and the decoder's 130, got 131"),
        ({"max_new_tokens": 0}, "max_new_tokens must be at least 1, got 0"),
        ({"min_new_tokens": 11}, "min_new_tokens must not be more than the 10 of max_new_tokens, got 11"),
        ({"num_beams": 0}, "num_beams must be at least 1, got 0"),
        ({"length_penalty": "nan"}, "--length_penalty must be a finite number, got nan"),
        ({"global_attention": "question"}, "must be auto, cls or none for summarization, got question"),
        ({"metric_for_best_model": "bleu"}, "must be one of loss, rouge2, rouge1, .*, got bleu"),
        ({"metric_for_best_model": "rouge1", "predict_with_generate": False}, "must be one of loss, got rouge1"),
        ({"attention_window": 7}, "cannot be loaded: .*even"),
        ({"prefixx": "a"}, "there is no argument --prefixx: did you mean --prefix"),
    ],
)
def test_bad_arguments(options: dict[str, Any], message: str, model: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        run_summarization.main(arguments(model, tmp_path, **options))
    assert not list(tmp_path.glob("run/*"))


def test_sharding_is_refused() -> None:
    training: Any = SimpleNamespace(fsdp=["full_shard"])
    with pytest.raises(InputError, match="--fsdp cannot be had for summarization, since encoder, decoder and output"):
        TASK(SimpleNamespace(), None, training).read()


def test_checkpoints_of_the_other_kind_are_refused(model: Path, tmp_path: Path) -> None:
    make_source(tmp_path / "roberta")
    convert(tmp_path / "roberta", tmp_path / "encoder", max_length=130, attention_window=16, check=False)
    with pytest.raises(InputError, match=r"must be an encoder-decoder \(.* or led\), got an encoder \(hf_longformer\)"):
        run_summarization.main(arguments(tmp_path / "encoder", tmp_path))
    rows = write_rows(tmp_path / "labels.jsonl", [{"text": "a", "label": label} for label in "ab"])
    words = ["--model_name_or_path", str(model), "--train_file", str(rows), "--output_dir", str(tmp_path / "run")]
    with pytest.raises(InputError, match=r"must be an encoder .*, got an encoder-decoder"):
        run_classification.main(words)
    write_rows(tmp_path / "in.jsonl", make_rows(2))
    for task, checkpoint, wanted in (("summarization", "encoder", "summarization"), ("classification", model, "class")):
        with pytest.raises(InputError, match=f"must be trained for {wanted}"):
            predict(task, str(tmp_path / checkpoint), str(tmp_path / "in.jsonl"), tmp_path / "out")


def test_a_tokenizer_without_an_end_is_refused(tmp_path: Path) -> None:
    """A model that never sees where summaries end never learns to stop."""
    make_summariser(tmp_path / "model")
    bert_tokenizer(tmp_path / "bert").save_pretrained(tmp_path / "model")
    for file in ("vocab.json", "merges.txt"):
        (tmp_path / "model" / file).unlink(missing_ok=True)
    with pytest.raises(InputError, match="must end texts with the token that ends a generation, 2, got"):
        run_summarization.main(arguments(tmp_path / "model", tmp_path))


def test_weights_that_give_no_numbers(tmp_path: Path) -> None:
    """Neither scores nor summaries are made of them."""
    model = make_summariser(tmp_path / "model")
    model.model.decoder.layers[1].fc1.weight.data[:] = float("nan")
    model.save_pretrained(tmp_path / "model")
    with pytest.raises(TrainingError, match="the model must predict numbers, got NaN"):
        run_summarization.main(arguments(tmp_path / "model", tmp_path, do_train=False))
    with pytest.raises(RuntimeError, match="the model must give numbers, got NaN"):
        SummarizationPredictor.load(str(tmp_path / "model"))(make_rows(2))


# ---- prediction ----


def test_hierarchical_summaries_are_of_summaries(model: Path) -> None:
    """Every window is summarised alone, what comes of them is joined and summarised again, as often as is needed."""
    options: dict[str, Any] = {"overflow": "hierarchical", "max_seq_length": 30, "max_new_tokens": 4, "prefix": "a: "}
    predictor = SummarizationPredictor.load(str(model), **options, stride=2)
    short = SummarizationPredictor.load(str(model), **(options | {"overflow": "truncate"}))
    rows = [{"text": " ".join(CORPUS)}, {"text": "fox"}, {"text": CORPUS[0] * 3}]
    found = predictor(rows)
    tokenizer = AutoTokenizer.from_pretrained(model)
    for row, result in zip(rows, found, strict=True):
        text, level, number = row["text"], 0, 0
        while True:
            windows = cut_documents(tokenizer, [text], length=30, prefix="a: ", stride=2)
            parts = [short._text(short.outputs([window])[0]) for window in windows]
            level, number = level + 1, number + len(parts)
            if len(parts) == 1:
                break
            text = " ".join(parts)
        assert (result["summary"], result["levels"], result["windows"]) == (parts[0], level, number)
        assert "truncated" not in result
    assert found[0]["levels"] > 2
    assert (found[1]["levels"], found[1]["windows"]) == (1, 1)
    assert found[1]["summary"] == short([rows[1]])[0]["summary"]


def test_summaries_that_do_not_become_shorter_are_refused(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"overflow": "hierarchical", "max_seq_length": 30}
    with pytest.raises(InputError, match=r"at most half of the 28 tokens from one window to the next, .*, got 15"):
        SummarizationPredictor.load(str(model), max_new_tokens=15, **options)
    predictor = SummarizationPredictor.load(str(model), **options)
    monkeypatch.setattr(SummarizationPredictor, "_text", lambda self, ids: CORPUS[0] * 3)
    with pytest.raises(InputError, match=r"summaries of .* windows must fit into fewer, got"):
        predictor([{"text": CORPUS[0] * 9}])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"overflow": "stride-mean"}, "overflow must be truncate or hierarchical, got stride-mean"),
        ({"num_beams": 1.5}, "num_beams must be a whole number, got 1.5"),
        ({"num_beams": True}, "num_beams must be a whole number, got True"),
        ({"length_penalty": float("inf")}, "length_penalty must be a finite number, got inf"),
        ({"max_new_tokens": 131}, "between 1 and the decoder's 130, got 131"),
        ({"max_seq_length": 2}, "between 3 and the model's 130 tokens, got 2"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str, model: Path) -> None:
    with pytest.raises(InputError, match=message):
        SummarizationPredictor.load(str(model), **options)


def test_generation_is_what_was_asked_for(tmp_path: Path) -> None:
    """Nothing is drawn, whatever the checkpoint says; two predictors of one model do not change each other's ways."""
    model = make_summariser(tmp_path, do_sample=True, top_k=5, temperature=3.0)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    short, long = (SummarizationPredictor(model, tokenizer, max_new_tokens=number) for number in (3, 9))
    rows = make_rows(3)
    found = [one(rows) for one in (short, long, short, long)]
    assert found[0] == found[2] != found[1] == found[3]
    assert model.generation_config.do_sample is True
    made = generation_of(model, {"num_beams": None})
    assert (made.do_sample, made.num_beams, made.max_new_tokens) == (False, 2, 12)
    ids = torch.tensor(tokenizer([rows[0]["text"]])["input_ids"])
    by_hand = model.generate(ids, do_sample=False, num_beams=2, max_new_tokens=9)
    assert found[1][0]["summary"] == tokenizer.decode(by_hand[0], skip_special_tokens=True).strip()
    assert all(("at_limit" in one) == (len(whole(ids, made)) >= 9) for one, ids in [(found[1][0], by_hand[0, 1:])])
