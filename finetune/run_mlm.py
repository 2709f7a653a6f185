# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Continued pretraining of a converted checkpoint on masked words, as in section 5 of the paper.

python finetune/run_mlm.py RECIPE.yaml [--argument value …]
python finetune/run_mlm.py --model_name_or_path CHECKPOINT --train_files a.txt b.txt --output_dir RUN
"""

from hf_longformer.finetune.mlm import TASK

main = TASK.main

if __name__ == "__main__":
    main()
