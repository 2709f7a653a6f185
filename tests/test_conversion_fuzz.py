# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`hf-longformer convert` of damaged sources: one sentence and exit code 2, or a whole checkpoint that is proven.

Never exit code 1, a traceback, a hang, much memory, a file left behind, or code of the checkpoint that runs. Every
input follows from its kind of damage and its seed; a failure names both, and the test that runs it again.
"""

import json
import re
import shutil
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import damages
import damages_of_files
import pytest
from damages import EVERY, FIELDS, Case, make_sources
from safetensors.torch import load_file

import hf_longformer_cli as cli
from hf_longformer.conversion import convert

SMALL = ("--max-length", "160", "--attention-window", "8")
CHUNK = 25  # inputs of a slow test
LONGEST_SECONDS, MOST_MEMORY = 20, 300 * 2**20
LONGEST_SENTENCE = 700  # characters
WHOLE = {"config.json", "model.safetensors", "conversion_report.json", "README.md"}


class Kind(NamedTuple):
    """A kind of damage, and how many inputs of it are tried: a few always, all of them by the slow test."""

    damage: Callable[[Case], str]
    few: int
    all: int


KINDS = {
    kind.damage.__name__: kind
    for kind in (
        Kind(damages.truncated, 10, 150),
        Kind(damages.header_bytes, 6, 100),
        Kind(damages.header_length, 3, 25),
        Kind(damages.header_entries, 8, 150),
        Kind(damages.numbers, 10, 200),
        Kind(damages.tensors, 10, 150),
        Kind(damages.config_field, 25, len(damages.FIELD_VALUES)),
        Kind(damages.halves, 8, 150),
        Kind(damages.config_removed, 6, 75),
        Kind(damages.config_file, 6, 75),
        Kind(damages.labels, 6, 75),
        Kind(damages.shards, 8, 100),
        Kind(damages_of_files.tokenizer_json, 12, 200),
        Kind(damages_of_files.tokenizer_config, 10, 200),
        Kind(damages_of_files.tokenizer_files, 6, 100),
        Kind(damages_of_files.modules, 6, 100),
        Kind(damages_of_files.pickle_without_flag, 3, 25),
        Kind(damages_of_files.pickle_with_flag, 8, 125),
        Kind(damages_of_files.not_a_file, 8, 200),
        Kind(damages_of_files.generation, 12, 200),
        Kind(damages_of_files.other_files, 6, 75),
    )
}

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="pipes, devices and peak memory as Linux has them")


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_sources(tmp_path_factory.mktemp("sources"))


@pytest.fixture
def attempt(sources: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch):
    """A function that converts the input of a kind and a seed, and says what is wrong with what came of it."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def run(kind: str, number: int) -> str:
        place = tmp_path / str(number)
        place.mkdir()
        case = Case(number, place / "source", tmp_path / f"code ran {number}", sources)
        words = KINDS[kind].damage(case)
        arguments = ["hf-longformer", "convert", str(case.folder), str(place / "output"), *SMALL, *case.options]
        monkeypatch.setattr(sys, "argv", arguments)
        wrong = _wrong(case, capfd)
        shutil.rmtree(place)
        rerun = f"test_damaged_source_thorough[{kind}-{number - number % CHUNK}]"
        return f"{kind}, seed {number}, {words}: {wrong} (again: -m slow -k '{rerun}')" if wrong else ""

    return run


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_source(kind: str, attempt: Callable[[str, int], str]) -> None:
    wrong = [attempt(kind, number) for number in range(KINDS[kind].few)]
    assert not any(wrong), "\n".join(filter(None, wrong))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "first"), [(kind, first) for kind in KINDS for first in range(0, KINDS[kind].all, CHUNK)]
)
def test_damaged_source_thorough(kind: str, first: int, attempt: Callable[[str, int], str]) -> None:
    wrong = [attempt(kind, number) for number in range(first, min(first + CHUNK, KINDS[kind].all))]
    assert not any(wrong), "\n".join(filter(None, wrong))


