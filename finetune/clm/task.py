# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""The autoregressive model, trained in phases as in section 4 of the paper: windows and lengths grow, rates fall."""

import copy
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from transformers import AutoTokenizer, PreTrainedTokenizerBase, default_data_collator, set_seed

from hf_longformer import HfLongformerConfig, HfLongformerForCausalLM, byte_tokenizer
from hf_longformer.conversion.errors import InputError, one_line

from ..argument_checks import check_limits, check_schedule, check_smoothing
from ..arguments import LongTrainingArguments, check_name, parse_arguments
from ..checkpoints import check_type
from ..command_line import find_recipe
from ..division import check_division
from ..flow import data_names, whole_run
from ..identity import Run, identity
from ..results import HYPERPARAMETERS, hyperparameters, save_results
from ..training import LongTrainer, checkpoint_activations, train
from .memory import check_memory, fields_of_retrieval, load_model, open_for, remember
from .texts import Chunks, Text, bits_per_character, read_texts, split_benchmark

BYTES = "bytes"
OF_MODEL = ("attention_window", "attention_dilation")
OF_TRAINING = (
    *("max_steps", "num_train_epochs", "learning_rate", "warmup_steps", "lr_scheduler_type"),
    *("per_device_train_batch_size", "gradient_accumulation_steps", "save_steps", "logging_steps"),
)
NUMBERS = ("num_train_epochs", "learning_rate", "warmup_steps", "save_steps", "logging_steps")
PHASE = ("max_seq_length", *OF_MODEL, *OF_TRAINING)


@dataclass
class CausalArguments:
    """What is trained on. The model and the phases stand in the recipe, as `model:` and `phases:`."""

    train_files: list[str] = field(default_factory=list, metadata={"help": "Text files."})
    validation_files: list[str] = field(
        default_factory=list, metadata={"help": "The same, measured after every phase."}
    )
    test_files: list[str] = field(default_factory=list, metadata={"help": "The same, measured once, at the end."})
    benchmark: str | None = field(
        default=None, metadata={"help": "text8.zip or enwik8.zip, instead of files: split 90/5/5, as everybody does."}
    )
    model_name_or_path: str | None = field(
        default=None, metadata={"help": "A causal checkpoint to go on with, instead of a new model."}
    )
    tokenizer: str = field(default=BYTES, metadata={"help": "bytes, or a checkpoint with a tokenizer."})
    max_seq_length: int = field(default=2048, metadata={"help": "Tokens at once, if there are no phases."})
    eval_length: int | None = field(
        default=None, metadata={"help": "Tokens of a window when measuring: those of the last phase, if left out."}
    )
    eval_stride: int = field(
        default=512, metadata={"help": "Tokens from one such window to the next: so many are scored in each."}
    )
    eval_characters: int | None = field(
        default=None, metadata={"help": "So many tokens of the beginning of a text are measured; all if left out."}
    )
    retrieval_index: str | None = field(
        default=None, metadata={"help": "What `hf-longformer index build` wrote: the model reads what is found there."}
    )


@dataclass
class CausalTraining:
    """A training in phases, or a measurement without training.

    Args:
        data, training: The arguments.
        fields: Of the new model's configuration.
        phases: With a length each.
        retrieval: What the recipe says of the model's `config.retrieval`.
    """

    arguments: ClassVar[type] = CausalArguments
    data: CausalArguments
    training: LongTrainingArguments
    fields: dict[str, Any]
    phases: list[dict[str, Any]]
    retrieval: Any = field(default_factory=dict)
    run: Run | None = None

    @classmethod
    def main(cls, arguments: Sequence[str] | None = None) -> dict[str, Any]:
        """Runs the script, and returns what `results.json` holds; as `flow.Task.main`, but for the recipe's phases.

        Args:
            arguments: What the command line has after the program's name.

        Raises:
            InputError: If something given cannot be used, or `output_dir` holds another run.
            TrainingError: If training cannot be finished, or its result not be uploaded.
        """
        data, training, recipe = parse_arguments(
            (CausalArguments, LongTrainingArguments), arguments, structures=("model", "phases", "retrieval")
        )
        phases = _check_phases(recipe.get("phases", [{"max_seq_length": data.max_seq_length}]), arguments)
        name, model = data.model_name_or_path, recipe.get("model")
        if name is not None:
            if model:
                raise InputError("a recipe has model: or --model_name_or_path, got both")
            check_type(name, HfLongformerForCausalLM)
        check_smoothing("clm", False, training)
        check_division("clm", False, training)
        memory = {"retrieval": recipe["retrieval"]} if "retrieval" in recipe else {}
        this_run = identity((data, training), name, task="clm", model=model, phases=phases, **memory)
        return whole_run(cls(data, training, recipe.get("model", {}), phases, **memory), this_run)

    @property
    def folder(self) -> Path:
        """Where everything is written."""
        return Path(str(self.training.output_dir))

    def go(self) -> dict[str, Any]:
        """Trains phase by phase, and measures."""
        training = self.training
        training.choose_best_by("loss", evaluated=False)  # phases are measured at their ends
        set_seed(training.seed)
        return _measure_only(self) if not training.do_train else _train(self)


