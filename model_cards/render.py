# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Renders the card of a converted checkpoint from its report."""

from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

TEMPLATE = Path(__file__).with_name("template.md")
LARGEST_CARD = 2**24  # bytes
PIPELINES = {
    "Model": "feature-extraction",
    "ForMaskedLM": "fill-mask",
    "ForSequenceClassification": "text-classification",
    "ForQuestionAnswering": "question-answering",
    "ForTokenClassification": "token-classification",
    "ForMultipleChoice": None,  # the Hub has no such task
}
POSITIONS = {
    "copy": "the source's {:,} rows, repeated",
    "interpolate": "the source's {:,} rows, stretched over all",
    "random": "random: a baseline, not a model to use",
}
GLOBAL_PROJECTIONS = {
    "copied": "copied from the local ones, not trained",
    "synced": "synced: copied from the local ones after training",
    "trained": "trained: other than the local ones",
}


def render_card(report: dict[str, Any], source_card: Path | None = None) -> ModelCard:
    """The model card of a conversion: every number in it comes from the report.

    Args:
        report: What `convert` returned.
        source_card: The README.md of the source, whose licence and language are taken over if it names them.
    """
    head = report["model_class"].removeprefix("HfLongformer")
    is_sentence_encoder = report["sentence_transformers"]
    data = ModelCardData(
        library_name="sentence-transformers" if is_sentence_encoder else "transformers",
        pipeline_tag="sentence-similarity" if is_sentence_encoder else PIPELINES[head],
        tags=["longformer", "hf-longformer", "long-documents"],
        base_model=report["source"] if report["from_hub"] else None,
        **_metadata(source_card),
    )
    checks = [{**check, "measured": _as_text(check["measured"])} for check in report["checks"]]
    facts = {
        **report,
        "checks": checks,
        "parameters": f"{report['parameters']:,}",
        "positions": POSITIONS[report["position_init"]].format(report["source_max_length"]),
        "global_state": GLOBAL_PROJECTIONS[report["global_projections"]],
    }
    return ModelCard.from_template(data, template_path=str(TEMPLATE), **facts)


def _metadata(card: Path | None) -> dict[str, Any]:
    """Licence and language of a card; nothing if there is no card or its metadata cannot be read."""
    if card is None or not card.is_file() or card.stat().st_size > LARGEST_CARD:
        return {}
    try:
        data = ModelCard.load(card).data.to_dict()
    except Exception:  # whatever people write above their cards
        return {}
    return {name: data[name] for name in ("license", "language") if _is_name(data.get(name))}


def _is_name(value: Any) -> bool:
    """Whether it is text, or a list of texts, as a licence or languages are."""
    texts = value if isinstance(value, list) else [value]
    return bool(texts) and all(isinstance(text, str) and text.isprintable() for text in texts)


def _as_text(measured: Any) -> str:
    return f"{measured:.2g}" if isinstance(measured, float) else str(measured)
