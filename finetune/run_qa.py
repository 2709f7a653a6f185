# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
r"""Answers to questions about documents of any length, as in section 6 of the paper.

python finetune/run_qa.py RECIPE.yaml [--argument value …]
python finetune/run_qa.py --model_name_or_path CHECKPOINT --train_file train.json --validation_file dev.json \
    --output_dir RUN
"""

from hf_longformer.finetune.qa import TASK

main = TASK.main

if __name__ == "__main__":
    main()
