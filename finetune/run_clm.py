# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""The autoregressive model, trained in phases as in section 4 of the paper: windows and lengths grow, rates fall.

python finetune/run_clm.py RECIPE.yaml [--argument value …]
"""

from hf_longformer.finetune.clm import TASK

main = TASK.main

if __name__ == "__main__":
    main()
