# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Uploading a converted checkpoint."""

from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from .errors import InputError


def push(folder: str | Path, repository: str) -> str:
    """Uploads a folder to the Hub in one commit: model, tokenizer, report and card together.

    Args:
        folder: A converted checkpoint.
        repository: A Hub name; created, private, if there is none.

    Returns:
        The address of the commit.

    Raises:
        InputError: If the Hub refuses.
    """
    api = HfApi()
    try:
        api.create_repo(repository, private=True, exist_ok=True)
        commit = api.upload_folder(folder_path=str(folder), repo_id=repository, commit_message="Upload converted model")
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        raise InputError(f"the result is in {folder}, but {repository} could not be written: {error}") from error
    return str(commit)
