# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""The table of tasks, from which commands, prediction, pipelines and cards are made. A task `a-b` is the module `a_b`
beside this file, with its `flow.Task` as `TASK` and, if it can be asked, its `prediction.Predictor` as `PREDICTOR`.

The command line reads this file alone, to list what there is without loading PyTorch: it imports nothing of ours.
"""

from importlib import import_module
from typing import Any, NamedTuple


class Option(NamedTuple):
    """An option of `hf-longformer predict TASK`, and of the task's predictor.

    Args:
        kind: `int`, `float` or `str`.
        help: What it means.
        least: The smallest value.
    """

    kind: type
    help: str
    least: int | None = None


class Prediction(NamedTuple):
    """How a trained checkpoint is asked.

    Args:
        help: What `hf-longformer predict TASK` does.
        columns: What the entries of a row mean, the document first.
        options: Beside those that all tasks have; what is not given is what the checkpoint was trained with.
        pipeline: The task's name in `transformers.pipeline`; empty if there is none.
        aliases: Other names of options there, as Transformers' own pipelines call them.
        hint: Said where documents were cut.
        as_they_stand: Whether entries are read as they stand in a file of HotpotQA, and not as texts.
    """

    help: str
    columns: dict[str, str]
    options: dict[str, Option]
    pipeline: str
    aliases: dict[str, str] = {}
    hint: str = ""
    as_they_stand: bool = False


class Entry(NamedTuple):
    """A task.

    Args:
        help: What `hf-longformer finetune TASK` does.
        purpose: What a card says that a model was trained for.
        use: How it is used: Markdown for a card, with PATH where the model's name stands.
        prediction: How it is asked for many documents; None if it cannot be.
    """

    help: str
    purpose: str
    use: str
    prediction: Prediction | None = None


_FILL = """```python
import hf_longformer
from transformers import pipeline

fill = pipeline("fill-mask", model="PATH")
```"""
_GENERATE = """```python
import hf_longformer
from transformers import pipeline

generate = pipeline("text-generation", model="PATH")
```"""


def _asked(command: str, pipeline: str, call: str) -> str:
    """How a task is used whose checkpoints can be asked: by a command, and by a pipeline."""
    verb = call.partition("(")[0]
    return f"""```bash
hf-longformer predict {command}
```

```python
from hf_longformer.finetune import pipelines
from transformers import pipeline

{verb} = pipeline("{pipeline}", model="PATH")
{call}
```"""


_ANSWER = _asked(
    "qa PATH questions.jsonl --output answers.jsonl",
    "long-question-answering",
    'answer({"question": "…", "context": "a document of any length"})',
)
_EVIDENCE = _asked(
    "hotpotqa PATH questions.json --output answers.jsonl",
    "long-hotpotqa",
    'answer({"question": "…", "context": [["a title", ["a sentence.", " Another one."]], ["another title", ["…"]]]})',
)
_CLASSIFY = _asked(
    "classification PATH documents.jsonl --output labels.jsonl",
    "long-text-classification",
    'classify("a document of any length")',
)
_LABEL = _asked(
    "token-classification PATH documents.jsonl --output entities.jsonl",
    "long-token-classification",
    'label("a document of any length")',
)
_FOLLOW = _asked(
    "coref PATH documents.jsonl --output clusters.jsonl", "long-coreference", 'follow("a document of any length")'
)
_SUMMARISE = _asked(
    "summarization PATH documents.jsonl --output summaries.jsonl",
    "long-summarization",
    'summarise("a document of any length")',
)
_CHOOSE = """```python
import hf_longformer

# A logit at the marker [ent] of every candidate: `hf_longformer.finetune.multiple_choice.chunks` makes the inputs.
model = hf_longformer.HfLongformerForTokenClassification.from_pretrained("PATH")
```"""

_EMBED = """```bash
hf-longformer predict embeddings PATH documents.jsonl --output embeddings.jsonl
```

