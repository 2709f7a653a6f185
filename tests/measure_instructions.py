# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Instructions that the kernels take for every weight, as Triton compiles them for GPUs that need not be there.

    python tests/measure_instructions.py [ARCHITECTURE ...]

prints a line of JSON for every kernel, without and with dropout, for heads of 64 in bfloat16: of each loop that has
matrix products the instructions of a thread over its weights. The first loop walks the blocks that lie inside all
windows, the second those at their edges, a third the global tokens.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import triton
from measure_shared_memory import EVERYTHING, compiled

from hf_longformer.attention_triton import SIZES

DUMP = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
INSTRUCTION = re.compile(r"/\*([0-9a-f]{4,})\*/\s+(.*?);")
BRANCH = re.compile(r"BRA(?:\.\w+)*\s+(?:\S+,\s*)?0x([0-9a-f]+)")
KERNELS = ("forward_rows", "backward_rows", "backward_keys")
THREADS = 32  # of a warp


def loops(kernel: Any) -> list[int]:
    """How many instructions the loops of a compiled kernel have, of those with matrix products."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        listing = subprocess.run([DUMP, "-sass", file.name], capture_output=True, text=True, check=True).stdout
    code = [(int(found[1], 16), found[2]) for line in listing.splitlines() if (found := INSTRUCTION.search(line))]
    places = {address: number for number, (address, _) in enumerate(code)}
    lengths = []
    for number, (_, text) in enumerate(code):
        branch = BRANCH.search(text)
        first = places.get(int(branch[1], 16), number) if branch else number
        if any("MMA" in inside for _, inside in code[first:number]):
            lengths.append(number + 1 - first)
    return lengths


def main(*architectures: str) -> None:
    """Prints them."""
    for architecture in map(int, architectures or ("90", "86")):
        for name in KERNELS:
            for dropout in (False, True):
                rows, keys, warps, _, _ = sizes = SIZES[name][128][0]
                flags = dict.fromkeys(EVERYTHING, False) | {"HAS_BOUNDS": True, "DROPOUT": dropout}
                found = loops(compiled(name, "bf16", 64, sizes, architecture, **flags))
                weights = rows * keys / (warps * THREADS)  # of a thread, in a block of rows and keys
                per_weight = [round(instructions / weights, 1) for instructions in found]
                facts = {"kernel": name, "architecture": architecture, "dropout": dropout, "per_weight": per_weight}
                sys.stdout.write(json.dumps(facts) + "\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
