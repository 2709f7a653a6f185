# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""The clusters of documents: texts of any length in, mentions with their characters out."""

from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from hf_longformer import HfLongformerForCoreference

from ..word_prediction import PLACE, TEXT, WordsPredictor
from .windows import DOCUMENT, FIRST, OUTPUTS, CoreferenceCollator, cut_documents, join_windows, packed


class CoreferencePredictor(WordsPredictor):
    """Clusters of mentions in documents.

    A result has `clusters`, in the order of their first mentions, each a list of mentions with `text`, `start` and
    `end`: the first character in the document and the one behind the last; where words were given, with
    `start_word` and `end_word`, too.
    """

    task = "coref"
    model_class = HfLongformerForCoreference
    defaults = {"max_seq_length": None, "stride": None, "link_threshold": 0.0}

    def __init__(self, model: Any, tokenizer: Any, **options: Any) -> None:
        super().__init__(model, tokenizer, **options)
        self.collate = CoreferenceCollator(self.tokenizer)

    def windows(self, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Every document in windows of whole words."""
        options = {"length": self.options["max_seq_length"], "stride": self.options["stride"]}
        return cut_documents([row["words"] for row in rows], self.tokenizer, **options)

    def forward(self, windows: list[dict[str, Any]]) -> Iterable[Any]:
        """What the model says of the likeliest mentions of every window."""
        batch = self.collate(windows)
        outputs = self.model(**{name: tensor.to(self.model.device) for name, tensor in batch.items()})
        return packed([outputs[name].float().cpu().numpy() for name in OUTPUTS])

    def results(
        self, rows: list[dict[str, Any]], windows: list[dict[str, Any]], outputs: list[Any]
    ) -> list[dict[str, Any]]:
        """The clusters of every document."""
        places = [(one[DOCUMENT], one[FIRST]) for one in windows]
        singletons = self.model.config.coreference_settings["singletons"]
        found = join_windows(places, outputs, singletons, self.options["link_threshold"])
        results = []
        for number, row in enumerate(rows):
            words, clusters = row["places"], []
            for cluster in found.get(number, []):
                mentions = []
                for first, last in cluster:
                    start, end = words[first][0], words[last][1]
                    mention = {"text": row[TEXT][start:end], "start": start, "end": end}
                    mentions.append(mention | self.word_places(row, first, last + 1))
                clusters.append(mentions)
            results.append({"clusters": clusters})
        return results

    def fields(self) -> dict[str, pa.DataType]:
        """The list of clusters; `start_word` and `end_word` are null where words were not given."""
        return {"clusters": pa.list_(pa.list_(pa.struct({"text": pa.string(), **PLACE})))}
