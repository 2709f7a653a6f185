# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Folders that appear whole or not at all, and files that are what they should be."""

import ctypes
import errno
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from .errors import InputError, first_line

AT_WORKING_DIRECTORY, RENAME_EXCHANGE = -100, 2
LARGEST_JSON = 2**28  # bytes; the largest tokenizer files have a tenth of it


def check_output(output: Path, overwrite: bool, source: Path | None = None, text: Path | None = None) -> None:
    """Refuses an output folder that exists, unless `overwrite` is given and it is a checkpoint.

    Args:
        output: The folder to write.
        overwrite: Whether a checkpoint may be replaced.
        source: A folder that is read, if one is.
        text: A file that is read, if one is.

    Raises:
        InputError: If it must not be written.
    """
    if text is not None and output.resolve() in (text.resolve(), *text.resolve().parents):
        raise InputError(f"OUTPUT must not hold the text that is read, got {text} in {output}")
    if source is not None and output.resolve() in (source.resolve(), *source.resolve().parents):
        raise InputError(f"OUTPUT must not be the source or hold it, got {output}")
    if not output.parent.is_dir():
        raise InputError(f"the folder that is to hold OUTPUT must exist, got {output.parent}")
    if not output.exists() and not output.is_symlink():
        return
    if not overwrite:
        raise InputError(f"OUTPUT must not exist, got {output}: --overwrite replaces it")
    is_checkpoint = output.is_dir() and ((output / "config.json").exists() or not any(output.iterdir()))
    if not is_checkpoint or output.is_symlink():
        raise InputError(f"--overwrite replaces checkpoint folders only, got {output}, which is none")


def check_readable(folder: Path, patterns: Iterable[str]) -> None:
    """Refuses files that a library would wait for, pass over or read without end: pipes, devices, broken links, holes.

    Args:
        folder: Where they are.
        patterns: What they are called; not all need to be there.

    Raises:
        InputError: If one is no file, or too large for what it is.
    """
    for path in sorted(path for pattern in patterns for path in folder.glob(pattern)):
        if not path.is_file():
            raise InputError(f"{path.name} must be a file in {folder}, got a folder, a pipe, a device or a broken link")
        if path.stat().st_size > LARGEST_JSON:
            raise InputError(f"{path.name} must have a sensible size, got {path.stat().st_size:,} bytes in {folder}")


def read_json(path: Path, kind: type = dict) -> Any:
    """A JSON file that must hold an object, or a list.

    Raises:
        InputError: If it is missing or does not.
    """
    if not path.is_file():
        raise InputError(f"{path.name} is missing in {path.parent}")
    if path.stat().st_size > LARGEST_JSON:
        raise InputError(f"{path.name} must be a JSON file of a sensible size, got {path.stat().st_size:,} bytes")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # not UTF-8 is a ValueError too
        raise InputError(
            f"{path.name} must be a readable JSON file, got one that is not: {first_line(error)}"
        ) from error
    if not isinstance(content, kind):
        raise InputError(
            f"{path.name} must hold a JSON {'object' if kind is dict else 'list'}, got {type(content).__name__}"
        )
    return content


def write_json(path: Path, content: Any) -> None:
    """Writes a JSON file as people like to read it, whole or not at all."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def write_text(path: Path, content: str) -> None:
    """Writes a text file, whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(content, encoding="utf-8")
    partial.replace(path)


@contextmanager
def new_folder(output: Path) -> Iterator[Path]:
    """A temporary folder beside `output` that takes its place when the block ends well, and vanishes otherwise.

    Raises:
        InputError: If the disk is full or the place cannot be written.
    """
    try:
        folder = Path(tempfile.mkdtemp(prefix=f".{output.name}.partial-", dir=output.parent))
    except OSError as error:
        raise InputError(f"{output.parent} cannot be written: {error.strerror}") from error
    try:
        yield folder
        _open_to_others(folder)
        put_in_place(folder, output)
    except (OSError, SafetensorError) as error:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error):
            raise InputError(f"the disk is full: {output} was not written") from error
        raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def put_in_place(folder: Path, output: Path) -> None:
    """Moves a folder to where another one may be, which is removed then."""
    if not output.exists():
        folder.rename(output)
    elif not _exchange(folder, output):  # after an exchange `folder` holds the old files, to be removed
        old = Path(tempfile.mkdtemp(prefix=f".{output.name}.old-", dir=output.parent))
        output.rename(old / output.name)
        folder.rename(output)
        shutil.rmtree(old, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Swaps two folders in one step, where the system can (Linux), so that a kill finds either the old or the new."""
    if sys.platform != "linux":
        return False
    rename = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if rename is None:
        return False
    paths = AT_WORKING_DIRECTORY, os.fsencode(one), AT_WORKING_DIRECTORY, os.fsencode(other)
    return rename(*paths, RENAME_EXCHANGE) == 0


def _open_to_others(folder: Path) -> None:
    """Temporary folders, and files of some libraries, are for their owner alone: gives them what new files have."""
    umask = os.umask(0)
    os.umask(umask)
    folder.chmod(0o777 & ~umask)
    for file in folder.rglob("*"):
        file.chmod((0o777 if file.is_dir() else 0o666) & ~umask)
