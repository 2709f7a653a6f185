# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Arguments of the training scripts: Transformers' own with defaults for long documents, on the command line or in a
recipe.
"""

import dataclasses
import math
import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments
from transformers.trainer_utils import IntervalStrategy, SaveStrategy

from hf_longformer.conversion.errors import InputError, one_line
from hf_longformer.transformers_internals import CHECKPOINTING

from .argument_checks import check_limits, check_metric, check_schedule, check_training_arguments
from .command_line import HELP, HELP_ALL, Parser, did_you_mean, find_recipe, help_text
from .json_rows import load_object

LOWER_IS_BETTER = ("loss", "mse", "mae", "_per_token", "perplexity")


@dataclass
class ModelArguments:
    """Which model is trained."""

    model_name_or_path: str = field(metadata={"help": "A checkpoint of this package: a folder or a Hub name."})
    attention_window: int | None = field(
        default=None, metadata={"help": "Total width of the window in tokens, if not the checkpoint's own."}
    )
    hidden_dropout_prob: float | None = field(default=None, metadata={"help": "If not the checkpoint's own."})
    attention_probs_dropout_prob: float | None = field(default=None, metadata={"help": "If not the checkpoint's own."})
    global_attention: str | None = field(
        default=None,
        metadata={"help": "auto, cls, question or none: which tokens are global, if not as in config.json."},
    )
    global_projections: str | None = field(
        default=None, metadata={"help": "shared: global tokens take the local projections, their own are left out."}
    )
    revision: str | None = field(default=None, metadata={"help": "Branch, tag or commit of a Hub repository."})
    local_files_only: bool = field(default=False, metadata={"help": "Stay off the network."})

    @property
    def changed(self) -> dict[str, Any]:
        """Fields of the checkpoint's configuration that were given."""
        names = ["attention_window", "hidden_dropout_prob", "attention_probs_dropout_prob"]
        names += ["global_attention", "global_projections"]
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


