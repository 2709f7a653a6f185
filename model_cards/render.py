# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Renders the card of a converted checkpoint from its report."""

from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

TEMPLATE = Path(__file__).with_name("template.md")
PIPELINES = {
    "Model": "feature-extraction",
    "ForMaskedLM": "fill-mask",
    "ForSequenceClassification": "text-classification",
    "ForQuestionAnswering": "question-answering",
    "ForTokenClassification": "token-classification",
    "ForMultipleChoice": "multiple-choice",
}


def render_card(report: dict[str, Any], source_card: Path | None = None) -> ModelCard:
    """The model card of a conversion: every number in it comes from the report.

    Args:
        report: What `convert` returned.
        source_card: The README.md of the source, whose licence and language are taken over if it names them.
    """
    kept = _metadata(source_card)
    head = report["model_class"].removeprefix("HfLongformer")
    data = ModelCardData(
        library_name="transformers",
        pipeline_tag=PIPELINES[head],
        tags=["longformer", "hf-longformer", "long-documents"],
        base_model=report["source"] if report["from_hub"] else None,
        **kept,
    )
    checks = [{**check, "measured": _as_text(check["measured"])} for check in report["checks"]]
    facts = {**report, "checks": checks, "parameters": f"{report['parameters']:,}"}
    return ModelCard.from_template(data, template_path=str(TEMPLATE), **facts)


def _metadata(card: Path | None) -> dict[str, Any]:
    """Licence and language of a card; nothing if there is no card or its metadata cannot be read."""
    if card is None or not card.is_file():
        return {}
    try:
        data = ModelCard.load(card).data.to_dict()
    except (ValueError, OSError):
        return {}
    return {name: data[name] for name in ("license", "language") if data.get(name)}


def _as_text(measured: Any) -> str:
    return f"{measured:.2g}" if isinstance(measured, float) else str(measured)
