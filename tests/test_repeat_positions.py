# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`config.repeat_positions` and `hf-longformer convert --max-length unlimited`: positions that begin again behind the
last are, bit by bit, those of a table that was written out.
"""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import randomise, tiny_config
from safetensors.torch import load_file
from sources import FAMILIES, make_source
from transformers import AutoConfig, AutoModel, AutoTokenizer, LongformerForMaskedLM
from typer.testing import CliRunner

from hf_longformer import (
    HfLongformerConfig,
    HfLongformerForCausalLM,
    HfLongformerForConditionalGeneration,
    HfLongformerForMaskedLM,
)
from hf_longformer.conversion import GateError, InputError, convert, export, verify
from hf_longformer.finetune import run_classification
from hf_longformer.finetune.classification import PREDICTOR
from hf_longformer_cli import app

ROWS = 12  # learned positions
SIZES = {"hidden_size": 24, "num_attention_heads": 2, "attention_window": 4}
SMALL = {"attention_window": 16}


@pytest.fixture(autouse=True)
def _shorter_long_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the gate, but where `endless` is made."""
    monkeypatch.setattr("hf_longformer.conversion.gate.LONG_TEXT", 3000)


def pair(longest: int = 100, head: Any = HfLongformerForMaskedLM, **fields: Any) -> tuple[Any, Any]:
    """A model whose positions repeat, and the same with a table that was written out."""
    fields = {**SIZES, **fields}
    first = tiny_config(**fields).first_position
    endless = randomise(head(tiny_config(**fields, max_position_embeddings=first + ROWS, repeat_positions=True)))
    finite = head(tiny_config(**fields, max_position_embeddings=first + longest))
    state = endless.state_dict()
    (name,) = [name for name in state if name.endswith("position_embeddings.weight")]
    table = state[name]
    state[name] = torch.cat([table[:first], table[first:][torch.arange(longest) % ROWS]])
    finite.load_state_dict(state)
    return endless.eval(), finite.eval()


def ids_of(length: int, batch: int = 2) -> torch.Tensor:
    return torch.randint(5, 99, (batch, length), generator=torch.Generator().manual_seed(length))