@dataclass
class LongTrainingArguments(TrainingArguments):
    """Transformers' `TrainingArguments`, with defaults for long documents."""

    learning_rate: float = field(default=3e-5, metadata={"help": "The largest learning rate."})
    warmup_steps: float = field(default=0.1, metadata={"help": "Steps of warm-up; below 1, a share of all steps."})
    weight_decay: float = field(default=0.01, metadata={"help": "Of AdamW."})
    per_device_train_batch_size: int = field(default=4, metadata={"help": "Texts at once and per device."})
    per_device_eval_batch_size: int = field(default=4, metadata={"help": "Texts at once and per device."})
    train_sampling_strategy: str = field(
        default="group_by_length", metadata={"help": "Texts of about the same length go into a batch together."}
    )
    checkpoint_above: int = field(
        default=2048,
        metadata={"help": "Texts of more tokens than this are trained with activation checkpointing, to save memory."},
    )
    tokens_per_batch: int | None = field(
        default=None,
        metadata={
            "help": "Batches of about this many tokens per device, padding included, of texts of about the same "
            "length, instead of a fixed number of texts."
        },
    )
    pad_to_lengths: str | None = field(
        default=None,
        metadata={
            "help": "Pad batches to the smallest of these lengths that holds them (512,1024,2048,4096): with "
            "--torch_compile a program is made for each, not for every length there is."
        },
    )
    context_parallel_size: int = field(
        default=1,
        metadata={"help": "So many processes share every text, each with a slice of it: for texts too long for one."},
    )
    early_stopping_patience: int | None = field(
        default=None, metadata={"help": "Stop after this many evaluations that were not better than the best."}
    )
    load_best_model_at_end: bool | None = field(  # type: ignore[assignment]
        default=None, metadata={"help": "Keep the best model, not the last: by default where both are measured."}
    )
    bf16: bool | None = field(  # type: ignore[assignment]
        default=None, metadata={"help": "Compute in bfloat16: by default where the device multiplies it natively."}
    )
    report_to: str = field(default="tensorboard", metadata={"help": "Where curves are logged."})
    logging_steps: float = field(default=10, metadata={"help": "Steps between two log entries."})
    eval_strategy: str = field(default="epoch", metadata={"help": "When to evaluate: no, steps, epoch."})
    save_strategy: str = field(default="epoch", metadata={"help": "When to save: no, steps, epoch, best."})
    save_total_limit: int | None = field(default=2, metadata={"help": "Checkpoints kept."})
    seed: int = field(default=0, metadata={"help": "Of weights, order and masks."})
    do_train: bool = field(
        default=True, metadata={"help": "False: only measure a trained checkpoint on validation and test data."}
    )
    do_eval: bool = field(default=True, metadata={"help": "False: measure nothing on validation data."})
    do_predict: bool = field(default=True, metadata={"help": "False: measure nothing on test data."})
    overwrite_output_dir: bool = field(
        default=False, metadata={"help": "Remove another run that is in --output_dir, instead of refusing."}
    )
    recipe_file = ""  # no argument: where the others stand, if they were not given on the command line
    if CHECKPOINTING == "gradient_checkpointing":  # of older releases, whose default says no
        gradient_checkpointing: bool | None = field(
            default=None, metadata={"help": "Compute activations again, to save memory: by the length if left out."}
        )

    def __post_init__(self) -> None:
        self.use_cpu = self.use_cpu or not torch.accelerator.is_available()  # or bf16 would be refused
        if self.bf16 is None:
            self.bf16 = not self.fp16 and bf16_is_native(self.use_cpu)
        check_limits(self)
        check_training_arguments(self)
        if self.fsdp and int(os.environ.get("WORLD_SIZE", "1")) < 2:
            raise InputError("--fsdp shards a model over several processes: start it with torchrun, got one process")
        if self.fsdp and self.fsdp_config is None:
            # Without the embeddings, which the model names for other uses: accelerate would shard their words twice.
            self.fsdp_config = {"transformer_layer_cls_to_wrap": ["HfLongformerLayer"]}
        if not self.do_eval:
            self.eval_strategy = "no"
        wants_eval = self.do_eval
        if self.push_to_hub and self.hub_strategy not in ("every_save", "end"):
            raise InputError(
                f"a run is uploaded once, whole, at its end: leave --hub_strategy out, got {self.hub_strategy}"
            )
        keep_best, self.load_best_model_at_end = self.load_best_model_at_end, False
        if self.metric_for_best_model is not None:
            self._choose_direction()
        super().__post_init__()
        self.load_best_model_at_end, self.do_eval = keep_best, wants_eval
        check_schedule(self)

    def choose_best_by(self, metric: str, evaluated: bool, known: Iterable[str] | None = None) -> None:
        """Settles what the best model is, once it is known whether there is anything to evaluate on.

        Args:
            metric: The task's own, if no other was asked for; greater is better, unless it is a loss or an error.
            evaluated: Whether there is.
            known: What else is measured, beside the loss; None: nobody can say.

        Raises:
            InputError: If early stopping or the best model was asked for and cannot be had.
        """
        if self.metric_for_best_model is not None and known is not None:
            check_metric(self.metric_for_best_model, [metric, *known])
        if not evaluated:
            self.eval_strategy = IntervalStrategy.NO
        matched = self.eval_strategy != IntervalStrategy.NO and self.save_strategy in (self.eval_strategy, "best")
        if self.save_strategy == self.eval_strategy == IntervalStrategy.STEPS:
            times = self.save_steps / (self.eval_steps or self.logging_steps)  # both may be shares of all steps
            matched = round(times) > 0 and math.isclose(times, round(times))
        if self.load_best_model_at_end is None:
            self.load_best_model_at_end = matched
        needed = self.load_best_model_at_end or self.early_stopping_patience is not None
        if needed and not matched:
            raise InputError(
                "the best model, and early stopping, need something to validate on and an evaluation before every save "
                "(--eval_strategy, --eval_steps, --save_strategy, --save_steps), got "
                f"{SaveStrategy(self.eval_strategy).value} and {SaveStrategy(self.save_strategy).value}"
                f"{'' if evaluated else ' and nothing to validate on'}"
            )
        self.metric_for_best_model = self.metric_for_best_model or metric
        self._choose_direction()

    def _choose_direction(self) -> None:
        if self.greater_is_better is None:  # of which Transformers knows only that of losses
            self.greater_is_better = not str(self.metric_for_best_model).endswith(LOWER_IS_BETTER)


