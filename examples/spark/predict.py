# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Labels of documents on a Spark cluster: JSON lines with `id` and `text` in, Parquet out.

    spark-submit predict.py CHECKPOINT INPUT OUTPUT

Every executor needs `pip install 'hf-longformer[train]' pandas` and must find CHECKPOINT. The model is loaded once for
every partition: take few, large ones. A row that cannot be answered has an `error`; what Spark's own reader makes of a
line, such as a text of a number, and null of what is no JSON, is what is read.
"""

import sys
from collections.abc import Iterator

import pandas as pd
from pyspark.sql import SparkSession

from hf_longformer.finetune.long_documents import LongDocumentPredictor

SCHEMA = "id string, label string, scores map<string, double>, truncated boolean, tokens_cut long, error string"


def main(checkpoint: str, input: str, output: str) -> None:
    """Reads, predicts, writes."""
    documents = LongDocumentPredictor("classification", checkpoint, keep=["id"])

    def predict(frames: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for frame in frames:
            yield pd.DataFrame(documents(frame.to_dict("list")))

    spark = SparkSession.builder.getOrCreate()
    rows = spark.read.schema("id string, text string").json(input)
    rows.mapInPandas(predict, SCHEMA).write.parquet(output)
    spark.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
