# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Sentence-transformers folders: an encoder, and beside it the modules that make one embedding of its output."""

import shutil
from pathlib import Path
from typing import Any

from .errors import InputError
from .files import check_readable, read_json, write_json

MODULES, ENCODER_SETTINGS = "modules.json", "sentence_bert_config.json"
SETTINGS = ("config_sentence_transformers.json",)
LIBRARY = "sentence_transformers."
LONGEST_PATH = 200  # characters


def read_modules(root: Path) -> list[dict[str, Any]]:
    """The modules of a sentence-transformers folder, the encoder first; none for any other folder.

    Raises:
        InputError: If modules.json is damaged, or names code or folders that are not the library's or its own.
    """
    if not (root / MODULES).exists():
        return []
    modules = read_json(root / MODULES, list)
    for module in modules:
        path, kind = (module.get("path"), module.get("type")) if isinstance(module, dict) else (None, None)
        if not isinstance(path, str) or not isinstance(kind, str) or not f"{path}{kind}".isprintable():
            raise InputError(f"{MODULES} must name path and type of every module, got {module!r}")
        if not kind.startswith(LIBRARY):
            raise InputError(f"modules must be those of sentence-transformers, got {kind!r}, which is code of its own")
        if path and (Path(path).name != path or path in (".", "..") or len(path) > LONGEST_PATH):
            raise InputError(f"{MODULES} must name folders inside its own, got {path!r}")
    if not modules or not modules[0]["type"].endswith(".Transformer"):
        raise InputError(f"the first module must be a Transformer, got {[module['type'] for module in modules][:1]}")
    return modules


def encoder_folder(root: Path) -> Path:
    """Where the encoder's files are: older versions of sentence-transformers put them into a folder of their own.

    Raises:
        InputError: As `read_modules`.
    """
    modules = read_modules(root)
    return root / modules[0]["path"] if modules else root


def check_modules(root: Path) -> None:
    """Refuses modules that sentence-transformers would wait for, or read without end.

    Raises:
        InputError: As `read_modules` and `check_readable`.
    """
    for module in read_modules(root):
        check_readable(root / module["path"], ("*config*.json", "README.md"))


def copy_modules(root: Path, folder: Path, max_length: int, allow_pickle: bool = False) -> None:
    """Puts the modules around a converted encoder, and raises their limit to `max_length` tokens.

    Args:
        root: The source.
        folder: The result, whose encoder is already there.
        max_length: In tokens.
        allow_pickle: Whether to copy pickled weights of a module, where there are no others.

    Raises:
        InputError: If the weights of a module are pickled and that is not allowed.
    """
    modules = read_modules(root)
    if not modules:
        return
    for module in modules[1:]:
        if module["path"] and (root / module["path"]).is_dir():  # modules without settings have no folder
            _copy_module(root, module["path"], folder, allow_pickle)
    encoder = root / modules[0]["path"]
    settings = read_json(encoder / ENCODER_SETTINGS) if (encoder / ENCODER_SETTINGS).exists() else {}
    write_json(folder / ENCODER_SETTINGS, {**settings, "max_seq_length": max_length})
    write_json(folder / MODULES, [{**modules[0], "path": ""}, *modules[1:]])
    for name in SETTINGS:
        if (root / name).exists():
            write_json(folder / name, read_json(root / name))


def _copy_module(root: Path, name: str, folder: Path, allow_pickle: bool) -> None:
    suffixes = [".json", ".safetensors", ".txt"]
    if any((root / name).glob("*.bin")) and not any((root / name).glob("*.safetensors")):
        if not allow_pickle:
            raise InputError(f"weights must be in safetensors, got only a pickle in {name}: --allow-pickle copies it")
        suffixes.append(".bin")
    for file in (root / name).iterdir():
        if file.is_file() and file.suffix in suffixes:
            (folder / name).mkdir(exist_ok=True)
            shutil.copyfile(file, folder / name / file.name)
