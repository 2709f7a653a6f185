# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Summaries of long documents: arguments, and what `flow` does with them."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from transformers.utils import logging

from hf_longformer import DataCollatorWithGlobalAttention, HfLongformerForConditionalGeneration
from hf_longformer.conversion import InputError
from hf_longformer.conversion.source import encoder_config

from .. import flow
from ..data import ROW, Table, TableArguments, add_splits, find_leaks, read_tables, text_of
from ..results import scalars
from .data import SummarizationCollator, make_rows, parts_of
from .generation import generation_of, said_of, whole
from .scores import ROUGE, copied, lengths, rouge, scorers
from .trainer import SummarizationTrainer

logger = logging.get_logger(__name__)
LEAST_TARGET = 3  # tokens
# Counts among the scores, and what is said of those summaries.
SAID = {
    "at_limit": "as long as --max_new_tokens lets them be, and may lack their end",
    "unicode_words": "scored by words of Unicode, since rouge-score's own have letters from a to z alone",
}


@dataclass
class SummarizationArguments(TableArguments):
    """What is summarised, and how summaries are written."""

    text_column: str = field(default="text", metadata={"help": "The column with the document."})
    summary_column: str = field(default="summary", metadata={"help": "The column with its summary."})
    prefix: str = field(default="", metadata={"help": "What stands in front of every document."})
    max_target_length: int | None = field(
        default=None, metadata={"help": "Tokens of a summary, special ones included; the decoder's limit if left out."}
    )
    predict_with_generate: bool = field(
        default=True,
        metadata={
            "help": "Write summaries whenever validation data is measured. False: only at the end, and the best model "
            "is that of the smallest loss."
        },
    )
    num_beams: int | None = field(default=None, metadata={"help": "Beams of the search: the checkpoint's own."})
    max_new_tokens: int | None = field(
        default=None, metadata={"help": "The longest summary that is written: as the longest that is trained on."}
    )
    min_new_tokens: int | None = field(default=None, metadata={"help": "The shortest: the checkpoint's own."})
    no_repeat_ngram_size: int | None = field(
        default=None, metadata={"help": "No n-gram of this size is written twice: the checkpoint's own."}
    )
    length_penalty: float | None = field(
        default=None, metadata={"help": "Beyond 0, longer summaries are preferred: the checkpoint's own."}
    )


