# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`python -m build`: what would be published. `make test-wheel` installs and runs it."""

import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
from published import ROOT, build

from hf_longformer.model_cards import embedded, embedded_model

GENERATED = ("PKG-INFO", "setup.cfg", "hf_longformer.egg-info/")
READ = {
    "finetune": ("recipes/*.yaml", "page/page.*"),
    "benchmarks": ("*.txt",),
    "model_cards": ("*.md",),
    "serving": ("page/form.*",),
}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    pytest.importorskip("build", reason="needs `build`")
    place = tmp_path_factory.mktemp("build")
    archive, file, said = build(place)
    with tarfile.open(archive) as packed:
        source = {name.partition("/")[2] for name in packed.getnames() if packed.getmember(name).isfile()}
    with zipfile.ZipFile(file) as packed:
        installed = set(packed.namelist())
    return SimpleNamespace(source=source, installed=installed, wheel=file, said=said)


def test_nothing_is_warned_of(built) -> None:
    assert [line for line in built.said.splitlines() if "warn" in line.lower() or "deprecat" in line.lower()] == []


def test_wheel_has_the_weights_of_one_model(built) -> None:
    weights = {name for name in built.installed if name.endswith((".safetensors", ".bin", ".pt"))}
    assert weights == {"hf_longformer/model_cards/roberta-tiny-en/model.safetensors"}
    assert built.wheel.stat().st_size < 10e6


def test_wheel_has_every_module_and_what_it_reads(built) -> None:
    wanted = {str(file.relative_to(ROOT)) for folder in ("hf_longformer", "hf_longformer_cli") for file in py(folder)}
    for folder in ("benchmarks", "conversion", "exporting", "finetune", "model_cards", "retrieval", "serving"):
        wanted |= {f"hf_longformer/{file.relative_to(ROOT)}" for file in py(folder)}
    for folder, patterns in READ.items():
        files = [file for pattern in patterns for file in (ROOT / folder).glob(pattern)]
        wanted |= {f"hf_longformer/{file.relative_to(ROOT)}" for file in files}
    model = ROOT / "model_cards" / "roberta-tiny-en"
    wanted |= {"hf_longformer/py.typed", *(f"hf_longformer/{file.relative_to(ROOT)}" for file in model.iterdir())}
    assert {name for name in built.installed if ".dist-info/" not in name} == wanted


def py(folder: str) -> list[Path]:
    return list((ROOT / folder).rglob("*.py"))


def test_source_distribution_is_the_repository(built) -> None:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("needs the repository")
    files = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    said = subprocess.run(files, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    assert {name for name in built.source if not name.startswith(GENERATED)} == {
        name for name in said if (ROOT / name).exists()
    }


@pytest.mark.parametrize("name", embedded.NAMES)
def test_models_that_are_not_installed_are_refused_with_the_way_to_them(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "FOLDER", tmp_path)
    with pytest.raises(ValueError, match=rf"{name} is not in the installed package.* folder model_cards/{name}, got"):
        embedded_model(name)
