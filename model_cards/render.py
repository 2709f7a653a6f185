# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Renders the cards of converted and of trained checkpoints from their reports."""

from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

TEMPLATE, TRAINED = (Path(__file__).with_name(name) for name in ("template.md", "trained.md"))
LARGEST_CARD = 2**24  # bytes
PIPELINES = {
    "Model": "feature-extraction",
    "ForMaskedLM": "fill-mask",
    "ForSequenceClassification": "text-classification",
    "ForCausalLM": "text-generation",
    "ForQuestionAnswering": "question-answering",
    "ForTokenClassification": "token-classification",
    "ForConditionalGeneration": "summarization",
    "ForMultipleChoice": None,  # the Hub has no such task, nor the next two
    "ForCoreference": None,
    "ForEvidenceQuestionAnswering": None,
    "EncoderDecoderModel": "feature-extraction",
}
SENTENCES = "sentence-similarity"
POSITIONS = {
    "unlimited": "the source's {:,} rows, repeated while texts are read",
    "copy": "the source's {:,} rows, repeated",
    "interpolate": "the source's {:,} rows, stretched over all",
    "random": "random: a baseline, not a model to use",
}
GLOBAL_PROJECTIONS = {
    "copied": "copied from the local ones, not trained",
    "synced": "synced: copied from the local ones after training",
    "trained": "trained: other than the local ones",
    "shared": "none: global tokens take the local ones",
}


def render_card(report: dict[str, Any], source_card: Path | None = None) -> ModelCard:
    """The model card of a conversion: every number in it comes from the report.

    Args:
        report: What `convert` returned.
        source_card: The README.md of the source, whose licence and language are taken over if it names them.
    """
    head = report["model_class"].removeprefix("HfLongformer")
    is_sentence_encoder = report["sentence_transformers"]
    writes = head == "ForConditionalGeneration"  # what it writes, the source's card says
    task = metadata(source_card, "pipeline_tag").get("pipeline_tag") if writes else PIPELINES[head]
    data = ModelCardData(
        library_name="sentence-transformers" if is_sentence_encoder else "transformers",
        pipeline_tag=SENTENCES if is_sentence_encoder else task,
        tags=["longformer", "hf-longformer", "long-documents"],
        base_model=report["source"] if report["from_hub"] else None,
        **metadata(source_card),
    )
    checks = [{**check, "measured": _as_text(check["measured"])} for check in report["checks"]]
    longest, positions = report["max_length"], report["position_init"]
    facts = {
        **report,
        "checks": checks,
        "parameters": f"{report['parameters']:,}",
        "longest": "texts of any length" if longest is None else f"{longest:,} tokens",
        "positions": POSITIONS["unlimited" if longest is None else positions].format(report["source_max_length"]),
        "writes": writes,
        "global_state": GLOBAL_PROJECTIONS[report["global_projections"]],
    }
    return ModelCard.from_template(data, template_path=str(TEMPLATE), **facts)


