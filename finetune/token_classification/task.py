# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Tags of words, such as names of people and places, in documents of any length."""

from dataclasses import dataclass, field
from typing import Any

from transformers import DataCollatorForTokenClassification

from hf_longformer import HfLongformerForTokenClassification
from hf_longformer.conversion import InputError

from .. import flow
from ..data import Table, TableArguments, add_splits, find_leaks, read_tables
from ..results import scalars
from ..windows import check_stride
from ..words import for_words
from .documents import read_tagged
from .words import (
    TOKENS,
    LayersCollator,
    join_windows,
    make_windows,
    measure,
    read_words,
    say_what_is_scored,
    tag_names,
)


@dataclass
class TokenClassificationArguments(TableArguments):
    """What is tagged, and how."""

    tokens_column: str = field(default="tokens", metadata={"help": "The column with the document, a list of words."})
    tags_column: list[str] = field(
        default_factory=lambda: ["tags"],
        metadata={
            "help": "The column with a tag for every word: in BIO, BIOES, BILOU or BMES, or kinds alone. Several "
            "where entities stand in one another: each is a layer."
        },
    )
    stride: int | None = field(
        default=None,
        metadata={
            "help": "Tokens that neighbouring windows of a document beyond the limit share; 128, or a quarter of a "
            "small window, if left out."
        },
    )

    def __post_init__(self) -> None:
        if isinstance(self.tags_column, str):  # in a recipe
            self.tags_column = [self.tags_column]


class TokenClassification(flow.Task):
    """Words of documents to tags."""

    name = "token-classification"
    arguments = TokenClassificationArguments
    model_class = HfLongformerForTokenClassification
    divides = True
    best = "f1"
    measures = ("precision", "recall", "f1", "accuracy")
    unit = "nats per tag"
    new = ("classifier",)
    names: list[str]

    def read(self) -> dict[str, Table]:
        """The tables, with words and tags in one form."""
        data, trains = self.data, self.training.do_train
        columns = data.tags_column
        tables = read_tables(data, self.model_arguments.local_files_only, trains, read_tagged)
        config = None if trains else self.model.config
        if config is not None and config.tag_layers != len(columns):
            raise InputError(f"--tags_column must name {config.tag_layers} for this model, got {', '.join(columns)}")
        self.names = (
            tag_names(tables["train"], columns)
            if config is None
            else [config.id2label[index] for index in range(config.num_labels)]
        )
        say_what_is_scored(self.names)
        words = {split: read_words(table, data.tokens_column, columns, self.names) for split, table in tables.items()}
        self.skipped = {split: len(table.rows) - len(words[split].rows) for split, table in tables.items()}
        return add_splits(words, data, evaluate=self.training.eval_strategy != "no")

    def config(self) -> dict[str, Any]:
        """The tags."""
        label2id = {name: number for number, name in enumerate(self.names)}
        layers = len(self.data.tags_column)
        return {"id2label": dict(enumerate(self.names)), "label2id": label2id, "tag_layers": layers}

    def prepare(self) -> None:
        """Words are tokenised as within a text."""
        self.tokenizer = for_words(self.tokenizer)

    def windows_of(self, split: str, table: Table) -> Any:
        """Every document in windows."""
        options: dict[str, Any] = {"length": self.length, "stride": check_stride(self.data.stride, self.length)}
        workers = self.data.preprocessing_num_workers
        return make_windows(table, self.names, self.tokenizer, workers=workers, **options)

    def trainer_options(self) -> dict[str, Any]:
        """Scores of whole documents."""
        layers, tokenizer = self.model.config.tag_layers, self.tokenizer
        several = layers > 1
        return {
            "data_collator": LayersCollator(tokenizer, layers)
            if several
            else DataCollatorForTokenClassification(tokenizer),
            "compute_metrics": lambda found: scalars(self.scores_and_lines("validation", found)[0]),
            "preprocess_logits_for_metrics": lambda logits, _: logits.argmax(dim=-1),
        }

    def scores_and_lines(self, split: str, found: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Scores of entities, and the words of every document."""
        joined = join_windows(self.windows[split], found.predictions, found.label_ids, self.names)
        return measure(joined, self.tables[split], self.names)

    def defaults(self) -> dict[str, Any]:
        """Windows as in training."""
        return {"max_seq_length": self.length, "stride": check_stride(self.data.stride, self.length)}

    def more_results(self) -> dict[str, Any]:
        """The tags, how windows overlap, and texts that stand in several splits."""
        return {
            "labels": self.names,
            "tag_layers": self.model.config.tag_layers,
            "stride": check_stride(self.data.stride, self.length),
            "global_attention": self.model.config.global_attention,
            "leaks": find_leaks(self.tables, [TOKENS]),
        }
