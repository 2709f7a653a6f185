# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Files of graphs opened for running: inputs by name in, outputs by name out."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from hf_longformer.conversion import InputError

from .formats import FORMATS


class Session(NamedTuple):
    """A graph that runs.

    Args:
        inputs: Names of what it takes.
        outputs: Names of what it gives.
        run: From arrays by name to arrays by name.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    run: Callable[[dict[str, np.ndarray]], dict[str, np.ndarray]]


def open_session(folder: Path, backend: str, threads: int | None = None, file: Path | None = None) -> Session:
    """Opens the file of a format.

    Args:
        folder: With the file.
        backend: The format, one of `formats.BACKENDS`.
        threads: To compute with; PyTorch's number if left out.
        file: Another file of the folder than that of the format.

    Raises:
        InputError: If there is no such file, or it cannot be opened.
        ImportError: If the runtime is not installed.
    """
    file = file or folder / FORMATS[backend].file
    if not file.is_file():
        raise InputError(f"{folder} must hold {file.name}, which `hf-longformer export` writes, got none")
    return OPEN[backend](file, threads or torch.get_num_threads())


def _open_onnx(file: Path, threads: int) -> Session:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # what fails is raised
    try:
        session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has no class of its own for them
        raise InputError(f"{file} cannot be opened by ONNX Runtime: {' '.join(str(error).split())}") from error
    inputs, outputs = (tuple(one.name for one in given) for given in (session.get_inputs(), session.get_outputs()))
    give_back = onnxruntime.RunOptions()  # what the arena would keep for good, as much as the longest text took
    give_back.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")

    def run(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return dict(zip(outputs, session.run(None, arrays, give_back), strict=True))

    return Session(inputs, outputs, run)


def _open_openvino(file: Path, threads: int) -> Session:
    from .to_openvino import import_openvino

    openvino = import_openvino()
    # Some CPUs would compute in bfloat16 by default.
    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    try:
        compiled = openvino.Core().compile_model(file, "CPU", settings)
    except RuntimeError as error:
        raise InputError(f"{file} cannot be opened by OpenVINO: {' '.join(str(error).split())}") from error
    inputs, outputs = (tuple(one.get_any_name() for one in given) for given in (compiled.inputs, compiled.outputs))
    request = compiled.create_infer_request()

    def run(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        found = request.infer(arrays)
        return {name: np.array(found[name]) for name in outputs}

    return Session(inputs, outputs, run)


def _open_program(file: Path, threads: int) -> Session:
    try:
        zipfile.ZipFile(file).close()  # of what is none PyTorch writes a traceback
        exported = torch.export.load(file)
        program = exported.module()
    except Exception as error:  # whatever a damaged archive makes of it
        raise InputError(f"{file} cannot be opened by PyTorch: {' '.join(str(error).split())}") from error
    names, outputs = tuple(exported.call_spec.in_spec.child(1).context), exported.call_spec.out_spec.context

    def run(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        with torch.inference_mode():
            found = program(**{name: torch.from_numpy(array) for name, array in arrays.items()})
        return {name: tensor.numpy() for name, tensor in found.items()}

    return Session(names, tuple(outputs), run)


def _open_executorch(file: Path, threads: int) -> Session:
    from executorch.runtime import Runtime

    from .to_executorch import INPUTS, LENGTH, OUTPUTS

    try:
        program = Runtime.get().load_program(file)
        length, inputs, outputs = (program.load_method(name).execute([])[0] for name in (LENGTH, INPUTS, OUTPUTS))
        method = program.load_method("forward")
    except Exception as error:  # of no class of its own
        raise InputError(f"{file} cannot be opened by ExecuTorch: {' '.join(str(error).split())}") from error
    names = tuple(inputs.split())

    def run_one(text: int, arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
        given = [torch.from_numpy(arrays[name][text : text + 1]) for name in names]
        size = given[0].shape[1]
        if size > length:
            raise ValueError(f"this program reads {length:,} tokens, padding included, got {size:,}")
        found = method.execute([torch.nn.functional.pad(one, (0, length - size)) for one in given])
        return [one[:, :size].numpy() if one.shape[1:2] == (length,) else one.numpy() for one in found]

    def run(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        texts = [run_one(text, arrays) for text in range(len(arrays[names[0]]))]
        return {name: np.concatenate(of_texts) for name, *of_texts in zip(outputs.split(), *texts, strict=True)}

    return Session(names, tuple(outputs.split()), run)


OPEN: dict[str, Callable[[Path, int], Session]] = {
    "onnx": _open_onnx,
    "openvino": _open_openvino,
    "torch-export": _open_program,
    "executorch": _open_executorch,
    "web": _open_onnx,
}

__all__ = ["Session", "open_session"]
