# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Tags of words, such as names of people and places, in documents of any length.

python finetune/run_token_classification.py RECIPE.yaml [--argument value …]
python finetune/run_token_classification.py --model_name_or_path CHECKPOINT --train_file news.jsonl --output_dir RUN
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import DataCollatorForTokenClassification, set_seed

from hf_longformer import HfLongformerForTokenClassification
from hf_longformer.finetune.arguments import LongTrainingArguments, ModelArguments, parse_arguments
from hf_longformer.finetune.data import TableArguments, add_splits, find_leaks, read_tables
from hf_longformer.finetune.tokens import (
    TOKENS,
    join_windows,
    make_windows,
    measure,
    read_words,
    tag_names,
    with_prefix_space,
)
from hf_longformer.finetune.training import (
    LongTrainer,
    checkpoint_activations,
    load,
    save_results,
    scalars,
    train,
    write_lines,
)
from hf_longformer.finetune.windows import check_length, check_stride


@dataclass
class TokenClassificationArguments(TableArguments):
    """What is tagged, and how."""

    tokens_column: str = field(default="tokens", metadata={"help": "The column with the document, a list of words."})
    tags_column: str = field(
        default="tags", metadata={"help": "The column with a tag for every word: B-, I- and O, or kinds alone."}
    )
    stride: int | None = field(
        default=None,
        metadata={
            "help": "Tokens that neighbouring windows of a document beyond the limit share; 128, or a quarter of a "
            "small window, if left out."
        },
    )


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Trains, and returns what `results.json` holds."""
    model_arguments, data, training = parse_arguments(
        (ModelArguments, TokenClassificationArguments, LongTrainingArguments), arguments
    )
    tables = read_tables(data, model_arguments.local_files_only)
    names = tag_names(tables["train"], data.tags_column)
    numbers = {split: len(table.rows) for split, table in tables.items()}
    tables = {split: read_words(table, data.tokens_column, data.tags_column, names) for split, table in tables.items()}
    skipped = {split: number - len(tables[split].rows) for split, number in numbers.items()}
    tables = add_splits(tables, data, evaluate=training.eval_strategy != "no")
    set_seed(training.seed)
    labels = {"id2label": dict(enumerate(names)), "label2id": {name: number for number, name in enumerate(names)}}
    model, tokenizer = load(HfLongformerForTokenClassification, model_arguments, **labels)
    tokenizer = with_prefix_space(tokenizer)
    length = check_length(data.max_seq_length, model.config.max_length_tokens)
    stride = check_stride(data.stride, length)
    checkpoint_activations(training, length)
    training.choose_best_by("f1", "validation" in tables)
    options: dict[str, Any] = {"length": length, "stride": stride, "workers": data.preprocessing_num_workers}
    windows = {split: make_windows(table, names, tokenizer, **options) for split, table in tables.items()}

    def measure_split(split: str, found: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        return measure(join_windows(windows[split], found.predictions, found.label_ids, names), tables[split])

    trainer = LongTrainer(
        model,
        training,
        data_collator=DataCollatorForTokenClassification(tokenizer),
        train_dataset=windows["train"],
        eval_dataset=windows.get("validation"),
        processing_class=tokenizer,
        compute_metrics=lambda found: scalars(measure_split("validation", found)[0]),
        preprocess_logits_for_metrics=lambda logits, _: logits.argmax(dim=-1),
    )
    results: dict[str, Any] = {
        "task": "token-classification",
        "labels": names,
        "tokens_at_once": length,
        "stride": stride,
        "global_attention": model.config.global_attention,
        "rows": {split: len(table.rows) for split, table in tables.items()},
        "windows": {split: len(rows) for split, rows in windows.items()},
        "skipped": {split: number for split, number in skipped.items() if number},
        "leaks": find_leaks(tables, [TOKENS]),
        "training": train(trainer, training),
        "scores": {},
    }
    trainer.compute_metrics, folder = None, Path(str(training.output_dir))
    for split in ("validation", "test"):
        if split in tables:
            results["scores"][split], lines = measure_split(split, trainer.predict(windows[split]))
            if trainer.is_world_process_zero():
                write_lines(folder / f"{split}-predictions.jsonl", lines)
    trainer.save_model()
    save_results(folder, results, trainer, "nats per word")
    return results


if __name__ == "__main__":
    main()