def render_trained_card(
    report: dict[str, Any], purpose: str, use: str, base_card: Path | None = None, place: str = "PATH"
) -> ModelCard:
    """The model card of a training: every number in it comes from the report.

    Args:
        report: What the training scripts write into `results.json`, with `model_class` and `base`.
        purpose: What it was trained for.
        use: How it is used: Markdown, with PATH where the model's name stands.
        base_card: The README.md of the checkpoint that was trained, whose licence, languages and base are taken over.
        place: What the model is loaded by: a Hub name or a folder.
    """
    base = report["base"]
    scores = report.get("scores") or {name: report[name] for name in ("before", "after") if name in report}
    names = list(dict.fromkeys(name for one in scores.values() for name in one))
    measures = [
        (name.replace("_", " "), [_as_score(one.get(name, "")) for one in scores.values()])
        for name in names
        if all(isinstance(one.get(name, 0), int | float) for one in scores.values())
    ]
    kind = _kind(report)
    data = ModelCardData(
        library_name="sentence-transformers" if kind == SENTENCES else "transformers",
        pipeline_tag=kind,
        tags=["longformer", "hf-longformer", "long-documents"],
        base_model=metadata(base_card, "base_model").get("base_model") if Path(base).exists() or not base else base,
        **metadata(base_card),
        **_index(report, scores),
    )
    training = report["training"]
    machine = f"{report['processes']} × {report['device']}, {report['threads']} threads of {report['processor']}"
    counts = {name: report[name] for name in COUNTS if report.get(name)}
    leaks = {name: f"{found['rows']:,} rows" for name, found in (report.get("leaks") or {}).items()}
    phases = {
        f"phase {number}": ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in phase["phase"].items())
        for number, phase in enumerate(report.get("phases", []), 1)
    }
    facts = {
        **{name: _as_counts(found) for name, found in counts.items()},
        **{f"beyond the limit, {split}": _as_counts(found) for split, found in (report.get("cut") or {}).items()},
        **({"checkpoint": "; ".join(report["checkpoint"])} if report.get("checkpoint") else {}),
        **leaks,
        "steps": f"{training['steps']:,}",
        "time": f"{training['seconds'] / 60:.1f} minutes on {machine}",
        **phases,
        **{
            name: value
            for group in ("hyperparameters", "generation")
            for name, value in (report.get(group) or {}).items()
            if value is not None
        },
        "seed": report["seed"],
        "versions": ", ".join(f"{name} {version}" for name, version in report["versions"].items()),
        "date": report["date"],
    }
    return ModelCard.from_template(
        data,
        template_path=str(TRAINED),
        **{
            **report,
            "title": f"{Path(base).name if base else report['model_class']}, trained {purpose}",
            "purpose": purpose,
            "use": use.replace("PATH", place),
            "scores": scores,
            "measures": measures,
            "facts": [(name.replace("_", " "), value) for name, value in facts.items()],
        },
    )


COUNTS = ("rows", "documents", "questions", "windows", "pieces", "skipped")


def _as_counts(found: dict[str, int | None]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {'?' if n is None else format(n, ',')}" for name, n in found.items())


def _kind(report: dict[str, Any]) -> str | None:
    """The Hub's name of what a trained model does; None if it has none."""
    if report.get("sentence_transformers"):
        return SENTENCES
    return (
        None if report["task"] == "multiple-choice" else PIPELINES[report["model_class"].removeprefix("HfLongformer")]
    )


def _index(report: dict[str, Any], scores: dict[str, Any]) -> dict[str, Any]:
    """What the Hub shows of the scores: metrics, data sets, and the results themselves."""
    data = report.get("data") or {}
    name = f"{Path(report['base']).name or report['model_class']}-{report['task']}"
    kind = _kind(report) or report["task"]
    results = [
        EvalResult(
            task_type=kind,
            dataset_type=data.get("dataset", "files"),
            dataset_name=data.get("dataset") or data.get(split) or data.get("train") or "files",
            dataset_split=split,
            metric_type=metric,
            metric_value=value,
        )
        for split, measured in scores.items()
        for metric, value in measured.items()
        if isinstance(value, int | float)
    ]
    if not results:
        return {}
    metrics = sorted({one.metric_type for one in results})
    datasets = {"datasets": [data["dataset"]]} if "dataset" in data else {}
    return {"model_name": name, "eval_results": results, "metrics": metrics, **datasets}


def metadata(card: Path | None, *names: str) -> dict[str, Any]:
    """Licence and language of a card, or other entries; nothing if there is no card or it cannot be read.

    Args:
        card: A README.md.
        names: Of entries above it.
    """
    if card is None or not card.is_file() or card.stat().st_size > LARGEST_CARD:
        return {}
    try:
        data = ModelCard.load(card).data.to_dict()
    except Exception:  # whatever people write above their cards
        return {}
    return {name: data[name] for name in names or ("license", "language") if _is_name(data.get(name))}


def _is_name(value: Any) -> bool:
    """Whether it is text, or a list of texts, as a licence or languages are."""
    texts = value if isinstance(value, list) else [value]
    return bool(texts) and all(isinstance(text, str) and text.isprintable() for text in texts)


def _as_score(measured: Any) -> str:
    return f"{measured:.4g}" if isinstance(measured, float) else str(measured)


def _as_text(measured: Any) -> str:
    return f"{measured:.2g}" if isinstance(measured, float) else str(measured)
