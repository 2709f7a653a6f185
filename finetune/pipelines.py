# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`transformers.pipeline` for documents of any length: importing this file registers the tasks that can be asked, such
as `pipeline("long-question-answering", model=FOLDER)` and `pipeline("long-text-classification", model=FOLDER)`.
"""

from dataclasses import dataclass, field
from typing import Any

from transformers import Pipeline, PreTrainedConfig
from transformers.pipelines import PIPELINE_REGISTRY

from hf_longformer.conversion import InputError

from .prediction import Predictor, load_trained
from .tasks import ASKED, Prediction, module_of


@dataclass
class Refused:
    """Stands for a model that cannot answer, and says why.

    Args:
        error: What is wrong with it.
    """

    error: InputError
    config: Any = field(default_factory=PreTrainedConfig)  # which `pipeline` looks at before it asks the model


class LongDocumentPipeline(Pipeline):
    """A `Predictor` behind the interface of pipelines: one row, or a list or a generator of rows, in.

    A row is a text, a list of paragraphs, or a dictionary with the entries that the task needs; the entries of one row
    or of several can be given as keywords too, as `question=…, context=…`. Options of the predictor, such as `stride`,
    are given to `pipeline(…)` or to a call.

    Raises:
        InputError: If the checkpoint cannot answer, or an option is unknown.
    """

    predictor_class: type[Predictor]
    entries: tuple[str, ...]
    aliases: dict[str, str] = {}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        model = kwargs.get("model", args[0] if args else None)
        if isinstance(model, Refused):
            raise model.error
        _check_batch(kwargs)
        super().__init__(*args, **kwargs)
        self._predictors: dict[tuple, Predictor] = {}
        self.predictor = self._predictor(self._forward_params)

    def __call__(self, inputs: Any = None, *args: Any, **kwargs: Any) -> Any:
        """One result per row.

        Args:
            inputs: As above.
            *args: None are taken.
            **kwargs: The entries of rows instead of `inputs`, and options of the predictor for this call.

        Raises:
            InputError: If something is given twice, too much or not at all, or a row cannot be read.
        """
        if args:
            raise InputError(f"a pipeline takes rows and keywords, got {len(args)} more arguments without a name")
        _check_batch(kwargs)
        entries = {name: kwargs.pop(name) for name in self.entries if name in kwargs}
        if (inputs is None) == (not entries):
            raise InputError(
                f"rows, or {' and '.join(self.entries)}, must be given, got {'both' if entries else 'none'}"
            )
        if entries:
            inputs = _as_rows(entries)
        if isinstance(inputs, (list, tuple)) and not inputs:
            return []
        return super().__call__(inputs, **kwargs)

    def _sanitize_parameters(self, **options: Any) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        for alias, name in self.aliases.items():
            if alias in options:
                if name in options:
                    raise InputError(f"{alias} is another name of {name}: give one of them, got both")
                options[name] = options.pop(alias)
        known = (*self.predictor_class.defaults, "tokens_per_batch")
        unknown = sorted(set(options) - set(known))
        if unknown:
            names = ", ".join((*self.aliases, *known))
            raise InputError(f"options must be of {names}, got {', '.join(unknown)}")
        return {}, options, {}

    def _predictor(self, options: dict[str, Any]) -> Predictor:
        key = tuple(sorted(options.items()))
        if key not in self._predictors:
            self._predictors[key] = self.predictor_class(self.model, self.tokenizer, **options)
        return self._predictors[key]

    def preprocess(self, row: Any) -> dict[str, Any]:
        """A row as the predictor takes it.

        Raises:
            InputError: If an entry is missing or empty.
        """
        given = row if isinstance(row, dict) else {self.predictor.columns[0]: row}
        complaint = self.predictor.complaint(given)
        if complaint is not None:
            raise InputError(f"a row cannot be read: {complaint}")
        return {"row": given}

    def _forward(self, inputs: dict[str, Any], **options: Any) -> dict[str, Any]:
        return {"result": self._predictor(options)([inputs["row"]])[0]}

    def postprocess(self, outputs: dict[str, Any]) -> dict[str, Any]:
        """What the predictor says."""
        return outputs["result"]


def _check_batch(given: dict[str, Any]) -> None:
    if given.get("batch_size") not in (None, 1):
        raise InputError(
            f"windows are batched by their tokens, with tokens_per_batch, got batch_size={given['batch_size']}"
        )


def _as_rows(entries: dict[str, Any]) -> Any:
    """One row of entries, or as many as the first of them has where it is a list; what is no list goes into all."""
    first, *others = entries
    if not isinstance(entries[first], (list, tuple)) or not others:
        return dict(entries)
    number = len(entries[first])
    columns = [value if isinstance(value, (list, tuple)) else [value] * number for value in entries.values()]
    if any(len(column) != number for column in columns):
        raise InputError(f"lists must be of one length, got {' and '.join(str(len(column)) for column in columns)}")
    return [dict(zip(entries, values, strict=True)) for values in zip(*columns, strict=True)]


def _loader(predictor_class: type[Predictor]) -> type:
    """What `pipeline` loads a model with. After an error Transformers would try the class that config.json names, with
    a head at random, and show tracebacks: why a checkpoint cannot answer is kept for the pipeline to say.
    """

    class Loader:
        @staticmethod
        def from_pretrained(checkpoint: str, **options: Any) -> Any:
            """The model, or why there is none."""
            try:
                return load_trained(predictor_class, checkpoint, tokenizer=False, **options)[0]
            except InputError as error:
                return Refused(error)

    return Loader


def _register(task: str, prediction: Prediction) -> None:
    predictor = module_of(task).PREDICTOR
    members = {"predictor_class": predictor, "entries": tuple(prediction.columns), "aliases": prediction.aliases}
    name = "".join(map(str.capitalize, prediction.pipeline.split("-")))
    PIPELINE_REGISTRY.register_pipeline(
        prediction.pipeline,
        pipeline_class=type(f"{name}Pipeline", (LongDocumentPipeline,), members),
        pt_model=_loader(predictor),
        type="text",
    )


for _task, _prediction in ASKED.items():
    _register(_task, _prediction)
