# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Tries what would be published: `python tests/published.py`.

The wheel is installed in an empty environment outside the clone, where the command line, the demo and the converter run
from it; the source distribution is unpacked and installed, and tests itself. Both environments borrow everything but
this package from the one that runs this file.
"""

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
MADE = (
    ".git",
    ".venv*",
    ".cache",
    ".*_cache",
    ".hypothesis",
    "build",
    "dist",
    "demo-output",
    "*.egg-info",
    "__pycache__",
)
OF_THE_SOURCE = ("test_package", "test_distribution", "test_window_pattern", "test_model_cards")


def run(*words: object, place: Path, code: int = 0) -> subprocess.CompletedProcess:
    """Runs a command, which must end with this exit code, without the network."""
    unwanted = ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE")
    environment = {name: value for name, value in os.environ.items() if name not in unwanted}
    environment |= {"HF_HUB_OFFLINE": "1", "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(
        [str(word) for word in words], cwd=place, env=environment, capture_output=True, encoding="utf-8", check=False
    )
    if done.returncode != code:
        said = (done.stdout + done.stderr)[-3000:]
        raise RuntimeError(f"{' '.join(map(str, words))} ended with {done.returncode}, not {code}: {said}")
    return done


def build(place: Path) -> tuple[Path, Path, str]:
    """Builds the source distribution, and the wheel from it, as `python -m build` does.

    Args:
        place: A folder for both. The source is copied there first: files of former builds would be taken along.

    Returns:
        The source distribution, the wheel, and what was said.
    """
    source = shutil.copytree(ROOT, place / "source", ignore=shutil.ignore_patterns(*MADE))
    done = run(sys.executable, "-m", "build", "--no-isolation", "--outdir", place / "dist", source, place=place)
    (archive,), (wheel,) = (place / "dist").glob("*.tar.gz"), (place / "dist").glob("*.whl")
    return archive, wheel, done.stdout + done.stderr


def environment(place: Path, *what: object) -> Path:
    """A new environment with one package; everything else is borrowed, except what `.pth` files add: our own source.

    Returns:
        The folder of its programs.
    """
    venv.create(place, with_pip=False)
    packages = place / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    borrowed = [folder for folder in sys.path if folder.endswith("-packages")]
    (packages / "borrowed.pth").write_text("".join(f"{folder}\n" for folder in borrowed), encoding="utf-8")
    pip = [sys.executable, "-m", "pip", "--python", place / "bin" / "python", "install", "--quiet"]
    run(*pip, "--no-deps", "--no-index", "--no-build-isolation", *what, place=place)
    return place / "bin"


def try_wheel(wheel: Path, place: Path) -> None:
    """Runs the command line, the converter and the demo from the wheel."""
    programs = environment(place / "env", wheel)
    command, python = programs / "hf-longformer", programs / "python"
    tell(run(command, "--version", place=place).stdout)
    lines = "import hf_longformer; from hf_longformer.model_cards import embedded_model; print(hf_longformer.__file__)"
    found, folder = run(python, "-c", f"{lines}; print(embedded_model('roberta-tiny-en'))", place=place).stdout.split()
    if not all(Path(one).is_relative_to(place) for one in (found, folder)):
        raise RuntimeError(f"the package must come from the wheel, got {found} and {folder}")
    absent = run(python, "-c", f"{lines}; embedded_model('characters-tiny-en')", place=place, code=1)
    tell(absent.stderr.splitlines()[-1])
    tell(run(command, "convert", folder, "long", "--max-length", 1024, place=place).stdout)
    tell(run(command, "verify", folder, "long", place=place).stdout)
    said = run(command, "finetune", "mlm", "tiny-short", "--train_files", "nowhere.txt", place=place, code=2)
    if "recipe" in said.stderr:
        raise RuntimeError(f"the recipes must come with the wheel, got {said.stderr}")
    tell(run(command, "demo", place=place).stdout)


def try_source(archive: Path, place: Path) -> None:
    """Unpacks the source distribution, installs it, and runs some of its tests."""
    with tarfile.open(archive) as packed:
        packed.extractall(place, filter="data")
    source = place / archive.name.removesuffix(".tar.gz")
    programs = environment(place / "env-of-source", "--editable", source)
    files = [f"tests/{name}.py" for name in OF_THE_SOURCE]
    tell(run(programs / "python", "-m", "pytest", "-q", "-p", "no:cacheprovider", *files, place=source).stdout)


def tell(said: str) -> None:
    """Shows what was said."""
    sys.stdout.write(f"{said.rstrip()}\n")
    sys.stdout.flush()


def main() -> None:
    """Builds, and tries both."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder).resolve()
        archive, wheel, _ = build(place)
        tell(
            f"{archive.name}: {archive.stat().st_size / 1e6:.1f} MB, {wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB"
        )
        try_wheel(wheel, place)
        try_source(archive, place)


if __name__ == "__main__":
    main()
