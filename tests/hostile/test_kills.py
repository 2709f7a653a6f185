# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Whatever is killed leaves the old, the new, or what goes on where it was: never a mixture of them."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from killing import fingerprint, moments, run
from sources import make_source

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small checkpoints to convert."""
    folder = tmp_path_factory.mktemp("sources")
    make_source(folder / "one")
    make_source(folder / "two", num_labels=3, head="ForSequenceClassification")
    return folder


def of_checkpoint(file: Path) -> bool:
    """Reports and cards have the date and the seconds of their conversion in them."""
    return file.name not in ("conversion_report.json", "README.md")


@pytest.mark.parametrize("overwrite", [False, True])
def test_convert_leaves_the_old_or_the_new(sources: Path, tmp_path: Path, overwrite: bool) -> None:
    """`verify` and a second conversion find nothing odd whenever the first was killed."""
    output = tmp_path / "place" / "converted"
    output.parent.mkdir()
    command = ["convert", sources / "one", output, "--max-length", 260, "--attention-window", 16]
    assert run([*command[:1], sources / "two", output, *command[3:]], output.parent)[0] == 0
    old = fingerprint(output, of_checkpoint)
    code, total = run([*command, "--overwrite"], output.parent)
    new = fingerprint(output, of_checkpoint)
    assert code == 0
    assert total > 5
    assert old != new
    found = []
    for moment in moments(total, 20):
        shutil.rmtree(output.parent)
        output.parent.mkdir()
        if overwrite:
            assert run([*command[:1], sources / "two", output, *command[3:]], output.parent)[0] == 0
            command = [*command[:7], "--overwrite"]
        assert run(command, output.parent, moment)[0] in (-9, 0)  # without an old one it touches fewer files
        found.append(fingerprint(output, of_checkpoint))
        assert found[-1] in ((old, new) if overwrite else (None, new))
    assert found[0] == (old if overwrite else None)
    assert run([*command[:7], "--overwrite"], output.parent)[0] == 0
    assert fingerprint(output, of_checkpoint) == new


def test_predict_goes_on_and_gives_the_same(sources: Path, tmp_path: Path) -> None:
    """Whatever it was killed at, the next run completes the file with the lines of a run that was never killed."""
    texts, output = tmp_path / "texts.jsonl", tmp_path / "place" / "found.jsonl"
    rows = [{"text": "the quick brown fox jumps over " * (1 + number % 7)} for number in range(600)]
    texts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    model = tmp_path / "model"
    convert = ["convert", sources / "two", model, "--max-length", 260, "--attention-window", 16]
    assert run(convert, tmp_path)[0] == 0
    output.parent.mkdir()
    command: list[Any] = ["predict", "classification", model, texts, "--output", output]
    code, total = run(command, output.parent)
    assert (code, total > 3) == (0, True)
    whole = output.read_text()
    for moment in moments(total, 10):
        shutil.rmtree(output.parent)
        output.parent.mkdir()
        assert run(command, output.parent, moment)[0] == -9
        assert not output.exists() or output.read_text() == whole
        if not output.exists():
            assert run(command, output.parent)[0] == 0
        assert output.read_text() == whole
