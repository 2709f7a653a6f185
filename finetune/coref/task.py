# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Coreference in documents of any length: arguments, and what `flow` does with them."""

from dataclasses import dataclass, field
from typing import Any

from datasets import Dataset

from hf_longformer import HfLongformerForCoreference

from .. import flow
from ..data import ROW, Table, TableArguments, add_splits, find_leaks, read_tables
from ..windows import CUT, check_stride
from ..words import for_words
from .documents import CLUSTERS, NAME, TOKENS, checked, read_documents
from .scores import COUNTS, coreference_scores
from .windows import (
    DOCUMENT,
    FIRST,
    OUTPUTS,
    CoreferenceCollator,
    choose_threshold,
    cut_documents,
    gold_of,
    join_windows,
    packed,
)

MEASURES = ("conll_f1", *(f"{name}_{part}" for name in COUNTS for part in ("precision", "recall", "f1")))


@dataclass
class CoreferenceArguments(TableArguments):
    """What is read, and how mentions are looked for."""

    stride: int | None = field(
        default=None,
        metadata={
            "help": "Tokens that neighbouring windows of a document beyond the limit share; 128, or a quarter of a "
            "small window, if left out."
        },
    )
    mention_width: int = field(default=30, metadata={"help": "Words of the longest mention."})
    mention_share: float = field(default=0.4, metadata={"help": "Spans that are compared, per word of the document."})
    farthest_antecedent: int | None = field(
        default=None, metadata={"help": "How many of the spans before one it is compared with; all if left out."}
    )
    scorer_size: int = field(default=512, metadata={"help": "Width of the scorers."})
    singletons: bool | None = field(
        default=None,
        metadata={"help": "Are mentions found that nothing else speaks of? By default if training has such."},
    )


class Coreference(flow.Task):
    """Documents to clusters of mentions."""

    name = "coref"
    arguments = CoreferenceArguments
    model_class = HfLongformerForCoreference
    best = "conll_f1"
    measures = tuple(f"{name}{protocol}" for protocol in ("", "_without_singletons") for name in MEASURES)
    smooths = False
    unit = "nats per mention"
    new = ("mention_scorer", "antecedent_scorer")
    counted = "documents"
    link_threshold = 0.0
    chosen = ("link_threshold",)

    def read(self) -> dict[str, Table]:
        """The documents, with words and clusters in one form."""
        data, trains = self.data, self.training.do_train
        tables = read_tables(data, self.model_arguments.local_files_only, trains, read_documents)
        tables = {split: checked(table) for split, table in tables.items()}
        return add_splits(tables, data, evaluate=self.training.eval_strategy != "no")

    def config(self) -> dict[str, Any]:
        """How mentions are looked for."""
        data = self.data
        singletons = data.singletons
        if singletons is None:
            singletons = any(
                len(cluster) == 1 for clusters in self.tables["train"].rows[CLUSTERS] for cluster in clusters
            )
        settings = {"size": data.scorer_size, "width": data.mention_width, "share": data.mention_share}
        return {"coreference": {**settings, "farthest": data.farthest_antecedent, "singletons": singletons}}

    def prepare(self) -> None:
        """Words are tokenised as within a text."""
        self.tokenizer = for_words(self.tokenizer)

    def windows_of(self, split: str, table: Table) -> Dataset:
        """Every document in windows."""
        stride = check_stride(self.data.stride, self.length)
        windows = cut_documents(table.rows[TOKENS][:], self.tokenizer, length=self.length, stride=stride)
        clusters = table.rows[CLUSTERS][:]
        rows = [{**one, **gold_of(one, clusters[one[DOCUMENT]]), "length": len(one["input_ids"])} for one in windows]
        width = self.model.config.coreference_settings["width"]
        too_long = sum(last - first >= width for one in clusters for cluster in one for first, last in cluster)
        tokens = sum({one[DOCUMENT]: one[CUT] for one in windows}.values())
        counts = {f"mentions_of_more_than_{width}_words": too_long, "tokens_of_words_beyond_a_window": tokens}
        if any(counts.values()):
            self.cut[split] = {name: number for name, number in counts.items() if number}
        return Dataset.from_list(rows).sort("length", reverse=True)

    def trainer_options(self) -> dict[str, Any]:
        """Scores of whole documents."""
        return {
            "data_collator": CoreferenceCollator(self.tokenizer),
            "compute_metrics": lambda found: self.scores_and_lines("validation", found)[0],
        }

    def scores_and_lines(self, split: str, found: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """The scores, and the clusters of every document. Validation documents decide above which logit two mentions
        speak of the same.
        """
        windows, rows = self.windows[split], self.tables[split].rows
        outputs = list(packed(found.predictions[: len(OUTPUTS)]))
        places = list(zip(windows[DOCUMENT][:], windows[FIRST][:], strict=True))
        singletons = self.model.config.coreference_settings["singletons"]
        if split == "validation":
            self.link_threshold = choose_threshold(places, outputs, singletons, rows[CLUSTERS][:])
        clusters = join_windows(places, outputs, singletons, self.link_threshold)
        lines = [
            {ROW: row[ROW], NAME: row[NAME], CLUSTERS: clusters.get(index, []), "gold": row[CLUSTERS]}
            for index, row in enumerate(rows)
        ]
        return coreference_scores([line[CLUSTERS] for line in lines], [line["gold"] for line in lines]), lines

    def measure(self, trainer: Any, results: dict[str, Any]) -> None:
        """Adds the threshold, too."""
        super().measure(trainer, results)
        results["link_threshold"] = self.link_threshold

    def more_results(self) -> dict[str, Any]:
        """How windows overlap, how mentions are looked for, and texts that stand in several splits."""
        return {
            "stride": check_stride(self.data.stride, self.length),
            "coreference": self.model.config.coreference_settings,
            "global_attention": self.model.config.global_attention,
            "leaks": find_leaks(self.tables, [TOKENS]),
        }

    def defaults(self) -> dict[str, Any]:
        """For `hf-longformer predict coref`."""
        stride = check_stride(self.data.stride, self.length)
        return {"max_seq_length": self.length, "stride": stride, "link_threshold": self.link_threshold}
