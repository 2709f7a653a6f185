# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`examples/spark/predict.py` on a Spark of this machine."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import test_predict
from pyarrow import dataset
from test_predict import make_rows, write

from hf_longformer.finetune.long_documents import LongDocumentPredictor

EXAMPLE = Path(__file__).parents[1] / "examples" / "spark" / "predict.py"
models = test_predict.models


@pytest.mark.slow
def test_labels_are_those_of_this_process(models: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyspark", reason="pyspark is not installed")
    if shutil.which("java") is None:
        pytest.skip("Spark needs Java")
    rows = make_rows("classification", 6)
    file, output = write(tmp_path / "in.jsonl", [*rows[:3], "{", *rows[3:]]), tmp_path / "out"
    checkpoint = str(models / "classification")
    environment = {**os.environ, "PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"}
    subprocess.run([sys.executable, EXAMPLE, checkpoint, file, output], env=environment, check=True, timeout=300)
    found = {row["id"]: row for row in dataset.dataset(output).to_table().to_pylist()}
    expected = LongDocumentPredictor("classification", checkpoint)({"text": [row["text"] for row in rows]})
    assert found.pop(None)["error"] == "text must not be empty"  # what Spark's reader makes of the torn line
    assert [found[row["id"]]["label"] for row in rows] == expected["label"]
    for row, scores in zip(rows, expected["scores"], strict=True):
        assert dict(found[row["id"]]["scores"]) == pytest.approx(scores, abs=1e-5)
        assert found[row["id"]]["error"] is None
