# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""The weights of a checkpoint: their names, shapes and dtypes first, their numbers one by one and only when read."""

import mmap
import re
import zipfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from .errors import InputError, first_line
from .files import read_json

SAFETENSORS, SAFETENSORS_INDEX = "model.safetensors", "model.safetensors.index.json"
LONGEST_NAME = 256
PICKLE, PICKLE_INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "F64": torch.float64}
# Buffers that old checkpoints stored, and that follow from the configuration.
BUFFERS = re.compile(r"(^|\.)embeddings\.(position_ids|token_type_ids)$")
OLD_NAMES = {r"\.LayerNorm\.gamma$": ".LayerNorm.weight", r"\.LayerNorm\.beta$": ".LayerNorm.bias"}


@dataclass(frozen=True)
class StoredWeight:
    """Where a weight is.

    Args:
        name: Its name there.
        shape: Its shape.
        dtype: Its dtype.
        file: The safetensors file; None for a pickled weight.
    """

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype
    file: Path | None

    @property
    def numel(self) -> int:
        """How many numbers it holds."""
        return torch.Size(self.shape).numel()


class Weights(Mapping[str, StoredWeight]):
    """The weights of a folder by name, in today's spelling, without buffers.

    Args:
        folder: Where the files are.
        allow_pickle: Whether to accept pickled weights, with PyTorch's restricted loader.

    Raises:
        InputError: If there are none, one is missing or damaged, or they are pickled and that is not allowed.
    """

    def __init__(self, folder: Path, allow_pickle: bool = False) -> None:
        self.files = find_files(folder, allow_pickle)
        self.pickled: dict[str, torch.Tensor] = {}
        self._open: dict[Path | None, Any] = {}
        if self.files[0].suffix == ".safetensors":
            found = [weight for file in self.files for weight in _read_header(file)]
        else:
            self.pickled = _unpickle(self.files)
            found = [StoredWeight(name, tuple(one.shape), one.dtype, None) for name, one in self.pickled.items()]
        self._stored: dict[str, StoredWeight] = {}
        for weight in found:
            name = _todays_name(weight.name)
            if BUFFERS.search(name):
                continue
            if name in self._stored:
                raise InputError(f"every weight must be there once, got {name} twice in {folder}")
            self._stored[name] = weight
        numbers: Counter[torch.dtype] = Counter()
        for weight in self._stored.values():
            numbers[weight.dtype] += weight.numel
        if not any(numbers[dtype] for dtype in DTYPES.values()):
            raise InputError(f"weights must be floating point ({', '.join(DTYPES)}), got {sorted(map(str, numbers))}")
        self.dtype = max(DTYPES.values(), key=lambda dtype: numbers[dtype])
        """What most of the numbers are stored as."""

    def __getitem__(self, name: str) -> StoredWeight:
        return self._stored[name]

    def __iter__(self) -> Any:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)

    def read(self, name: str) -> torch.Tensor:
        """One weight, mapped from its file where that is possible.

        Raises:
            InputError: If it cannot be read, or holds a number that is not finite.
        """
        weight = self._stored[name]
        try:
            tensor = self.pickled[weight.name] if weight.file is None else self._from_file(weight)
            finite = not tensor.numel() or all(bool(end.isfinite()) for end in tensor.aminmax())
        except (SafetensorError, OSError, RuntimeError) as error:
            raise InputError(f"{name} cannot be read: {error}") from error
        if not finite:
            raise InputError(f"weights must be finite numbers, got NaN or infinity in {name}")
        return tensor

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keeps the files open inside the block: faster, but what was read stays in memory until its end."""
        with ExitStack() as files:
            self._open = {
                file: files.enter_context(safe_open(file, framework="pt"))
                for file in ([] if self.pickled else self.files)
            }
            try:
                yield
            finally:
                self._open = {}

    def _from_file(self, weight: StoredWeight) -> torch.Tensor:
        if weight.file in self._open:
            return self._open[weight.file].get_tensor(weight.name)
        with safe_open(weight.file, framework="pt") as tensors:
            return tensors.get_tensor(weight.name)


def local_names(names: Iterable[str]) -> dict[str, str]:
    """For every global projection among the names of our weights, the local one that it belongs to."""
    return {name: name.replace("_global.", ".") for name in names if "_global." in name}


def find_files(folder: Path, allow_pickle: bool = False) -> list[Path]:
    """The weight files of a folder.

    Raises:
        InputError: If there are none, one is missing, or they are pickled and that is not allowed.
    """
    for whole, index in ((SAFETENSORS, SAFETENSORS_INDEX), (PICKLE, PICKLE_INDEX)):
        if (folder / index).exists():
            names = _shards(folder / index)
        elif (folder / whole).exists():
            names = [whole]
        else:
            continue
        if whole == PICKLE and not allow_pickle:
            raise InputError(
                f"weights must be in safetensors, got only {names[0]}, a pickle that can run code when loaded: "
                "--allow-pickle loads it with PyTorch's restricted loader"
            )
        for name in names:
            if not (folder / name).is_file():  # links of the Hub's cache are followed; devices and pipes are not files
                raise InputError(f"{name} must be a file in {folder}, got none")
        return [folder / name for name in names]
    raise InputError(f"no weights ({SAFETENSORS}) in {folder}")


def _shards(index: Path) -> list[str]:
    shards = read_json(index).get("weight_map")
    names = list(shards.values()) if isinstance(shards, dict) else []
    wrong = [name for name in names if not isinstance(name, str) or Path(name).name != name or not _can_be_file(name)]
    if not names or wrong:
        raise InputError(f"{index.name} must name files of its own folder in weight_map, got {wrong[:3] or shards!r}")
    return sorted(set(names))


def _can_be_file(name: str) -> bool:
    return name.isprintable() and len(name) < LONGEST_NAME


def _read_header(file: Path) -> list[StoredWeight]:
    try:
        with safe_open(file, framework="pt") as tensors:
            parts = {name: tensors.get_slice(name) for name in tensors.keys()}  # noqa: SIM118 (not a dict)
            return [
                StoredWeight(name, tuple(part.get_shape()), DTYPES.get(part.get_dtype(), torch.int64), file)
                for name, part in parts.items()
            ]
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(f"{file.name} must be a whole safetensors file, got a damaged one: {error}") from error


def _unpickle(files: list[Path]) -> dict[str, torch.Tensor]:
    weights: dict[str, torch.Tensor] = {}
    for file in files:
        try:
            _check_pickle(file)
            content = torch.load(file, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(file))
        except Exception as error:  # whatever a damaged or hostile pickle leads to
            raise InputError(f"{file.name} cannot be loaded: {first_line(error)}") from error
        if not isinstance(content, dict):
            raise InputError(f"{file.name} must hold weights by name, got {type(content).__name__}")
        odd = [name for name in content if not isinstance(name, str) or not name.isprintable()]
        if odd:
            raise InputError(f"{file.name} must hold weights by name, got {odd[0]!r} for a name")
        weights |= {name: one for name, one in content.items() if isinstance(one, torch.Tensor)}
    return weights


def _check_pickle(file: Path) -> None:
    """Refuses what makes PyTorch's restricted loader take any amount of memory, and what no weights need."""
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if content.find(b"\nbytearray\n") >= 0:
            raise InputError("weights need no byte arrays, got one")
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
                raise InputError("weights must be stored as they are, got compressed ones")


def _todays_name(name: str) -> str:
    for old, new in OLD_NAMES.items():
        name = re.sub(old, new, name)
    return name