def _train(task: CausalTraining) -> dict[str, Any]:
    data, training, phases, folder = task.data, task.training, task.phases, task.folder
    tokenizer, texts = _read(data)
    index = open_for(data.retrieval_index, tokenizer)
    model = _make_model(data, task.fields, tokenizer, fields_of_retrieval(index, task.retrieval))
    check_memory(index, model.config, is_trained=True)
    for number, phase in enumerate(phases, 1):  # before anything is trained
        _set_windows(copy.deepcopy(model.config), phase, number)
        _of_phase(training, phase, number)
        Chunks(texts["train"], phase["max_seq_length"], index and index.chunk_size)
    said = remember(index, texts, model.config, data.eval_characters)
    if task.run is not None:
        task.run.claim()
    done: list[dict[str, Any]] = []
    for number, phase in enumerate(phases, 1):
        place = folder / f"phase-{number}"
        if (place / "results.json").exists():  # of a run that was killed in a later phase
            done.append(json.loads((place / "results.json").read_text(encoding="utf-8")))
            if number == len(phases) or not (folder / f"phase-{number + 1}" / "results.json").exists():
                base, model = model.config.name_or_path, HfLongformerForCausalLM.from_pretrained(place)
                model.config.name_or_path = base
            continue
        done.append(_train_phase(model, tokenizer, phase, place, data, training, texts))
    own = hyperparameters(training, [name for name in OF_TRAINING if any(name in phase for phase in phases)])
    results: dict[str, Any] = {
        "task": "clm",
        "tokens_at_once": phases[-1]["max_seq_length"],
        "data": data_names(data),
        "rows": {split: len(text.ids) for split, text in texts.items()},
        "phases": [
            {"phase": _in_order({**own, **phase}), **{name: found[name] for name in ("scores", "training")}}
            for phase, found in zip(phases, done, strict=True)
        ],
        "hyperparameters": hyperparameters(training, [name for name in HYPERPARAMETERS if name not in own]),
        "scores": {"validation": done[-1]["scores"]["validation"]} if "validation" in texts else {},
        "training": {name: sum(one["training"][name] for one in done) for name in ("seconds", "steps")},
        **said,
    }
    trainer = LongTrainer(model, training, processing_class=tokenizer)
    if "test" in texts:
        results["scores"]["test"] = _measure(trainer, texts["test"], phases[-1], data, training)
    trainer.check_numbers(weights=True)
    trainer.save_model()
    return save_results(folder, results, trainer, "nats per token")


def _measure_only(task: CausalTraining) -> dict[str, Any]:
    data, training = task.data, task.training
    if data.model_name_or_path is None:
        raise InputError("--do_train False measures a checkpoint: give --model_name_or_path, got none")
    tokenizer, texts = _read(data, needs_train=False)
    index = open_for(data.retrieval_index, tokenizer)
    model = _make_model(data, task.fields, tokenizer, fields_of_retrieval(index, task.retrieval))
    check_memory(index, model.config, is_trained=False)
    said = remember(index, texts, model.config, data.eval_characters)
    trainer = LongTrainer(model, training, processing_class=tokenizer)
    length = data.eval_length or data.max_seq_length
    results: dict[str, Any] = {
        "task": "clm",
        "tokens_at_once": length,
        "rows": {split: len(text.ids) for split, text in texts.items()},
        "scores": {
            split: _measure(trainer, text, {"max_seq_length": length}, data, training) for split, text in texts.items()
        },
        **said,
    }
    if task.run is not None:
        task.run.claim()
    return save_results(task.folder, results, trainer, "nats per token")


def _train_phase(
    model: HfLongformerForCausalLM,
    tokenizer: PreTrainedTokenizerBase,
    phase: dict[str, Any],
    place: Path,
    data: CausalArguments,
    training: LongTrainingArguments,
    texts: dict[str, Text],
) -> dict[str, Any]:
    """One phase in a folder of its own, where its checkpoints are."""
    number = int(place.name.removeprefix("phase-"))
    here = _of_phase(training, phase, number)
    here.output_dir, here.train_sampling_strategy = str(place), "random"
    checkpoint_activations(here, phase["max_seq_length"])
    _set_windows(model.config, phase, number)
    trainer = LongTrainer(
        model,
        here,
        data_collator=default_data_collator,
        train_dataset=Chunks(texts["train"], phase["max_seq_length"]),
        processing_class=tokenizer,
    )
    results: dict[str, Any] = {"task": "clm", "tokens_at_once": phase["max_seq_length"], "scores": {}}
    results["training"] = train(trainer, here)
    if "validation" in texts:
        results["scores"]["validation"] = _measure(trainer, texts["validation"], phase, data, training)
    results["cut"] = {"train": {"tokens": len(texts["train"].ids) % phase["max_seq_length"]}}
    trainer.save_model()
    return save_results(place, results, trainer, "nats per token")


