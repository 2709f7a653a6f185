# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""What a run is: a folder goes on with the same run, and with no other."""

import dataclasses
import enum
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from huggingface_hub import try_to_load_from_cache

import hf_longformer
from hf_longformer.conversion.errors import InputError
from hf_longformer.conversion.files import write_json

RUN = "run.json"
FINISHED = "results.json"  # written last
LARGEST = 2**30  # bytes of a file that are hashed; of larger ones the size, the beginning and the end
NAMES_OF_DATA = ("benchmark", "dataset_name", "tokenizer", "retrieval_index")
SHOWN = 5  # differences that a message names
# Arguments that change neither what is learned nor what is measured.
IMMATERIAL = {
    *("output_dir", "overwrite_output_dir", "resume_from_checkpoint", "local_files_only", "run_name", "project"),
    *("report_to", "disable_tqdm", "log_level", "log_level_replica", "log_on_each_node", "logging_dir"),
    *("logging_first_step", "logging_steps", "logging_strategy", "save_total_limit", "trackio_space_id"),
    *("dataloader_num_workers", "dataloader_pin_memory", "dataloader_persistent_workers", "dataloader_prefetch_factor"),
    *("preprocessing_num_workers", "push_to_hub", "hub_model_id", "hub_strategy", "hub_token", "hub_private_repo"),
    *("hub_always_push", "hub_revision", "skip_memory_metrics", "include_num_input_tokens_seen", "ddp_timeout"),
    *("per_device_eval_batch_size", "eval_accumulation_steps", "local_rank", "use_cpu", "torch_empty_cache_steps"),
    "debug",
}


def identity(objects: Iterable[Any], base: str | None, **more: Any) -> dict[str, Any]:
    """What a run is, as JSON: arguments, what the files that they name hold, the weights that it begins with, versions.

    Args:
        objects: Dataclasses of arguments.
        base: The checkpoint that is trained, a folder or a Hub name; None if training begins from nothing.
        **more: What else tells it from others, such as a recipe's model and phases.
    """
    arguments: dict[str, Any] = {}
    for one in objects:
        for field in dataclasses.fields(one):
            if field.name not in IMMATERIAL and field.name not in arguments:
                arguments[field.name] = _as_json(getattr(one, field.name))
    return {
        "arguments": arguments,
        "files": dict(sorted(_files(arguments))),
        "base": _digest_of_base(base, arguments.get("revision")) if base else None,
        **{name: _as_json(value) for name, value in more.items()},
        "versions": {
            "hf-longformer": hf_longformer.__version__,
            "transformers": transformers.__version__,
            "torch": torch.__version__,
        },
    }


class Run:
    """The run of a folder: this one, which may have begun before, or none yet.

    Args:
        folder: The run's.
        this_run: What tells it from others, as `identity` gives it.
        training: Whose `overwrite_output_dir` allows another run that is there to be removed.

    Raises:
        InputError: If the folder holds another run, or something else, or is to be removed and holds what is read.
    """

    def __init__(self, folder: Path, this_run: dict[str, Any], training: Any) -> None:
        self.folder, self.training, self.this_run = folder, training, json.loads(json.dumps(this_run))
        self.removes = training.overwrite_output_dir and folder.exists() and any(folder.iterdir())
        known = _read(folder / RUN)
        if self.removes:
            _check_nothing_read_is_removed(folder, self.this_run, training)
            if known is None and not list(folder.glob("checkpoint-*/trainer_state.json")):
                raise InputError(f"--overwrite_output_dir removes folders of runs only, got {folder}, which is none")
            known = None
        elif known is None and folder.exists() and (not folder.is_dir() or any(map(_counts, folder.iterdir()))):
            raise InputError(
                f"--output_dir must be a new folder, or that of the same run, got {folder}, which holds something else"
            )
        elif known is not None and (different := list(_differences(known, self.this_run))):
            more = f" and {len(different) - SHOWN} more" if len(different) > SHOWN else ""
            raise InputError(
                f"{folder} holds another run, with {'; '.join(different[:SHOWN])}{more}: give another --output_dir, or "
                "--overwrite_output_dir True to remove that run"
            )
        self.is_finished = known is not None and (folder / FINISHED).exists()

    def claim(self) -> None:
        """Makes the folder that of this run, before its first file is written, and removes another run if it may."""
        with self.training.main_process_first(desc="the folder of the run"):
            if self.training.process_index:
                return
            if self.removes:
                folder = self.folder.resolve()  # of a link, the folder that it leads to
                aside = folder.with_name(f".{folder.name}.removed")
                shutil.rmtree(aside, ignore_errors=True)  # of a run that was killed here
                folder.rename(aside)
                shutil.rmtree(aside)
                self.removes = False
            self.folder.resolve().mkdir(parents=True, exist_ok=True)
            if not (self.folder / RUN).exists():
                write_json(self.folder / RUN, self.this_run)