def bf16_is_native(use_cpu: bool = False) -> bool:
    """Whether the device that will be used multiplies bfloat16 in hardware, matrices included."""
    if torch.cuda.is_available() and not use_cpu:
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_amx_tile_supported()


def parse_arguments(
    types: Sequence[Any], arguments: Sequence[str] | None = None, structures: Sequence[str] = ()
) -> tuple[Any, ...]:
    """Reads arguments from the command line, from a recipe, or from a recipe and then the command line.

    Args:
        types: Dataclasses of arguments.
        arguments: What the command line has after the program's name; `sys.argv` if left out. If the first is no
            option it is a recipe, a file or the name of one that comes with the package; what follows overrides it.
        structures: Entries that only a recipe can have, such as lists of phases.

    Returns:
        One object for every type, and, if there are `structures`, a dictionary of those that the recipe has.

    Raises:
        InputError: If the recipe cannot be read, or it or the command line has what no type knows.
        SystemExit: After help was asked for and printed.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if {*HELP, HELP_ALL} & set(given):
        sys.stdout.write(help_text(types, HELP_ALL in given))
        sys.exit(0)
    parser = Parser(types)
    kept: dict[str, Any] = {}
    file: Path | None = None
    if given and not given[0].startswith("-"):
        known = {field.name for one in types for field in dataclasses.fields(one)} | {*structures}
        file = find_recipe(given.pop(0))
        recipe = read_recipe(file, known)
        kept = {name: recipe.pop(name) for name in structures if name in recipe}
        parser.set_defaults(**recipe)
        for action in parser._actions:
            action.required = action.required and action.dest not in recipe
    parsed = parser.read(given)
    for one in parsed:
        check_limits(one)
        if isinstance(one, LongTrainingArguments) and file is not None:
            one.recipe_file = str(file)
    return (*parsed, kept) if structures else parsed


def read_recipe(file: Path, known: set[str]) -> dict[str, Any]:
    """The arguments in a YAML or JSON file.

    Args:
        file: The recipe.
        known: Names that it may have.

    Raises:
        InputError: If it cannot be read, or has another name in it; the line is named.
    """
    import yaml

    try:
        text = file.read_text(encoding="utf-8")
        recipe = load_object(text) if file.suffix == ".json" else _loader()(text).get_single_data()
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"the recipe {file} cannot be read: {one_line(error)}") from error
    if not isinstance(recipe, dict):
        raise InputError(f"the recipe {file} must hold one argument per line, got {type(recipe).__name__}")
    for name in recipe:
        check_name(str(name), known, file, text)
    return recipe


def _loader() -> Any:
    """PyYAML's safe loader, which alone would keep the last of two entries of one name."""
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            names = [key.value for key, _ in node.value]
            if twice := [name for name in names if names.count(name) > 1]:
                line = node.start_mark.line + 1
                raise ValueError(f"{twice[0]} stands twice in the mapping that begins in line {line}")
            return super().construct_mapping(node, deep)

    return Loader


def check_name(name: str, known: Iterable[str], file: Path, text: str) -> None:
    """Refuses a name in a recipe.

    Args:
        name: The name.
        known: Those that there are.
        file: The recipe.
        text: What it says.

    Raises:
        InputError: If there is no such name; the line is named.
    """
    if name in known:
        return
    line = next((n for n, words in enumerate(text.splitlines(), 1) if name in words), 0)
    hint = did_you_mean(name, known)
    raise InputError(f"line {line} of {file} names an argument that there is not, got {name}{hint}")