class Summarization(flow.Task):
    """Documents to summaries."""

    name = "summarization"
    arguments = SummarizationArguments
    model_class = HfLongformerForConditionalGeneration
    unit = "nats per token"
    trainer_class = SummarizationTrainer
    target_length: int
    generation: Any

    @property
    def best(self) -> str:
        """What the best model is chosen by."""
        return "rouge2" if self.data.predict_with_generate else "loss"

    @property
    def measures(self) -> tuple[str, ...]:
        """What it could be chosen by, beside the loss."""
        return ROUGE if self.data.predict_with_generate else ()

    def read(self) -> dict[str, Table]:
        """The tables, without rows of which a text is empty."""
        if self.training.fsdp:
            raise InputError(
                "--fsdp cannot be had for summarization, since encoder, decoder and output share their embeddings: "
                f"leave it out, got {self.training.fsdp}"
            )
        scorers()  # before anything is trained: the package may be missing
        data, trains = self.data, self.training.do_train
        tables = read_tables(data, self.model_arguments.local_files_only, trains)
        tables = {split: self._usable(split, table) for split, table in tables.items()}
        return add_splits(tables, data, evaluate=self.training.eval_strategy != "no")

    def _usable(self, split: str, table: Table) -> Table:
        names = (self.data.text_column, self.data.summary_column)
        table.check_columns([], texts=names)
        usable = table.without(lambda row: not all(text_of(row[name]).strip() for name in names), "no text or summary")
        if not len(usable.rows):
            raise InputError(f"{table.name} must have rows with something in {' and '.join(names)}, got none")
        self.skipped[split] = len(table.rows) - len(usable.rows)
        return usable

    def prepare(self) -> None:
        """Checks tokenizer and lengths, and settles how summaries are written."""
        self.target_length = self._target_length()
        if encoder_config(self.model.config).global_attention == "question":
            raise InputError("--global_attention must be auto, cls or none for summarization, got question")
        empty = self.tokenizer("", return_special_tokens_mask=True)
        _, _, behind = parts_of(empty["input_ids"], empty["special_tokens_mask"])
        ends = self.model.generation_config.eos_token_id
        if behind[-1:] != [ends] and not (isinstance(ends, list) and behind and behind[-1] in ends):
            raise InputError(
                f"the tokenizer must end texts with the token that ends a generation, {ends}, got {behind}: a model "
                "trained so would not learn to stop"
            )
        self._settle(self.target_length)

    def _settle(self, longest: int) -> None:
        """How summaries are written; in a training, if nothing is said, with as many tokens as the longest has."""
        given = dict(vars(self.data))
        if self.training.do_train and given["max_new_tokens"] is None:
            given["max_new_tokens"] = longest
        self.generation = generation_of(self.model, given)

    def _target_length(self) -> int:
        asked, limit = self.data.max_target_length, self.model.config.decoder.max_position_embeddings
        if asked is not None and not LEAST_TARGET <= asked <= limit:
            raise InputError(
                f"--max_target_length must lie between {LEAST_TARGET} and the decoder's {limit} tokens, got {asked}"
            )
        return asked or limit

    def windows_of(self, split: str, table: Table) -> Any:
        """Documents and summaries, each cut at its limit."""
        data = self.data
        lengths_ = {"length": self.length, "target_length": self.target_length, "prefix": data.prefix}
        columns = (data.text_column, data.summary_column)
        rows, cut = make_rows(table, self.tokenizer, columns, **lengths_, workers=data.preprocessing_num_workers)
        if cut:
            self.cut[split] = cut
        return rows

    def trainer_options(self) -> dict[str, Any]:
        """Batches, how summaries are written, and scores."""
        if self.training.do_train:
            self._settle(max(map(len, self.windows["train"]["labels"])))
            self.model.generation_config = self.generation
        collator = SummarizationCollator(self.tokenizer, self.model.prepare_decoder_input_ids_from_labels)
        return {
            "data_collator": DataCollatorWithGlobalAttention(self.tokenizer, None, collator),
            "compute_metrics": lambda found: scalars(self.scores_and_lines("validation", found)[0]),
            "generation": self.generation,
            "generates": self.data.predict_with_generate,
        }

    def measure(self, trainer: Any, results: dict[str, Any]) -> None:
        """Adds the scores, of written summaries whatever was measured before."""
        trainer.generates = True
        super().measure(trainer, results)

    def score(self, split: str, found: Any) -> dict[str, Any]:
        """The scores; says how many summaries may lack their end, and how many were scored by words of Unicode."""
        scores, number = super().score(split, found), len(self.windows[split])
        for name, what in SAID.items():
            if scores[name]:
                logger.warning(f"{scores[name]:,} of {number:,} summaries of {split} are {what}")
        return scores

    def scores_and_lines(self, split: str, found: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """The loss, of all tokens alike, and, of written summaries, their scores and themselves beside the gold."""
        losses, tokens, *written = found.predictions
        scores: dict[str, Any] = {"loss": float(np.sum(losses, dtype=np.float64) / np.sum(tokens))}
        if not written:
            return scores, []
        data, table = self.data, self.tables[split].rows
        place = {number: index for index, number in enumerate(table[ROW])}
        numbers = self.windows[split][ROW][:]
        rows = [table[place[number]] for number in numbers]
        documents, gold = ([text_of(row[name]) for row in rows] for name in (data.text_column, data.summary_column))
        ids = [whole(row, self.generation) for row in written[0]]
        summaries = [self.tokenizer.decode(one, skip_special_tokens=True).strip() for one in ids]
        scores |= rouge(summaries, gold)
        encoded = self.tokenizer(text_target=gold, verbose=False)["input_ids"]
        scores |= lengths(list(map(len, ids)), list(map(len, encoded)), self.generation.max_new_tokens)
        scores |= copied(summaries, documents)
        lines = [
            {ROW: number, "summary": summary, "gold": reference}
            for number, summary, reference in sorted(zip(numbers, summaries, gold, strict=True))
        ]
        return scores, lines

    def more_results(self) -> dict[str, Any]:
        """How summaries are written, their limit, and documents that stand in several splits."""
        return {
            "prefix": self.data.prefix,
            "max_target_length": self.target_length,
            "generation": said_of(self.generation),
            "global_attention": encoder_config(self.model.config).global_attention,
            "leaks": find_leaks(self.tables, [self.data.text_column]),
        }

    def defaults(self) -> dict[str, Any]:
        """For `hf-longformer predict summarization`; how summaries are written stands in generation_config.json."""
        return {"max_seq_length": self.length, "prefix": self.data.prefix}