@pytest.mark.parametrize("pad", [1, 0, None, 3], ids=str)
@pytest.mark.parametrize("length", [1, ROWS - 1, ROWS, ROWS + 1, 2 * ROWS, 5 * ROWS + 7])
def test_outputs_are_those_of_a_table_written_out(length: int, pad: int | None) -> None:
    endless, finite = pair(pad_token_id=pad)
    ids, mask = ids_of(length), torch.ones(2, length, dtype=torch.long)
    mask[1, : length // 3] = 0
    marked = mask * (torch.arange(length) % 9 == 4)
    with torch.no_grad():
        for given in ({}, {"attention_mask": mask}, {"attention_mask": mask, "global_attention_mask": marked}):
            assert torch.equal(endless(ids, **given).logits, finite(ids, **given).logits)
        embeddings = endless.get_input_embeddings()(ids)
        assert torch.equal(endless(inputs_embeds=embeddings).logits, finite(inputs_embeds=embeddings).logits)


def test_positions_that_are_given_repeat_too() -> None:
    endless, finite = pair()
    positions = torch.arange(40)[None] + finite.config.first_position + 30
    with torch.no_grad():
        assert torch.equal(*(model(ids_of(40, 1), position_ids=positions).logits for model in (endless, finite)))
        endless(ids_of(40, 1), position_ids=positions + 10_000_000)
        with pytest.raises(ValueError, match="position_ids must lie in 0"):
            endless(ids_of(40, 1), position_ids=positions - 100)
        with pytest.raises(ValueError, match="the longest text has 101 tokens, the model takes 100"):
            finite(ids_of(101, 1))


def test_gradients_are_sums_over_the_rows_of_the_table_written_out() -> None:
    endless, finite = (
        model.double().train() for model in pair(attention_probs_dropout_prob=0.0, hidden_dropout_prob=0.0)
    )
    for model in (endless, finite):
        model(ids_of(50), labels=ids_of(50)).loss.backward()
    one, other = (model.longformer.embeddings.position_embeddings.weight.grad for model in (endless, finite))
    first = endless.config.first_position
    summed = torch.zeros(ROWS, 24, dtype=torch.float64).index_add_(0, torch.arange(100) % ROWS, other[first:])
    torch.testing.assert_close(one[first:], summed)
    assert not one[:first].any()


def test_segments_and_generation_go_on_beyond_the_table() -> None:
    endless, finite = pair(200, HfLongformerForCausalLM, is_decoder=True)
    ids = ids_of(ROWS + 3)
    written = [
        model.generate(ids, max_new_tokens=60, min_new_tokens=60, do_sample=False) for model in (endless, finite)
    ]
    assert written[0].shape == (2, ROWS + 63)
    assert torch.equal(*written)


@pytest.mark.parametrize("way", ["compiled", "exported"])
def test_compiled_and_exported_models_repeat_positions(way: str) -> None:
    endless, finite = pair()
    ids = ids_of(3 * ROWS)
    if way == "compiled":
        torch._dynamo.reset()
        made = torch.compile(endless, fullgraph=True, backend="eager")
    else:
        sizes = {"input_ids": {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}}
        made = torch.export.export(endless, (), {"input_ids": ids}, dynamic_shapes=sizes).module()
    with torch.no_grad():
        for length in (3 * ROWS, 5 * ROWS + 1):
            torch.testing.assert_close(made(input_ids=ids_of(length)).logits, finite(ids_of(length)).logits)


def test_configuration(tmp_path: Path) -> None:
    config = tiny_config(repeat_positions=True)
    assert config.max_length_tokens == 2**31 - 1
    assert config.learned_positions == tiny_config().max_length_tokens
    config.save_pretrained(tmp_path)
    assert HfLongformerConfig.from_pretrained(tmp_path).repeat_positions is True
    with pytest.raises(
        ValueError, match="repeat_positions is of learned positions, got position_embedding_type='rotary'"
    ):
        tiny_config(repeat_positions=True, is_decoder=True, position_embedding_type="rotary")


@pytest.fixture(scope="module")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A converted checkpoint, and `source` and `finite` beside it, the latter for 700 tokens."""
    place = tmp_path_factory.mktemp("endless")
    make_source(place / "source", "roberta", "ForMaskedLM")
    report = convert(place / "source", place / "endless", max_length="unlimited", **SMALL)
    assert report["max_length"] is None
    names = [check["name"] for check in report["checks"] if check["passed"]]
    assert len(names) == len(report["checks"])
    assert "tokenizer leaves 100,000 words whole" in names
    assert "100,000 tokens, one global token: all outputs finite" in names
    convert(place / "source", place / "finite", max_length=700, **SMALL)
    return place / "endless"


def test_convert_leaves_the_table_as_it_is(endless: Path) -> None:
    source, result = (load_file(endless.parent / name / "model.safetensors") for name in ("source", "endless"))
    old, new = (next(state[name] for name in state if "position_emb" in name) for state in (source, result))
    assert torch.equal(old, new)
    tokenizer = AutoTokenizer.from_pretrained(endless)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TOKENIZERS_PARALLELISM", "false")
        padded = tokenizer(["the quick brown fox"], padding="max_length", truncation=True)  # there is none
    assert len(padded["input_ids"][0]) < 40
    card = (endless / "README.md").read_text()
    assert "extended to texts of any length" in card
    assert "rows, repeated while texts are read" in card


def test_convert_equals_a_finite_conversion(endless: Path) -> None:
    models = [HfLongformerForMaskedLM.from_pretrained(endless.parent / name).eval() for name in ("endless", "finite")]
    ids = torch.randint(5, 300, (2, 700), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(*(model(ids).logits for model in models))
    assert AutoModel.from_pretrained(endless).config.repeat_positions


def test_convert_again(endless: Path, tmp_path: Path) -> None:
    """Without a length it stays as it is; with one the positions are written out."""
    assert convert(endless, tmp_path / "same")["max_length"] is None
    assert convert(endless, tmp_path / "finite", max_length=700)["max_length"] == 700
    one, other = (load_file(place / "finite" / "model.safetensors") for place in (tmp_path, endless.parent))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert AutoConfig.from_pretrained(tmp_path / "finite").max_length_tokens == 700
    assert convert(endless.parent / "finite", tmp_path / "again", max_length="unlimited")["max_length"] is None


def test_verify_finds_what_was_changed(endless: Path, tmp_path: Path) -> None:
    assert all(check["passed"] for check in verify(endless.parent / "source", endless)["checks"])
    changed = HfLongformerForMaskedLM.from_pretrained(endless)
    with torch.no_grad():
        changed.longformer.embeddings.position_embeddings.weight[7] += 1e-3
    changed.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(endless).save_pretrained(tmp_path)
    with pytest.raises(GateError, match="position rows repeat the source's"):
        verify(endless.parent / "source", tmp_path)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--max-length", "endless"], "--max-length must be a number of tokens, or unlimited, got 'endless'"),
        (["--max-length", "-5"], "--max-length must be a number of tokens, or unlimited, got '-5'"),
        (["--max-length", "0"], "--max-length must be at least 1, got 0"),
        (
            ["--max-length", "unlimited", "--position-init", "interpolate"],
            "--max-length unlimited repeats the source's positions, got --position-init interpolate",
        ),
    ],
)
def test_convert_refuses(endless: Path, tmp_path: Path, options: list[str], sentence: str) -> None:
    found = CliRunner().invoke(app, ["convert", str(endless.parent / "source"), str(tmp_path / "new"), *options])
    assert sentence in (found.output + str(found.exception))
    assert found.exit_code == 2 or isinstance(found.exception, InputError)
    assert not (tmp_path / "new").exists()


def test_dry_run_says_so(endless: Path, tmp_path: Path) -> None:
    words = ["convert", str(endless.parent / "source"), str(tmp_path / "new"), "--max-length", "unlimited", "--dry-run"]
    said = CliRunner().invoke(app, words).output
    assert "130 → texts of any length" in said
    assert "repeated while texts are read" in said
    assert "0 extended" in said


@pytest.mark.parametrize("family", [name for name in FAMILIES if name != "roberta"])
def test_convert_every_family(family: str, tmp_path: Path) -> None:
    make_source(tmp_path / "source", family, "ForSequenceClassification")
    report = convert(tmp_path / "source", tmp_path / "endless", max_length="unlimited", **SMALL)
    assert all(check["passed"] for check in report["checks"])


def test_export_writes_positions_out(endless: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="reads texts of any length, and stock does not: say --max-length"):
        export(endless, tmp_path / "stock")
    with pytest.raises(InputError, match="at least the 130 positions there are, got 100"):
        export(endless, tmp_path / "stock", max_length=100)
    with pytest.raises(InputError, match="for checkpoints that read texts of any length, got 800"):
        export(endless.parent / "finite", tmp_path / "stock", max_length=800)
    assert export(endless, tmp_path / "stock", max_length=700)["largest_difference"] < 1e-4
    stock = LongformerForMaskedLM.from_pretrained(tmp_path / "stock").eval()
    ids = torch.randint(5, 300, (1, 640), generator=torch.Generator().manual_seed(0))
    ours = HfLongformerForMaskedLM.from_pretrained(endless).eval()
    with torch.no_grad():
        torch.testing.assert_close(ours(ids).logits, stock(ids).logits, atol=1e-4, rtol=1e-4)
    assert AutoTokenizer.from_pretrained(tmp_path / "stock").model_max_length == 700
    assert ours.config.repeat_positions  # what is in the folder stays


@pytest.mark.parametrize("family", ["bart", "led"])
def test_encoder_decoder(family: str, tmp_path: Path) -> None:
    make_source(tmp_path / "source", family, "ForConditionalGeneration", positions=32)
    window = {} if family == "led" else SMALL
    for name, length in (("endless", "unlimited"), ("finite", 320)):
        convert(tmp_path / "source", tmp_path / name, max_length=length, **window)
    models = [HfLongformerForConditionalGeneration.from_pretrained(tmp_path / name) for name in ("endless", "finite")]
    ids = torch.randint(5, 100, (2, 300), generator=torch.Generator().manual_seed(0))
    assert torch.equal(*(model.eval().generate(ids, max_new_tokens=9, num_beams=2) for model in models))
    with pytest.raises(InputError, match="say --max-length"):
        export(tmp_path / "endless", tmp_path / "stock")
    assert export(tmp_path / "endless", tmp_path / "stock", max_length=320)["largest_difference"] < 1e-4


def test_finetune_and_predict(endless: Path, tmp_path: Path) -> None:
    """A training says how much is read at once; prediction reads whole documents unless it is told otherwise."""
    rows = [{"text": "the quick brown fox " * 3 * (1 + number), "label": "ab"[number % 2]} for number in range(8)]
    (tmp_path / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["--model_name_or_path", str(endless), "--train_file", str(tmp_path / "train.jsonl"), "--max_steps", "1"]
    words += ["--output_dir", str(tmp_path / "run"), "--report_to", "none", "--use_cpu", "True"]
    with pytest.raises((InputError, SystemExit)) as refused:
        run_classification.main(words)
    assert refused.type is SystemExit or "--max_seq_length" in str(refused.value)
    run_classification.main([*words, "--max_seq_length", "200"])
    assert AutoConfig.from_pretrained(tmp_path / "run").repeat_positions
    document = "the quick brown fox " * 700
    whole = PREDICTOR.load(str(tmp_path / "run"), max_seq_length=100_000, overflow="truncate")
    (found,) = whole([{"text": document}])
    assert "truncated" not in found
    tokenizer = AutoTokenizer.from_pretrained(endless)
    model = whole.model
    with torch.no_grad():
        logits = model(**tokenizer([document], return_tensors="pt")).logits
    assert found["label"] == model.config.id2label[int(logits.argmax())]
