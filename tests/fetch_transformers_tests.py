# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Fetches the common tests of the installed Transformers, which only its source distribution holds, not its wheel.

`python tests/fetch_transformers_tests.py` puts them into `.cache/transformers-tests/<version>/transformers_tests`,
from where `test_transformers_common.py` runs them against our models. With `--optional`, failing is no error.
"""

import subprocess
import sys
import tarfile
import tempfile
from importlib.metadata import version
from pathlib import Path, PurePosixPath

PACKAGE = "transformers_tests"
FOLDER = Path(__file__).resolve().parents[1] / ".cache" / "transformers-tests" / version("transformers")
# What the common tests import, but the source distribution leaves out.
STUBS = {
    "exporters/test_export.py": "class ExportTesterMixin:\n    pass\n",
    "generation/test_utils.py": "class GenerationTesterMixin:\n    pass\n",
    "utils/test_configuration_utils.py": "config_common_kwargs = {}\n",
}


def is_fetched() -> bool:
    """Whether the tests of the installed version are there."""
    return (FOLDER / PACKAGE / "test_modeling_common.py").is_file()


def fetch() -> None:
    """Downloads the tests, or does nothing if they are there. What appears in `FOLDER` is complete.

    Raises:
        OSError, RuntimeError, tarfile.TarError, subprocess.SubprocessError: If that fails.
    """
    if is_fetched():
        return
    FOLDER.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=FOLDER.parent, prefix=".fetch-") as scratch:
        archive = download(Path(scratch) / "download")
        extract(archive, Path(scratch) / "content" / PACKAGE)
        try:
            (Path(scratch) / "content").rename(FOLDER)
        except OSError:
            if not is_fetched():  # otherwise another process was faster
                raise


def download(folder: Path) -> Path:
    """Downloads the source distribution of the installed Transformers into `folder`."""
    requirement = f"transformers=={version('transformers')}"
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "download"]
    options = ["--no-deps", "--no-binary", ":all:", "--dest", str(folder)]
    done = subprocess.run([*pip, *options, requirement], capture_output=True, text=True, timeout=540, check=False)
    archives = list(folder.glob("*.tar.gz"))
    if done.returncode or len(archives) != 1:
        lines = done.stderr.strip().splitlines() or ["no archive came"]
        raise RuntimeError(f"pip could not download the source distribution of {requirement}: {lines[-1]}")
    return archives[0]


def extract(archive: Path, folder: Path) -> None:
    """Extracts `<root>/tests/test_*.py` of `archive` into `folder` and adds the stubs."""
    with tarfile.open(archive) as tar:
        for member in tar:
            path = PurePosixPath(member.name)
            if member.isfile() and len(path.parts) == 3 and path.match("tests/test_*.py"):
                tar.extract(member.replace(name=path.name), folder, filter="data")
    if not (folder / "test_modeling_common.py").is_file():
        raise RuntimeError(f"{archive.name} holds no tests/test_modeling_common.py")
    (folder / "__init__.py").touch()
    for name, content in STUBS.items():
        (folder / name).parent.mkdir()
        (folder / name).with_name("__init__.py").touch()
        (folder / name).write_text(content)


def main() -> None:
    """The command line."""
    try:
        fetch()
    except (OSError, RuntimeError, tarfile.TarError, subprocess.SubprocessError) as error:
        sys.stderr.write(f"the common tests of Transformers could not be fetched: {error}\n")
        sys.exit(0 if "--optional" in sys.argv[1:] else 1)


if __name__ == "__main__":
    main()