@pytest.mark.parametrize("source", [*EVERY, "vocabulary"])
def test_undamaged_source(source: str, sources: dict[str, Path], tmp_path: Path) -> None:
    """Every refusal below is for the damage: without one, and with code beside it, all sources are converted."""
    case = Case(0, tmp_path / "source", tmp_path / "code ran", sources)
    case.copy(source)
    report = convert(case.folder, tmp_path / "output", max_length=160, attention_window=8)
    assert all(check["passed"] for check in report["checks"])
    assert not case.marker.exists()


def test_every_field_of_every_config_is_damaged(sources: dict[str, Path]) -> None:
    fields = {name for source in EVERY for name in json.loads((sources[source] / "config.json").read_text())}
    assert fields <= set(FIELDS)


def test_thousands_of_inputs() -> None:
    assert sum(kind.all for kind in KINDS.values()) >= 2000


def _wrong(case: Case, capfd: pytest.CaptureFixture) -> str:
    """Runs the command line and returns what is wrong with it; nothing if nothing is."""
    start, before = time.monotonic(), _memory("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # peak memory is counted from here
    code: object = 0
    with _time_limit(), warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("ignore")
        for seen in (UserWarning, RuntimeWarning, FutureWarning):  # what a real process prints
            warnings.simplefilter("always", seen)
        try:
            cli.main()
        except SystemExit as stopped:
            code = stopped.code or 0
        except BaseException:
            code = traceback.format_exc(limit=-6)
    seconds, memory = time.monotonic() - start, _memory("VmHWM") - before
    captured = capfd.readouterr()
    left = {path.name for path in case.folder.parent.iterdir()} - {"source"}
    if code == 2:
        wrong = _wrong_refusal(captured.err, left) or (f"warned {warned[0].message}" if warned else "")
    elif code == 0:
        wrong = _wrong_success(captured.out, left, case.folder.parent / "output")
    else:
        wrong = f"ended with {code}\n{captured.err[-2000:]}"
    if case.marker.exists():
        wrong += "; code of the checkpoint ran"
    if seconds > LONGEST_SECONDS:
        wrong += f"; took {seconds:.0f} s"
    if memory > MOST_MEMORY:
        wrong += f"; took {memory / 2**20:,.0f} MiB"
    return wrong


def _wrong_refusal(error: str, left: set[str]) -> str:
    """One line on standard error, beside the progress bar, which ends every one of its own with a return."""
    lines = [line for line in (line.rpartition("\r")[2] for line in error.split("\n")) if line.strip()]
    if len(lines) != 1 or not lines[0].startswith("hf-longformer: ") or not lines[0].isprintable():
        return f"said {lines}"
    if len(lines[0]) > LONGEST_SENTENCE:
        return f"said {len(lines[0])} characters: {lines[0]}"
    return f"left {left}" if left else ""


def _wrong_success(out: str, left: set[str], output: Path) -> str:
    if left != {"output"}:
        return f"left {left}"
    missing = WHOLE - {path.name for path in output.iterdir()}
    if missing:
        return f"wrote a checkpoint without {missing}"
    checks = json.loads((output / "conversion_report.json").read_text())["checks"]
    failed = [check for check in checks if not check["passed"]]
    if failed or len(checks) < 8 or "✗" in out or out.count("✓") != len(checks):
        return f"wrote a checkpoint with the checks {checks}"
    finite = all(weight.isfinite().all() for weight in load_file(output / "model.safetensors").values())
    return "" if finite else "wrote weights that are not finite"


@contextmanager
def _time_limit() -> Iterator[None]:
    """Ends an input that waits or computes for too long; what pytest itself set the clock to is restored."""

    def too_long(*_: object) -> None:
        raise TimeoutError(f"took more than {LONGEST_SECONDS} s")

    handler = signal.signal(signal.SIGALRM, too_long)
    start, (seconds, interval) = time.monotonic(), signal.setitimer(signal.ITIMER_REAL, LONGEST_SECONDS)
    try:
        yield
    finally:
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, max(seconds - (time.monotonic() - start), 1) if seconds else 0, interval)


def _memory(name: str) -> int:
    """Bytes, by the kernel's account of this process: `VmRSS` now, or `VmHWM` at most."""
    found = re.search(rf"{name}:\s*(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) * 1024 if found else 0
