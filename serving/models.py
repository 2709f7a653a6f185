# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""The model that is served: which task it is for, and what of it each thread has for itself."""

import copy
import threading
from collections.abc import Callable
from typing import Any

from transformers import PreTrainedConfig

from hf_longformer.conversion import InputError
from hf_longformer.conversion.source import refusing
from hf_longformer.finetune.embeddings import Embedder
from hf_longformer.finetune.prediction import TOKENS_PER_BATCH
from hf_longformer.finetune.prediction_defaults import read_defaults
from hf_longformer.finetune.tasks import ASKED, EMBEDDINGS, module_of

# Heads, by what stands behind `For` in the name of a class, and their tasks. Others' encoders give embeddings.
HEADS = {
    "QuestionAnswering": "qa",
    "EvidenceQuestionAnswering": "hotpotqa",
    "SequenceClassification": "classification",
    "TokenClassification": "token-classification",
    "Coreference": "coref",
    "ConditionalGeneration": "summarization",
}
TASKS = (EMBEDDINGS, *ASKED)


def load(
    checkpoint: str,
    *,
    task: str | None = None,
    options: dict[str, str] | None = None,
    tokens_per_batch: int = TOKENS_PER_BATCH,
    **where: Any,
) -> Any:
    """What answers: an `Embedder`, or the `Predictor` that `hf-longformer predict` would load.

    Args:
        checkpoint: A folder or a Hub name.
        task: One of `TASKS`; None: what the checkpoint was trained for.
        options: For the predictor, by the names that `hf-longformer predict` has, as text.
        tokens_per_batch: Tokens at once.
        **where: `backend`, `device`, `dtype`, `local_files_only`, `max_seq_length`, `stride`; what is None is left out.

    Raises:
        InputError: If the checkpoint cannot be loaded, is for another task, or an option cannot be used.
    """
    local_files_only = bool(where.get("local_files_only"))
    task = task or task_of(checkpoint, local_files_only)
    if task not in TASKS:
        raise InputError(f"a task must be one of {', '.join(TASKS)}, got {task}")
    given = {name: value for name, value in where.items() if value is not None}
    if task == EMBEDDINGS:
        if unknown := [*(options or {}), *(["stride"] if "stride" in given else [])]:
            raise InputError(f"embeddings have no such options, got {', '.join(unknown)}")
        return Embedder.load(checkpoint, **given)
    chosen = _typed(task, options or {})
    return module_of(task).PREDICTOR.load(checkpoint, tokens_per_batch=tokens_per_batch, **given, **chosen)


def task_of(checkpoint: str, local_files_only: bool) -> str:
    """What a checkpoint was trained for; embeddings, where that is nothing that can be asked.

    Raises:
        InputError: If it cannot be read, or is a causal model.
    """
    with refusing(f"the checkpoint {checkpoint} cannot be loaded"):
        config, _ = PreTrainedConfig.get_config_dict(checkpoint, local_files_only=local_files_only)
        named = read_defaults(checkpoint, local_files_only).get("task")
    if named in ASKED:
        return named
    head = str((config.get("architectures") or [""])[0]).partition("For")[2]
    if head == "CausalLM":
        raise InputError(f"{checkpoint} must be an encoder, got a causal model, which writes: it is not served")
    return HEADS.get(head, EMBEDDINGS)


def _typed(task: str, options: dict[str, str]) -> dict[str, Any]:
    taken = module_of(task).PREDICTOR.defaults  # not what files of questions need
    known = {name: option for name, option in ASKED[task].options.items() if name in taken}
    found = {}
    for name, text in options.items():
        if name not in known:
            raise InputError(f"an option of {task} must be one of {', '.join(known) or 'none'}, got {name}")
        try:
            found[name] = known[name].kind(text)
        except ValueError as error:
            raise InputError(f"{name} must be a {known[name].kind.__name__}, got {text!r}") from error
    return found


class Threads:
    """A predictor, of which every thread has what two cannot use at once: the tokenizer.

    Args:
        predictor: An `Embedder` or a `Predictor`.
        outputs: What it asks for more windows on the way (of summaries of summaries): computes them in batches with
            others' windows.
    """

    def __init__(self, predictor: Any, outputs: Callable[[list[Any]], list[Any]]) -> None:
        self._predictor, self._outputs = predictor, outputs
        self._mine, self._lock = threading.local(), threading.Lock()

    @property
    def mine(self) -> Any:
        """The one of this thread."""
        if not hasattr(self._mine, "predictor"):
            with self._lock:
                made = copy.copy(self._predictor)
                made.tokenizer = copy.deepcopy(self._predictor.tokenizer)
            made.outputs = self._outputs
            self._mine.predictor = made
        return self._mine.predictor
