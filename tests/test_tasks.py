# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`finetune/tasks.py`: a task that somebody adds is one file and one entry, and has all that the others have."""

import json
import shutil
import sys
from pathlib import Path

import a_task
import pytest
from classification_runs import arguments, make_model, write_rows
from transformers import pipeline
from typer.testing import CliRunner

from hf_longformer import finetune
from hf_longformer.finetune import pipelines, tasks
from hf_longformer.finetune.predict import predict
from hf_longformer.finetune.tasks import TASKS, Entry, Prediction, module_of
from hf_longformer_cli import prediction, training

ENTRY = Entry(
    "Train to tell languages apart.",
    "to tell languages apart",
    "`hf-longformer predict language PATH …`",
    Prediction("Tell languages apart.", {"text": "What holds the document."}, {}, "long-language-identification"),
)


@pytest.fixture
def added(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model and with documents, where there is one more task."""
    (tmp_path / "tasks").mkdir()
    shutil.copy(str(a_task.__file__), tmp_path / "tasks" / "language.py")
    monkeypatch.setattr(finetune, "__path__", [*finetune.__path__, str(tmp_path / "tasks")])
    monkeypatch.delitem(sys.modules, "hf_longformer.finetune.language", raising=False)
    monkeypatch.setitem(TASKS, "language", ENTRY)
    for table in (tasks.ASKED, tasks.ANSWERED):
        monkeypatch.setitem(table, "language", ENTRY.prediction)
    texts = {"en": "the quick brown fox jumps", "de": "windows documents encoders need over"}
    rows = [{"text": f"{texts[name]} " * (4 + number), "language": name} for number in range(8) for name in texts]
    write_rows(tmp_path / "train.jsonl", rows)
    return tmp_path


def test_a_task_is_one_file_and_one_entry(added: Path, capsys: pytest.CaptureFixture) -> None:
    assert len(Path(str(a_task.__file__)).read_text(encoding="utf-8").splitlines()) < 300
    training._add_script("language", ENTRY.help)
    prediction._add_command("language", ENTRY.prediction)
    model = make_model(added)
    files = {"train_file": added / "train.jsonl", "test_file": added / "train.jsonl"}
    given = arguments(model, added, max_seq_length=24, num_train_epochs=12, **files)
    trained = CliRunner().invoke(training.finetune, ["language", *given], catch_exceptions=False)
    assert trained.exit_code == 0
    results = json.loads((added / "run" / "results.json").read_text())
    assert results["scores"]["test"]["accuracy"] > 0.9
    assert results["cut"]["test"]["tokens"] > 0
    card = (added / "run" / "README.md").read_text()
    assert ENTRY.purpose in card
    assert f"hf-longformer predict language {added / 'run'}" in card

    output = added / "found.jsonl"
    asked = ["language", str(added / "run"), str(added / "train.jsonl"), "--output", str(output)]
    done = CliRunner().invoke(prediction.predict, asked, catch_exceptions=False)
    assert done.exit_code == 0
    assert "16 lines, 16 of them cut" in done.stdout
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    written = [json.loads(line) for line in (added / "run" / "test-predictions.jsonl").read_text().splitlines()]
    by_row = {line["row"]: line["language"] for line in written}
    assert [line["language"] for line in lines] == [by_row[number] for number in range(1, 17)]

    pipelines._register("language", ENTRY.prediction)
    say = pipeline("long-language-identification", model=str(added / "run"))
    assert say("the quick brown fox jumps " * 5)["language"] == "en"
    assert module_of("language").TASK.name == "language"
    assert predict("language", str(added / "run"), str(added / "train.jsonl"), added / "again.jsonl")["lines"] == 16
