# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Every code block of the README runs and prints what the README says."""

import json
import re
import sys
from pathlib import Path

import pytest
from blocks import blocks, run, run_python
from sources import CORPUS, make_source

from hf_longformer.conversion import convert
from hf_longformer.model_cards import embedded_model

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = blocks(README)
PYTHON = [index for index, (language, _) in enumerate(BLOCKS) if language == "python"]
SHELL = [index for index, (language, _) in enumerate(BLOCKS) if language == "bash"]


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where the names in the README mean something, without the network."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "demo-output").mkdir()
    convert(embedded_model("roberta-tiny-en"), folder / "demo-output" / "roberta-tiny-en-4096", check=False)
    make_source(folder / "FacebookAI" / "roberta-base", "roberta", "ForSequenceClassification", positions=512)
    texts = [f"{CORPUS[0]} number {number}. {CORPUS[1]} number {number}. " * 20 for number in range(4)]
    (folder / "documents.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return folder


def converted(place: Path) -> None:
    """What the README's own convert command makes, if it has not run yet in this folder."""
    if not (place / "roberta-4096").exists():
        run(next(code for _, code in BLOCKS if code.startswith("hf-longformer convert")), place)


def on_ray(index: int) -> bool:
    """Whether a block starts Ray, which takes its time."""
    return any(sign in BLOCKS[index][1] for sign in ("import ray", "--engine ray"))


PYTHON_BLOCKS = [
    pytest.param(index, id=f"block{index}", marks=[pytest.mark.slow] if on_ray(index) else []) for index in PYTHON
]


@pytest.mark.parametrize("index", PYTHON_BLOCKS)
def test_python_block(index: int, place: Path) -> None:
    if on_ray(index):
        pytest.importorskip("ray", reason="the extra `ray` is not installed")
    converted(place)
    printed = run_python(BLOCKS[index][1], place)
    following = BLOCKS[index + 1] if index + 1 < len(BLOCKS) else ("", "")
    if "do_sample" in BLOCKS[index][1]:  # rounding may decide; test_embedded_models.py reads what stands there
        assert printed[:60] == following[1][:60]
    elif following[0] == "text":
        assert printed == following[1]
    else:
        assert "print(" not in BLOCKS[index][1]


SHELL_BLOCKS = [
    # `make demo` takes minutes: `.ci/run` runs this test of it beside the suite, on all cores.
    pytest.param(index, id=first[:30], marks=[pytest.mark.slow] if first == "make demo" or on_ray(index) else [])
    for index in SHELL
    for first in [BLOCKS[index][1].split("\n")[0]]
]


@pytest.mark.parametrize("index", SHELL_BLOCKS)
def test_shell_block(index: int, place: Path) -> None:
    code = BLOCKS[index][1]
    if code == "make test\n":
        assert "make test" in (ROOT / ".ci" / "run").read_text()  # what runs this test
    elif code == "make demo\n":
        # in this environment instead of a new one
        command = f"make -C {ROOT} -o {sys.prefix}/installed VENV={sys.prefix} demo"
        printed = run(command, place)
        assert "hf-longformer convert YOUR-ROBERTA-OR-BERT" in printed
        (found,) = re.findall(r"right +(\d+) of 10 +(\d+) of 10", printed)
        assert int(found[0]) > 5 > int(found[1])
    elif code.startswith("hf-longformer convert"):
        converted(place)
        assert (place / "roberta-4096" / "model.safetensors").exists()
    elif code.startswith("hf-longformer serve"):
        converted(place)  # and a command that can be told to stop, as those of `warm` cannot
        printed = run(f"PATH={Path(sys.executable).parent}:$PATH\nset -e\n{code}", place)
        assert sorted(json.loads(printed)) == ["label", "scores"]
    else:
        for sign, module in {"--engine ray": "ray", "finetune embeddings": "sentence_transformers"}.items():
            if sign in code:
                pytest.importorskip(module, reason=f"{module}, of an extra, is not installed")
        converted(place)
        run(f"set -e\n{code}", place)


def test_every_block_is_run() -> None:
    assert {language for language, _ in BLOCKS} == {"bash", "python", "text"}
    assert len(BLOCKS) == README.count("\n```") // 2
    texts = [index for index, (language, _) in enumerate(BLOCKS) if language == "text"]
    assert all(BLOCKS[index - 1][0] == "python" for index in texts)


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\(([^)h][^)]*)\)", README):
        assert (ROOT / target).exists(), target


def test_layout_table_names_what_is_there() -> None:
    table = README[README.index("## Layout") :]
    rows = [
        name
        for names in re.findall(r"^\| (`.+?`) \|", table, flags=re.MULTILINE)
        for name in re.findall(r"`(.+?)`", names)
    ]
    assert len(rows) > 8
    for name in rows:
        assert any((folder / name).exists() for folder in (ROOT, ROOT / "hf_longformer")), name
