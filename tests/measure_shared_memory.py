# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Bytes of shared memory that the kernels take, as Triton compiles them for GPUs that need not be there.

    python tests/measure_shared_memory.py [SMALLEST] [ARCHITECTURE ...]

prints a line of JSON for every kernel, dtype, head size and choice of `SIZES` whose rows have so many bytes or more.
"""

import json
import sys
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from hf_longformer import kernels_triton
from hf_longformer.attention_triton import SIZES

ARCHITECTURES = (80, 86, 90, 100, 120)
HEADS = (("bf16", 64), ("bf16", 128), ("fp32", 64), ("bf16", 256), ("fp32", 128), ("fp32", 256))
BYTES = {"bf16": 2, "fp32": 4}
POINTERS = {  # of what is not a projection
    **dict.fromkeys(("lse", "products", "sums"), "*fp32"),
    **dict.fromkeys(("bounds", "dilations", "row_bits", "key_bits"), "*i32"),
    **dict.fromkeys(("shown", "is_global", "global_valid"), "*i1"),
    "global_index": "*i64",
    "threshold": "i64",
    **dict.fromkeys(("scale", "scaling", "kept_scale"), "fp32"),
}
PROJECTIONS = ("query", "key", "value", "output", "grad_output", "query_grad", "key_grad", "value_grad")
EVERYTHING = ("DILATED", "HAS_BOUNDS", "HAS_GLOBAL", "DROPOUT")


def shared_memory(name: str, dtype: str, head_dim: int, sizes: tuple[int, ...], architecture: int) -> int:
    """Bytes of one kernel, with all that it can be asked for, whether or not padding may stand anywhere."""
    return max(
        compiled(name, dtype, head_dim, sizes, architecture, HAS_SHOWN=has_shown).metadata.shared
        for has_shown in (False, True)
    )


def compiled(name: str, dtype: str, head_dim: int, sizes: tuple[int, ...], architecture: int, **flags: Any) -> Any:
    """A kernel as Triton compiles it.

    Args:
        name: Of `kernels_triton`.
        dtype: Of the projections, in Triton's words.
        head_dim: Of a head.
        sizes: Rows, keys, warps and stages of a block, as in `SIZES`.
        architecture: 90 for compute capability 9.0.
        **flags: What the kernel is asked for; all of `EVERYTHING` if left out.
    """
    kernel: Any = getattr(kernels_triton, name)
    rows, keys, warps, stages = sizes[:4]
    known: dict[str, Any] = {"HEAD_DIM": head_dim, "BLOCK_D": head_dim, "GLOBALS": 16, "ROWS": rows, "KEYS": keys}
    known |= dict.fromkeys(EVERYTHING, True) | {"CAUSAL": False, "PACKED": False, "HAS_SHOWN": False}
    known |= {"PRECISION": "tf32x3" if dtype == "fp32" else "ieee"} | flags
    signature, constants, attributes = {}, {}, {}
    for index, parameter in enumerate(kernel.params):
        argument = parameter.name
        if parameter.is_constexpr:
            signature[argument], constants[(index,)] = "constexpr", known[argument]
            continue
        signature[argument] = f"*{dtype}" if argument in PROJECTIONS else POINTERS.get(argument, "i32")
        if signature[argument].startswith("*") or argument.endswith(("_b", "_h", "_s")):
            attributes[(index,)] = [["tt.divisibility", 16]]  # as tensors and strides are
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
    source.attrs = attributes
    options = {"num_warps": warps, "num_stages": stages}
    return triton.compile(source, target=GPUTarget("cuda", architecture, 32), options=options)


def main(smallest: str = "0", *architectures: str) -> None:
    """Prints what every choice takes, and what stands in the table."""
    for name, by_bytes in SIZES.items():
        for dtype, head_dim in HEADS:
            bytes_of_row = max(128, head_dim * BYTES[dtype])
            for sizes in by_bytes[bytes_of_row] if bytes_of_row >= int(smallest) else ():
                takes = {
                    number: shared_memory(name, dtype, head_dim, sizes, number)
                    for number in (map(int, architectures) if architectures else ARCHITECTURES)
                }
                facts = {"kernel": name, "dtype": dtype, "head_dim": head_dim, "sizes": sizes, "takes": takes}
                sys.stdout.write(json.dumps(facts) + "\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