def _of_phase(training: LongTrainingArguments, phase: dict[str, Any], number: int) -> LongTrainingArguments:
    """The arguments of a phase: its own, and for the rest those of all.

    Raises:
        InputError: If one of them cannot be used.
    """
    here = copy.deepcopy(training)
    try:
        for name in (name for name in OF_TRAINING if name in phase):
            # YAML takes 3e-5 for a text
            setattr(here, name, float(phase[name]) if isinstance(phase[name], str) and name in NUMBERS else phase[name])
        check_limits(here)
        check_schedule(here)
    except (ValueError, TypeError) as error:
        raise InputError(f"phase {number} of the recipe cannot be had: {one_line(error)}") from error
    return here


def _set_windows(config: HfLongformerConfig, phase: dict[str, Any], number: int) -> None:
    try:
        for name in OF_MODEL:
            if name in phase:
                setattr(config, name, phase[name])
        config.validate_architecture()
    except (ValueError, TypeError) as error:
        raise InputError(f"phase {number} of the recipe cannot be had: {one_line(error)}") from error


def _measure(
    trainer: LongTrainer, text: Text, phase: dict[str, Any], data: CausalArguments, training: LongTrainingArguments
) -> dict[str, float]:
    if data.eval_characters is not None and data.eval_characters < len(text.ids):
        share = data.eval_characters / len(text.ids)
        text = Text(text.ids[: data.eval_characters], round(text.characters * share), neighbours=text.neighbours)
    length = data.eval_length or phase["max_seq_length"]
    stride = min(data.eval_stride, length // 2)
    with trainer.compute_loss_context_manager():
        return bits_per_character(trainer.model, text, length, stride, training.per_device_eval_batch_size)


def _in_order(phase: dict[str, Any]) -> dict[str, Any]:
    return {name: phase[name] for name in PHASE if name in phase}


def _check_phases(phases: Any, arguments: Sequence[str] | None) -> list[dict[str, Any]]:
    """Phases, each with a length.

    Raises:
        InputError: If one is not a mapping, lacks its length, or has a name that there is not.
    """
    if not isinstance(phases, list) or not phases or not all(isinstance(phase, dict) for phase in phases):
        raise InputError(f"phases must be a list with a mapping for every phase, got {str(phases)[:80]}")
    for number, phase in enumerate(phases, 1):
        for name in phase:
            if name not in PHASE:
                file = find_recipe((sys.argv[1:] if arguments is None else arguments)[0])
                check_name(str(name), PHASE, file, file.read_text(encoding="utf-8"))
        if not isinstance(phase.get("max_seq_length"), int) or phase["max_seq_length"] < 2:
            raise InputError(
                f"phase {number} must have a max_seq_length of at least 2 tokens, got {phase.get('max_seq_length')}"
            )
    return phases


def _read(data: CausalArguments, needs_train: bool = True) -> tuple[PreTrainedTokenizerBase, dict[str, Text]]:
    is_bytes = data.tokenizer == BYTES
    try:
        tokenizer = byte_tokenizer() if is_bytes else AutoTokenizer.from_pretrained(data.tokenizer)
    except (OSError, ValueError) as error:
        raise InputError(
            f"--tokenizer must be bytes or have a tokenizer, got {data.tokenizer}: {one_line(error)}"
        ) from error
    if data.benchmark is not None:
        if not is_bytes or data.train_files:
            raise InputError(
                "--benchmark is read as bytes and instead of --train_files, got another tokenizer or files"
            )
        parts = split_benchmark(Path(data.benchmark))
        return tokenizer, {split: text for split, text in parts.items() if needs_train or split != "train"}
    if needs_train and not data.train_files:
        raise InputError("something to train on is needed: give --train_files or --benchmark, got neither")
    files = {"validation": data.validation_files, "test": data.test_files}
    if needs_train:
        files = {"train": data.train_files, **files}
    elif not any(files.values()):
        raise InputError("something to measure on is needed: give --validation_files or --test_files, got neither")
    return tokenizer, {split: read_texts(names, tokenizer, is_bytes) for split, names in files.items() if names}


def _make_model(
    data: CausalArguments,
    fields: dict[str, Any],
    tokenizer: PreTrainedTokenizerBase,
    retrieval: dict[str, Any] | None,
) -> HfLongformerForCausalLM:
    if data.model_name_or_path is not None:
        model = load_model(data.model_name_or_path, retrieval)
        if len(tokenizer) > model.config.vocab_size:
            raise InputError(
                f"the tokenizer must not know more tokens than the model's {model.config.vocab_size:,}, got "
                f"{len(tokenizer):,}"
            )
        return model
    ids = {name: getattr(tokenizer, name) for name in ("pad_token_id", "bos_token_id", "eos_token_id", "sep_token_id")}
    if retrieval is not None:
        fields = {**fields, "retrieval": {**(fields.get("retrieval") or {}), **retrieval}}
    try:
        config = HfLongformerConfig(
            **{"vocab_size": len(tokenizer), "type_vocab_size": 1, **ids, **fields}, is_decoder=True
        )
    except (ValueError, TypeError, NotImplementedError) as error:
        raise InputError(f"model: of the recipe cannot be had: {one_line(error)}") from error
    return HfLongformerForCausalLM(config)
