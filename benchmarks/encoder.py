# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Encoder inference of base size against its peers, by length: `make bench`."""

import json
import sys
import tempfile
from pathlib import Path

from transformers.utils import logging

from .measure import compare, machine
from .peers import make_peers, make_random_source

LENGTHS = (512, 1024, 2048, 4096)
ATTENTION_WINDOW = 512


def main() -> None:
    """Measures, prints a line per length and peer, and writes `benchmarks/results/encoder.json`."""
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_random_source(folder / "source")
        folders = make_peers(folder / "source", folder, max(LENGTHS), ATTENTION_WINDOW)
        for length in LENGTHS:
            for peer, result in compare(folders, length).items():
                rows.append({"peer": peer, "length": length, **result})
                sys.stdout.write(
                    f"{length:5d} tokens  {peer:17s} {result['seconds']:7.3f} s ± {result['spread'] / 2:.3f}  "
                    f"{result['peak_megabytes']:7.0f} MiB\n"
                )
                sys.stdout.flush()
    report = {
        "what": "encoder inference, BERT-base size, batch 1, float32, <s> global, median of three passes",
        "attention_window": ATTENTION_WINDOW,
        "command": "make bench",
        **machine(),
        "rows": rows,
    }
    file = Path(__file__).parent / "results" / "encoder.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
