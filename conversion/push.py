# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Uploading a converted checkpoint."""

from collections.abc import Sequence
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, HFValidationError

from .errors import InputError, UploadError, one_line


def push(
    folder: str | Path,
    repository: str,
    *,
    private: bool | None = True,
    token: str | None = None,
    revision: str | None = None,
    message: str = "Upload converted model",
    leave_out: Sequence[str] | None = None,
) -> str:
    """Uploads a folder to the Hub in one commit: model, tokenizer, report and card together.

    Args:
        folder: A checkpoint.
        repository: A Hub name; created if there is none.
        private: Whether it is private then; None: as the owner's settings say.
        token: Of the Hub, if not the one that is stored here.
        revision: The branch; the main one if left out.
        message: Of the commit.
        leave_out: Patterns of files that stay here.

    Returns:
        The address of the commit.

    Raises:
        InputError: If there can be no repository of that name.
        UploadError: If the Hub cannot be reached, or refuses.
    """
    api = HfApi(token=token)
    try:
        repository = api.create_repo(repository, private=private, exist_ok=True).repo_id
        commit = api.upload_folder(
            folder_path=str(folder),
            repo_id=repository,
            revision=revision,
            commit_message=message,
            ignore_patterns=None if leave_out is None else list(leave_out),
        )
    except HFValidationError as error:
        raise InputError(f"the result is in {folder}, but {repository} is no name of a repository: {error}") from error
    except (HfHubHTTPError, OSError) as error:
        raise UploadError(
            f"the result is in {folder}, but {repository} could not be written: {one_line(error)}"
        ) from error
    return str(commit)
