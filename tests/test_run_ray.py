# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`hf-longformer predict … --engine ray`: nothing lost and nothing twice, whatever dies; and the same on Ray Data."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import test_predict
from pyarrow import dataset, parquet
from test_long_documents import as_json, checkpoint_of, options_of, pytest_approx, without_nothing
from test_predict import make_rows, read, write

ray = pytest.importorskip("ray", reason="the extra `ray` is not installed")

from hf_longformer.conversion import InputError  # noqa: E402
from hf_longformer.finetune.long_documents import LongDocumentPredictor  # noqa: E402
from hf_longformer.finetune.predict import predict  # noqa: E402
from hf_longformer.finetune.ray_workers import DEATHS, TRIES_ALONE, Part  # noqa: E402
from hf_longformer.finetune.tasks import ANSWERED  # noqa: E402

models = test_predict.models
ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}  # or its processes wait for all others
HERE = {"address": "local", "include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Ray with two CPUs, for all tests that can share it."""
    os.environ.update(ENVIRONMENT)
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # its processes do not find this file
    ray.init(num_cpus=2, **HERE)
    yield
    ray.shutdown()


class Fragile(LongDocumentPredictor):
    """Ends its process at rows with a word: always, or where it finds a file with that name, which it removes."""

    def answers(self, rows: Iterable[Any]) -> Iterator[Any]:
        rows = list(rows)
        for row in rows:
            for word in str(row).replace("'", " ").split() if isinstance(row, dict) else ():
                if word == "POISON":
                    os._exit(1)
                if word.startswith("ONCE:") and os.path.exists(name := word.removeprefix("ONCE:")):
                    os.remove(name)
                    os._exit(1)
        yield from super().answers(rows)


def on_ray(task: str, models: Path, file: Path, output: Path, rows_per_file: int = 4, **options: Any) -> dict[str, Any]:
    settings = {"workers": 2, "rows_per_file": rows_per_file}
    checkpoint = checkpoint_of(models, task)
    return predict(task, checkpoint, str(file), output, engine="ray", on_ray=settings, **options)


def rows_in(folder: Path) -> list[dict[str, Any]]:
    return dataset.dataset(folder).to_table().to_pylist()


def lines_of(folder: Path) -> list[int]:
    return [row["line"] for row in rows_in(folder)]


def test_ray_says_what_one_process_says(cluster: None, models: Path, tmp_path: Path) -> None:
    """Rows in order, bad ones with their error, one schema, and nothing left beside the folder."""
    rows: list[Any] = make_rows("classification", 10)
    file = write(tmp_path / "in.jsonl", [*rows[:5], "{", {"id": 7, "text": 3}, *rows[5:]])
    said: list[str] = []
    report = on_ray("classification", models, file, tmp_path / "out", say=said.append)
    alone = predict("classification", str(models / "classification"), str(file), tmp_path / "alone.jsonl")
    assert report == alone == {"lines": 12, "failed": [6, 7], "truncated": 0, "tokens_cut": 0, "resumed": 0}
    assert sorted(line.split(":")[0] for line in said) == ["line 6", "line 7"]
    assert sorted(one.name for one in (tmp_path / "out").iterdir()) == [
        "_run.json",
        *(f"part-0000000{number}.parquet" for number in range(3)),
    ]
    lines = read(tmp_path / "alone.jsonl")
    lines[6]["id"] = "7"  # a column has one type
    found = rows_in(tmp_path / "out")
    assert list(map(as_json, found)) == [pytest_approx(without_nothing(line)) for line in lines]
    schemas = {parquet.read_schema(one) for one in (tmp_path / "out").glob("*.parquet")}
    assert len(schemas) == 1
    assert sorted(one.name for one in tmp_path.iterdir()) == ["alone.jsonl", "in.jsonl", "out"]
    with pytest.raises(InputError, match="must not exist"):
        on_ray("classification", models, file, tmp_path / "out")


@pytest.mark.slow
@pytest.mark.parametrize("task", ANSWERED)
def test_every_task(task: str, cluster: None, models: Path, tmp_path: Path) -> None:
    """Of JSON lines, and of Parquet where that can hold the rows."""
    rows = make_rows(task, 5)
    given = options_of(task)
    file = write(tmp_path / "in.jsonl", rows)
    on_ray(task, models, file, tmp_path / "out", rows_per_file=2, **given)
    predict(task, checkpoint_of(models, task), str(file), tmp_path / "alone.jsonl", **given)
    found = rows_in(tmp_path / "out")
    lines = read(tmp_path / "alone.jsonl")
    assert list(map(as_json, found)) == [pytest_approx(without_nothing(line)) for line in lines]
    if task != "hotpotqa":
        parquet.write_table(pa.Table.from_pylist(rows), tmp_path / "in.parquet")
        on_ray(task, models, tmp_path / "in.parquet", tmp_path / "again", rows_per_file=2, **given)
        assert list(map(as_json, rows_in(tmp_path / "again"))) == [pytest_approx(as_json(row)) for row in found]


@pytest.mark.slow
def test_rows_that_end_their_process_are_set_aside(
    cluster: None, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that always do get an error, the others of their file are answered; a process that died once costs none."""
    monkeypatch.setattr("hf_longformer.finetune.predict.LongDocumentPredictor", Fragile)
    once = tmp_path / "once"
    once.touch()
    rows = make_rows("classification", 9)
    rows[2]["text"] += " POISON"
    rows[5]["text"] += f" ONCE:{once}"
    rows[8]["text"] = "POISON"
    file = write(tmp_path / "in.jsonl", rows)
    report = on_ray("classification", models, file, tmp_path / "out")
    assert not once.exists()
    assert (report["lines"], report["failed"]) == (9, [3, 9])
    found = rows_in(tmp_path / "out")
    assert [row["line"] for row in found] == list(range(1, 10))
    assert [row["id"] for row in found] == [row["id"] for row in rows]
    for row in found:
        if row["line"] in report["failed"]:
            assert f"died each of {TRIES_ALONE} times (ActorDiedError)" in row["error"]
            assert row["label"] is None
        else:
            assert row["label"] is not None


@pytest.mark.slow
def test_workers_that_die_without_end_stop_the_run(
    cluster: None, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what was written by then is gone on from."""
    rows = make_rows("classification", 40)
    for row in rows[4:]:
        row["text"] = "POISON"
    file = write(tmp_path / "in.jsonl", rows)
    with monkeypatch.context() as patch:
        patch.setattr("hf_longformer.finetune.predict.LongDocumentPredictor", Fragile)
        patch.setattr("hf_longformer.finetune.ray_workers.DEATHS", 3)
        with pytest.raises(RuntimeError, match="the last 3 workers died before they answered anything"):
            on_ray("classification", models, file, tmp_path / "out")
    assert DEATHS > 3
    assert not (tmp_path / "out").exists()
    assert [one.name for one in (tmp_path / ".out.parts").glob("part*")] == ["part-00000000.parquet"]
    other = write(tmp_path / "other.jsonl", rows)
    with pytest.raises(InputError, match="another input, checkpoint, version or options"):
        on_ray("classification", models, other, tmp_path / "out")
    report = on_ray("classification", models, file, tmp_path / "out")  # by one that the rows do not end
    assert (report["lines"], report["resumed"], report["failed"]) == (40, 4, [])
    assert lines_of(tmp_path / "out") == list(range(1, 41))


def start(models: Path, file: Path, output: Path) -> subprocess.Popen:
    words = ["predict", "classification", str(models / "classification"), str(file), "--output", str(output)]
    words += ["--engine", "ray", "--workers", "2", "--rows-per-file", "1"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | ENVIRONMENT
    command = [sys.executable, "-c", "import hf_longformer_cli; hf_longformer_cli.main()", *words]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_a_driver_that_is_killed_loses_and_doubles_nothing(models: Path, tmp_path: Path) -> None:
    """Ray starts with the command and ends with it; the second command goes on where the first was killed."""
    rows = make_rows("classification", 300)
    file, output = write(tmp_path / "in.jsonl", [*rows, "{"]), tmp_path / "out"
    parts = tmp_path / ".out.parts"
    process = start(models, file, output)
    until = time.monotonic() + 120
    while len(list(parts.glob("part-*"))) < 20 and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    done = len(list(parts.glob("part-*")))
    assert 20 <= done < 301
    assert not output.exists()
    (parts / "part-00000003.parquet").write_bytes(b"PAR1 torn")  # as by a disk that lost it
    (parts / ".torn.parquet").write_bytes(b"PAR1")
    process = start(models, file, output)
    said, errors = process.communicate(timeout=300)
    assert process.returncode == 1, errors  # one line is bad
    assert f"301 lines, {done - 1:,} of them before, 1 of them without a result, in {output}" in said
    found = rows_in(output)
    assert [row["line"] for row in found] == list(range(1, 302))
    assert [row["id"] for row in found[:-1]] == [row["id"] for row in rows]
    assert not parts.exists()
    assert not list(output.glob(".*"))


@pytest.mark.slow
def test_what_cannot_be_done_is_refused(cluster: None, models: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "in.jsonl", make_rows("classification", 3))
    (tmp_path / "file").touch()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    classification = ("classification", models, file)
    for given, options, message in (
        ((*classification, tmp_path / "file"), {"overwrite": True}, "must be a folder with --engine ray"),
        ((*classification, tmp_path / "full"), {"overwrite": True}, "folders of predictions only"),
        ((*classification, tmp_path / "full"), {}, "must not exist"),
        ((*classification, tmp_path / "out"), {"overflow": "sum"}, "overflow must be truncate"),
        ((*classification, tmp_path / "body"), {"columns": {"text": "body"}, "format": "json"}, None),
        (("qa", models, file, tmp_path / "out"), {"max_seq_length": 131}, "the model's 130 tokens, got 131"),
        (("classification", models, "-", tmp_path / "out"), {}, "give a file, not -"),
        ((*classification, tmp_path / "out"), {"rows_per_file": 0}, "rows_per_file must be at least 1, got 0"),
    ):
        if message is None:  # every row has its own entries: each says what it lacks
            assert on_ray(*given, **options)["failed"] == [1, 2, 3]
            continue
        with pytest.raises(InputError, match=message):
            on_ray(*given, **options)
    assert (tmp_path / "full" / "mine.txt").exists()


@pytest.mark.slow
def test_overwrite_and_nothing_to_read(cluster: None, models: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    on_ray("classification", models, write(tmp_path / "in.jsonl", make_rows("classification", 9)), output)
    on_ray(
        "classification", models, write(tmp_path / "one.jsonl", make_rows("classification", 1)), output, overwrite=True
    )
    assert lines_of(output) == [1]
    empty = write(tmp_path / "empty.jsonl", [])
    report = on_ray("classification", models, empty, output, overwrite=True)
    assert report["lines"] == 0
    assert dataset.dataset(output).to_table().schema.names[:3] == ["line", "id", "label"]
    assert sorted(one.name for one in tmp_path.iterdir()) == ["empty.jsonl", "in.jsonl", "one.jsonl", "out"]


@pytest.mark.slow
def test_ray_data_takes_the_class(cluster: None, models: Path) -> None:
    """In a pipeline of one's own, with one schema for all blocks."""
    rows = make_rows("token-classification", 20)
    context = ray.data.DataContext.get_current()
    context.execution_options.preserve_order = True
    context.enable_progress_bars = False
    given = {"task": "token-classification", "checkpoint": str(models / "token-classification"), "keep": ["id"]}
    found = (
        ray.data.from_items(rows, override_num_blocks=4)
        .map_batches(
            LongDocumentPredictor,
            fn_constructor_kwargs=given,
            batch_format="pyarrow",
            batch_size=5,
            compute=ray.data.ActorPoolStrategy(size=2),
        )
        .take_all()
    )
    expected = LongDocumentPredictor(**given)(pa.Table.from_pylist(rows)).to_pylist()
    assert [row["id"] for row in found] == [row["id"] for row in rows]
    assert list(map(as_json, found)) == [pytest_approx(as_json(row)) for row in expected]


def test_a_part_is_halved_down_to_its_rows() -> None:
    """And knows of each where it stands, and how large the file is."""
    part = Part(3, 100, [{"text": str(number)} for number in range(5)])
    pieces = [part]
    while any(len(one.rows) > 1 for one in pieces):
        pieces = [half for one in pieces for half in (one.halves() if len(one.rows) > 1 else [one])]
    assert [(one.file, one.first, one.rows, one.size) for one in pieces] == [
        (3, 100 + number, [{"text": str(number)}], 5) for number in range(5)
    ]


@pytest.mark.parametrize("engine", ["local", "spark"])
def test_options_of_ray_are_refused_without_it(engine: str, models: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "in.jsonl", make_rows("classification", 1))
    message = "workers are of --engine ray, got --engine local" if engine == "local" else "local or ray, got spark"
    with pytest.raises(InputError, match=message):
        predict("classification", "x", str(file), tmp_path / "out", engine=engine, on_ray={"workers": 2})
