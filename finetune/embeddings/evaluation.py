# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""How well queries find their documents among all that are measured with."""

from typing import Any

from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator

from hf_longformer.conversion import InputError

from .pairs import DOCUMENT, QUERY, Texts

BEST = "ndcg@10"
MEASURES = (BEST, "recall@1", "recall@10", "mrr@10")


class RetrievalEvaluator(InformationRetrievalEvaluator):
    """sentence-transformers' evaluator of rankings, with the names of its measures alone: `ndcg@10`, `recall@1`,
    `recall@10` and `mrr@10`, means over the queries.

    Args:
        queries: Texts by name.
        documents: Texts by name.
        relevant: For every query the names of its documents.
        batch_size: Texts at once.

    Raises:
        InputError: If a query has no document, or one that is not there: theirs leaves the first out, and counts the
            second as not found.
    """

    def __init__(
        self, queries: dict[str, str], documents: dict[str, str], relevant: dict[str, set[str]], batch_size: int = 4
    ) -> None:
        for name in queries:
            if not relevant.get(name):
                raise InputError(f"every query that is measured must have a document, got none of query {name}")
            if missing := sorted(relevant[name] - documents.keys()):
                raise InputError(f"documents of queries must be among those that are searched, got {missing[0]}")
        texts: tuple[Any, Any] = (queries, documents)
        super().__init__(
            *texts,
            relevant,
            batch_size=batch_size,
            accuracy_at_k=[1],
            precision_recall_at_k=[1, 10],
            map_at_k=[10],
            write_csv=False,
        )
        self.primary_metric = BEST

    def __call__(self, model: Any, output_path: str | None = None, *args: Any, **kwargs: Any) -> dict[str, float]:
        """The measures, of the similarity that the model is saved with."""
        found = super().__call__(model, None, *args, **kwargs)
        self.primary_metric = BEST
        return {name: float(found[f"{model.similarity_fn_name}_{name}"]) for name in MEASURES}


def evaluator_of(texts: Texts, batch_size: int) -> RetrievalEvaluator:
    """An evaluator of pairs: every query once, and every document and negative once among those that are searched.

    Args:
        texts: The pairs.
        batch_size: Texts at once.
    """
    number: dict[str, str] = {}
    for text in [row[name] for row in texts.rows for name in texts.columns if name != QUERY] + texts.only_searched:
        number.setdefault(text, f"{len(number)}")
    asked: dict[str, str] = {}
    relevant: dict[str, set[str]] = {}
    for row in texts.rows:
        query = asked.setdefault(row[QUERY], f"{len(asked)}")
        relevant.setdefault(query, set()).add(number[row[DOCUMENT]])
    documents = {name: text for text, name in number.items()}
    return RetrievalEvaluator({name: text for text, name in asked.items()}, documents, relevant, batch_size)
