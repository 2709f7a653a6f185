# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Runs the core of the suite with other releases than the pinned ones: `python tests/matrix.py [NAME …]`, or all.

Every environment lies in `.cache/matrix/NAME`. Those that change Transformers alone borrow everything else from the
environment that runs this file; the others install everything anew, without constraints, which may take gigabytes.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

from hf_longformer.transformers_internals import NEWEST, OLDEST

ROOT = Path(__file__).resolve().parents[1]
BORROWED = {
    "oldest-transformers": [f"transformers=={OLDEST}"],
    "before-cache": ["transformers==5.23.0"],  # the last that calls a cache `past_key_values`
    "newest-transformers": [f"transformers=={NEWEST}"],
}
WHOLE = {
    "oldest": [f"transformers=={OLDEST}", "torch==2.8.0"],
    "newest": [],
}
CORE = (
    *("test_auto_classes", "test_attention_blocked", "test_causal", "test_configuration", "test_convert"),
    *("test_modeling", "test_modeling_inputs", "test_modeling_padding", "test_modeling_parity", "test_package"),
    *("test_predict", "test_run_classification", "test_run_mlm", "test_tokenization", "test_training"),
)


def make(name: str) -> Path:
    """Makes an environment, and returns its interpreter."""
    place = ROOT / ".cache" / "matrix" / name
    python, done = place / "bin" / "python", place / "complete"
    wanted = "\n".join(BORROWED.get(name) or WHOLE[name])
    package = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()  # which may have other parts now
    made = done.read_text(encoding="utf-8") if done.exists() else ""
    if made == f"{wanted}\n{package}":
        return python
    if not made.startswith(f"{wanted}\n"):
        shutil.rmtree(place, ignore_errors=True)
        venv.create(place, with_pip=True)
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if name in BORROWED:
        packages = place / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
        borrowed = sysconfig.get_path("purelib")
        (packages / "borrowed.pth").write_text(f"import site; site.addsitedir({borrowed!r})\n", encoding="utf-8")
        subprocess.run([*pip, *BORROWED[name]], check=True, stderr=subprocess.DEVNULL)  # pip says that ours wants pins
    else:
        subprocess.run([*pip, "--editable", f"{ROOT}[train,demo,test]", *WHOLE[name]], check=True)
    done.write_text(f"{wanted}\n{package}", encoding="utf-8")
    return python


def main(names: list[str]) -> int:
    """Runs the core everywhere, and returns 1 if it failed anywhere."""
    known = [*BORROWED, *WHOLE]
    if unknown := [name for name in names if name not in known]:
        sys.stderr.write(f"an environment must be one of {', '.join(known)}, got {unknown[0]}\n")
        return 2
    failed = []
    for name in names or known:
        python = make(name)
        versions = "import transformers, torch; print(transformers.__version__, torch.__version__)"
        found = subprocess.run([python, "-c", versions], capture_output=True, text=True, check=True).stdout.split()
        sys.stdout.write(f"== {name}: Python {sys.version.split()[0]}, Transformers {found[0]}, torch {found[1]}\n")
        sys.stdout.flush()
        files = [f"tests/{file}.py" for file in CORE]
        jobs = str(os.cpu_count() or 1)
        command = [str(python), "-m", "pytest", "-q", "-n", jobs, "-p", "no:cacheprovider", *files]
        if subprocess.run(command, cwd=ROOT, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}).returncode:
            failed.append(name)
    sys.stdout.write(f"failed: {', '.join(failed) or 'none'}\n")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
