# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Uploading a finished run: once, whole, with its own card."""

from pathlib import Path

from transformers import TrainingArguments

from hf_longformer.conversion.errors import InputError, UploadError, one_line
from hf_longformer.conversion.push import push

from .errors import TrainingError

LEFT_HERE = ["checkpoint-*", "checkpoint-*/**", "run.json", "seconds.json", "runs/**", "fold-*/**", "phase-*/**", ".*"]
LEFT_HERE += ["teacher/**", "hard-negatives.json"]  # of a training of embeddings


def repository_of(training: TrainingArguments) -> str:
    """The Hub name that a run is uploaded to: as asked for, or that of its folder."""
    return training.hub_model_id or Path(str(training.output_dir)).resolve().name


def upload(folder: Path, training: TrainingArguments) -> str:
    """Uploads model, tokenizer, results, predictions, pictures and card in one commit; checkpoints stay here.

    Args:
        folder: The run's.
        training: With `hub_model_id`, `hub_private_repo`, `hub_token` and `hub_revision`.

    Returns:
        The address of the commit.

    Raises:
        TrainingError: If the Hub refuses.
    """
    repository = repository_of(training)
    try:
        return push(
            folder,
            repository,
            private=training.hub_private_repo,
            token=training.hub_token,
            revision=training.hub_revision,
            message="Upload trained model",
            leave_out=LEFT_HERE,
        )
    except (InputError, UploadError) as error:
        why = one_line(error.__cause__ or error)
        raise TrainingError(
            f"the run is finished and stands in {folder}, but the repository {repository} could not be written: {why}: "
            "the same command uploads it again"
        ) from error
