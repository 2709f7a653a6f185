# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Continued pretraining of a converted checkpoint on masked words, as in section 5 of the paper.

python finetune/run_mlm.py RECIPE.yaml [--argument value …]
python finetune/run_mlm.py --model_name_or_path CHECKPOINT --train_files a.txt b.txt --output_dir RUN
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from transformers import set_seed

from hf_longformer import HfLongformerForMaskedLM
from hf_longformer.finetune.arguments import LongTrainingArguments, ModelArguments, parse_arguments
from hf_longformer.finetune.mlm import (
    MaskedLMTrainer,
    Masker,
    PieceCollator,
    bits,
    cut,
    load_documents,
    sync_projections,
    tokens_and_characters,
)
from hf_longformer.finetune.training import checkpoint_activations, load, save_results, train
from hf_longformer.finetune.windows import check_length


@dataclass
class DataArguments:
    """What is trained on, and how."""

    train_files: list[str] = field(metadata={"help": "Text files, or JSON lines with an entry text."})
    validation_files: list[str] = field(
        default_factory=list, metadata={"help": "The same, never trained on: measured before and after."}
    )
    documents: Literal["file", "paragraph", "line"] = field(
        default="file", metadata={"help": "What a document is in a text file."}
    )
    max_seq_length: int | None = field(
        default=None, metadata={"help": "Tokens at once; the model's limit if left out."}
    )
    cross_documents: bool = field(default=False, metadata={"help": "Let a piece hold parts of several documents."})
    streaming: bool = field(default=False, metadata={"help": "Read while training: for corpora larger than memory."})
    preprocessing_num_workers: int | None = field(default=None, metadata={"help": "Processes that tokenise."})
    mlm_probability: float = field(default=0.15, metadata={"help": "Share of tokens to predict."})
    train: Literal["all", "positions"] = field(
        default="all", metadata={"help": "What is trained: everything, or the position embeddings alone."}
    )
    global_every: int | None = field(
        default=None, metadata={"help": "Every k-th token is global; none is if left out, as in the paper."}
    )
    global_masks: int = field(
        default=0, metadata={"help": "So many masked tokens of every text are global: they look at the whole text."}
    )
    sync_global: bool = field(
        default=True, metadata={"help": "Copy the local projections onto the global ones when the model is saved."}
    )


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Trains, and returns what `results.json` holds."""
    model_arguments, data, training = parse_arguments((ModelArguments, DataArguments, LongTrainingArguments), arguments)
    set_seed(training.seed)
    model, tokenizer = load(HfLongformerForMaskedLM, model_arguments)
    length = check_length(data.max_seq_length, model.config.max_length_tokens)
    if data.train == "positions":
        _train_positions_only(model)
    checkpoint_activations(training, length)
    training.remove_unused_columns = False  # the collator needs what the model does not take
    options = {} if data.streaming else {"num_proc": data.preprocessing_num_workers}
    documents = load_documents(data.train_files, data.documents, data.streaming)
    pieces = cut(documents, tokenizer, length, data.cross_documents, **options)
    held_out = evaluated = None
    if data.validation_files:
        held_out = load_documents(data.validation_files, data.documents)
        evaluated = cut(held_out, tokenizer, length, data.cross_documents, num_proc=data.preprocessing_num_workers)
        # Not by `evaluate` before `train`: after that, Trainer would train every process's model for itself.
        training.eval_on_start = True
    training.choose_best_by("loss", held_out is not None)
    trainer = MaskedLMTrainer(
        model,
        training,
        data_collator=PieceCollator(tokenizer, data.global_every),
        train_dataset=pieces,
        eval_dataset=evaluated,
        processing_class=tokenizer,
        compute_metrics=bits,
        masker=Masker(tokenizer, data.mlm_probability, data.global_masks),
    )
    results: dict[str, Any] = {"task": "mlm", "train": data.train, "tokens_at_once": length}
    results["training"] = train(trainer, training)
    if held_out is not None:
        tokens, characters = tokens_and_characters(held_out, tokenizer)
        before = next(entry for entry in trainer.state.log_history if "eval_bits_per_token" in entry)
        for name, measured in (("before", before), ("after", trainer.evaluate())):
            per_character = measured["eval_bits_per_token"] * tokens / characters
            kept = {one: measured[f"eval_{one}"] for one in ("bits_per_token", "perplexity", "masked_tokens")}
            results[name] = {"bits_per_character": per_character, **kept, "characters": characters}
    if data.sync_global and data.global_every is None and not data.global_masks:
        sync_projections(model)
    trainer.save_model()
    save_results(Path(training.output_dir), results, trainer, "nats per masked token")
    return results


def _train_positions_only(model: HfLongformerForMaskedLM) -> None:
    for name, parameter in model.named_parameters():
        parameter.requires_grad = name.endswith("position_embeddings.weight")


if __name__ == "__main__":
    main()
