# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""The clusters of documents: texts of any length in, mentions with their characters out."""

from collections.abc import Iterable
from typing import Any

import numpy as np

from hf_longformer import HfLongformerForCoreference

from ..prediction import Predictor
from ..words import words_of
from .windows import FIRST, OUTPUTS, TEXT, CoreferenceCollator, cut_documents, join_windows


class CoreferencePredictor(Predictor):
    """Clusters of mentions in documents.

    A result has `clusters`, in the order of their first mentions, each a list of mentions with `text`, `start` and
    `end`: the first character in the document and the one behind the last.
    """

    task = "coref"
    model_class = HfLongformerForCoreference
    columns = ("text",)
    defaults = {"max_seq_length": None, "stride": None}

    def windows(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Every document in windows of whole words."""
        texts = [words_of(row["text"])[0] for row in rows]
        options = {"length": self.options["max_seq_length"], "stride": self.options["stride"]}
        return cut_documents(texts, self.tokenizer, **options)

    def forward(self, windows: list[dict[str, Any]]) -> Iterable[Any]:
        """What the model says of the likeliest mentions of every window."""
        batch = CoreferenceCollator(self.tokenizer)(windows)
        outputs = self.model(**{name: tensor.to(self.model.device) for name, tensor in batch.items()})
        columns = [outputs[name].float().cpu().numpy() for name in OUTPUTS]
        matrices = [one if one.ndim > 2 else one[..., None] for one in columns]
        return list(np.concatenate(matrices, axis=2))

    def results(
        self, rows: list[dict[str, Any]], windows: list[dict[str, Any]], outputs: list[Any]
    ) -> list[dict[str, Any]]:
        """The clusters of every document."""
        places = [(one[TEXT], one[FIRST]) for one in windows]
        parts = [
            {"spans": one[:, :2].astype(int), "mention_logits": one[:, 2], "antecedents": one[:, 3].astype(int)}
            for one in outputs
        ]
        found = join_windows(places, parts, self.model.config.coreference_settings["singletons"])
        results = []
        for number, row in enumerate(rows):
            (_, words), clusters = words_of(row["text"]), []
            for cluster in found.get(number, []):
                spans = [(words[first][0], words[last][1]) for first, last in cluster]
                clusters.append([{"text": row["text"][start:end], "start": start, "end": end} for start, end in spans])
            results.append({"clusters": clusters})
        return results