def _check_nothing_read_is_removed(folder: Path, this_run: dict[str, Any], training: Any) -> None:
    """Refuses to remove a folder that is, or holds, what this command reads: data, recipe, model, checkpoint."""
    arguments = this_run.get("arguments", {})
    read = [*this_run.get("files", {}), arguments.get("model_name_or_path"), getattr(training, "recipe_file", None)]
    places = {folder.resolve(), Path(os.path.abspath(folder))}
    for name in map(str, filter(None, read)):
        path = Path(name)
        # As it leads there, and what it leads to: a link in the folder goes, and so does what a link outside names.
        seen = {Path(os.path.abspath(path)), path.parent.resolve() / path.name, path.resolve()}
        if path.exists() and any(places & {one, *one.parents} for one in seen):
            raise InputError(
                f"--overwrite_output_dir must not remove what is read, got {name} in the folder {folder}: give another "
                "--output_dir"
            )
    if getattr(training, "resume_from_checkpoint", None):
        raise InputError(
            "--overwrite_output_dir removes the checkpoints that --resume_from_checkpoint would go on from: leave one "
            f"of them out, got {training.resume_from_checkpoint}"
        )


def _counts(file: Path) -> bool:
    """Whether this is more than the beginning of a file that a kill left."""
    return not (file.name.startswith(".") and file.name.endswith(".partial"))


def _read(file: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _differences(known: dict[str, Any], wanted: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for name in sorted({*known, *wanted}, key=lambda name: (name == "arguments", name)):  # those last: there are many
        before, now = known.get(name), wanted.get(name)
        if isinstance(before, dict) and isinstance(now, dict):
            yield from _differences(before, now, "the file " if name == "files" else "")
        elif before != now:
            if name == "base":
                yield "other weights to begin with"
            else:
                yield f"{prefix}{name}" + (" changed" if prefix else f" {before}, not {now}")


def _files(arguments: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The files and folders that arguments name, with a hash of what they hold."""
    for name, value in arguments.items():
        if name in NAMES_OF_DATA or name.endswith(("_file", "_files", "_folder")):
            for one in value if isinstance(value, list) else [value]:
                if isinstance(one, str) and Path(one).exists():
                    yield one, _digest(Path(one))


def _digest_of_base(name: str, revision: str | None) -> str:
    """A hash of what a model is loaded from, or its commit on the Hub, where its configuration was read before."""
    if Path(name).is_dir():
        loaded = [
            file for file in sorted(Path(name).iterdir()) if file.suffix in (".json", ".safetensors", ".bin", ".txt")
        ]
        return hashlib.sha256("".join(f"{file.name} {_digest(file)}" for file in loaded).encode()).hexdigest()
    cached = try_to_load_from_cache(name, "config.json", revision=revision)  # the commit stands in its path
    return f"{name} {Path(cached).parent.name}" if isinstance(cached, str) else name


def _digest(path: Path) -> str:
    """A hash of a file, or of all files of a folder and their names."""
    found = hashlib.sha256()
    if path.is_dir():
        for file in sorted(file for file in path.rglob("*") if file.is_file()):
            found.update(f"{file.relative_to(path)}\0{_digest(file)}\n".encode())
        return found.hexdigest()
    size = path.stat().st_size
    found.update(f"{size}\n".encode())
    with path.open("rb") as stream:
        if size <= LARGEST:
            while piece := stream.read(2**20):
                found.update(piece)
        else:
            found.update(stream.read(2**25))
            stream.seek(-(2**25), 2)
            found.update(stream.read())
    return found.hexdigest()


def _as_json(value: Any) -> Any:
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, dict):
        return {str(name): _as_json(one) for name, one in value.items()}
    if isinstance(value, list | tuple | set):
        return [_as_json(one) for one in value]
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)