```python
import hf_longformer
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("PATH")
scores = model.similarity(model.encode_query(["a question"]), model.encode_document(["a document of any length"]))
```"""
EMBEDDINGS = "embeddings"  # which also encoders and folders give that were trained elsewhere

TASKS = {
    "mlm": Entry("Continue pretraining on masked words.", "further on masked words", _FILL),
    "qa": Entry(
        "Train to answer questions about documents.",
        "to answer questions about documents",
        _ANSWER,
        Prediction(
            "Answer questions about documents of any length.",
            {"question": "What holds the question.", "context": "What holds the document."},
            {
                "n_best": Option(int, "Answers per question: 1.", 1),
                "null_threshold": Option(
                    float, "How much likelier no answer must be to be chosen: the checkpoint's own."
                ),
                "evidence_folder": Option(str, "With the documents of a file of TriviaQA."),
            },
            "long-question-answering",
            aliases={"top_k": "n_best"},
        ),
    ),
    "hotpotqa": Entry(
        "Train to answer questions about paragraphs, with the sentences that the answer follows from.",
        "to answer questions about paragraphs, and to name the sentences that the answer follows from",
        _EVIDENCE,
        Prediction(
            "Answer questions about paragraphs, with the sentences that the answer follows from.",
            {"question": "What holds the question.", "context": "What holds the paragraphs, in HotpotQA's form."},
            {},
            "long-hotpotqa",
            as_they_stand=True,
        ),
    ),
    "classification": Entry(
        "Train to classify documents, or to predict a number for each.",
        "to classify documents",
        _CLASSIFY,
        Prediction(
            "Classify documents of any length, or predict a number for each.",
            {"text": "What holds the document.", "text_pair": "What holds the second text, where one is needed."},
            {
                "overflow": Option(
                    str, "Longer documents: truncate, stride-mean or stride-max; the checkpoint's own, or stride-mean."
                )
            },
            "long-text-classification",
            hint="--overflow stride-mean or stride-max reads documents as a whole",
        ),
    ),
    "token-classification": Entry(
        "Train to label every word of documents.",
        "to label the words of documents",
        _LABEL,
        Prediction(
            "Find entities, such as names, in documents of any length.",
            {"text": "What holds the document,", "tokens": "or what holds it as a list of words."},
            {
                "aggregation_strategy": Option(
                    str, "How tokens become words and entities: none, simple, first, average or max; first."
                )
            },
            "long-token-classification",
        ),
    ),
    "coref": Entry(
        "Train to find who or what the words of documents speak of.",
        "to find who or what the words of documents speak of",
        _FOLLOW,
        Prediction(
            "Find the words of documents of any length that speak of the same.",
            {"text": "What holds the document."},
            {
                "link_threshold": Option(
                    float, "Logit above which two mentions speak of the same: the checkpoint's own."
                ),
            },
            "long-coreference",
        ),
    ),
    "summarization": Entry(
        "Train an encoder-decoder to summarise documents.",
        "to summarise documents",
        _SUMMARISE,
        Prediction(
            "Summarise documents of any length.",
            {"text": "What holds the document."},
            {
                "overflow": Option(
                    str, "Longer documents: truncate, or hierarchical, summaries of summaries of windows; truncate."
                ),
                "prefix": Option(str, "What stands in front of every document: the checkpoint's own."),
                "num_beams": Option(int, "Beams of the search: the checkpoint's own.", 1),
                "max_new_tokens": Option(int, "The longest summary: the checkpoint's own.", 1),
                "min_new_tokens": Option(int, "The shortest summary: the checkpoint's own.", 0),
                "no_repeat_ngram_size": Option(
                    int, "No n-gram of this size is written twice: the checkpoint's own.", 0
                ),
                "length_penalty": Option(float, "Beyond 0, longer summaries are preferred: the checkpoint's own."),
            },
            "long-summarization",
            hint="--overflow hierarchical reads documents as a whole",
        ),
    ),
    "multiple-choice": Entry(
        "Train to choose between candidates, with documents to read.", "to choose between candidates", _CHOOSE
    ),
    "clm": Entry("Train an autoregressive model, in phases.", "to predict the next token", _GENERATE),
    EMBEDDINGS: Entry(
        "Train a sentence encoder on queries and long documents, or on documents alone.",
        "to embed documents near what asks for them",
        _EMBED,
    ),
}


ASKED = {name: entry.prediction for name, entry in TASKS.items() if entry.prediction is not None}
ANSWERED = ASKED | {
    EMBEDDINGS: Prediction(
        "Embed documents: one vector for each, or for each of its passages.",
        {
            "text": "What holds the document.",
            "passages": "With --pooling chunks and no --chunk-size: what holds the passages, [[start, end], …], their "
            "first characters and those behind the last.",
        },
        {
            "overflow": Option(str, "Documents beyond the limit: error, or truncate; error."),
            "pooling": Option(
                str,
                "mean or cls, the first token, instead of the checkpoint's own; or chunks: a line for every passage of "
                "a document that is read as a whole.",
            ),
            "chunk_size": Option(int, "Tokens of a passage, with --pooling chunks.", 1),
        },
        pipeline="",
        hint="documents were cut: a model for longer ones reads them whole",
    )
}


def module_of(name: str) -> Any:
    """The module of a task, with `TASK` and, if it can be asked, `PREDICTOR`."""
    return import_module(f"hf_longformer.finetune.{name.replace('-', '_')}")
