# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`hf-longformer` with random words: an exit code of 0, 1 or 2, a sentence where it is not 0, and never a traceback."""

import contextlib
import io
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

import hf_longformer_cli as cli

ASKED = ("qa", "hotpotqa", "classification", "token-classification", "coref", "summarization")
TASKS = (*ASKED, "multiple-choice", "clm", "mlm", "embeddings")
COMMANDS = [
    *([name] for name in ("convert", "verify", "export", "sync-global", "draw", "bench", "page", "predict", "serve")),
    *(["finetune"], ["fly"]),
    *(["predict", task] for task in (*ASKED, "embeddings", "mlm")),
    *(["finetune", task] for task in TASKS),
]
FILES = ("in.jsonl", "in.csv", "in.txt", "model", "empty", "nowhere/out", "out", "recipe.yaml", "-", ".")
OPTIONS = (
    *(
        "--output",
        "--overwrite",
        "--max-length",
        "--stride",
        "--format",
        "--overflow",
        "--dtype",
        "--length",
        "--global",
    ),
    *("--estimate-memory", "--batch", "--dry-run", "--help", "--version", "--traceback-not", "--text-column"),
    *("--model_name_or_path", "--train_file", "--train_files", "--output_dir", "--learning_rate", "--learing_rate"),
    *("--seed", "--fsdp", "--optim", "--lr_scheduler_type", "--eval_strategy", "--num_train_epochs", "--help-all"),
    *(
        "--dataset_name",
        "--local_files_only",
        "--label_column",
        "--folds",
        "--max_seq_length",
        "--num_beams",
        "--prefix",
    ),
)
WORDS = st.one_of(
    st.sampled_from(FILES),
    st.sampled_from(OPTIONS),
    st.sampled_from(("0", "-1", "1e99", "nan", "true", "False", "tiny-short", "{", "[]", "é\udcff", "")),
    st.text(max_size=8).filter(lambda word: "\0" not in word),
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of many kinds, none of which anything can be made of."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "in.jsonl").write_text('{"text": "a", "label": "b"}\n{"text": 3}\n')
    (folder / "in.csv").write_text('text,label\na,b\n"c\n')
    (folder / "in.txt").write_text("a text")
    (folder / "empty").touch()
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text('{"model_type": "roberta"}')
    (folder / "recipe.yaml").write_text("seed: x\n")
    return folder


def run(words: list[str]) -> tuple[int, str]:
    """The exit code and what was printed."""
    said = io.TextIOWrapper(io.BytesIO(), errors="backslashreplace", write_through=True)
    heard = io.TextIOWrapper(io.BytesIO(), errors="backslashreplace")
    read = io.TextIOWrapper(io.BytesIO(b'{"text": "a"}\n'))
    with (
        patch.object(sys, "argv", ["hf-longformer", *words]),
        patch.object(sys, "stdin", read),
        contextlib.redirect_stdout(heard),
        contextlib.redirect_stderr(said),
    ):
        try:
            cli.main()
            code: object = 0
        except SystemExit as stopped:
            code = stopped.code or 0
    assert isinstance(code, int), f"a text as the exit code is printed as it is: {code}"
    heard.flush()
    streams: Any = (heard.buffer, said.buffer)
    return code, "".join(stream.getvalue().decode("utf-8", "replace") for stream in streams)


@settings(
    max_examples=120,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(command=st.sampled_from(COMMANDS), words=st.lists(WORDS, max_size=6))
def test_random_words(command: list[str], words: list[str], place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing can be done in this place, but for drawing and counting."""
    monkeypatch.chdir(place)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    if command == ["bench"]:
        words = [*words, "--estimate-memory", "model"]  # or it would measure for minutes
    code, said = run([*command, *words])
    assert code in (0, 1, 2)
    assert "Traceback" not in said
    assert "hf-longformer: unexpected" not in said, said
    if code:
        assert said.strip()
