# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Labels, several labels or a number for documents of any length, as in section 6 of the paper.

python finetune/run_classification.py RECIPE.yaml [--argument value …]
python finetune/run_classification.py --model_name_or_path CHECKPOINT --train_file reviews.csv --output_dir RUN
"""

from hf_longformer.finetune.classification import TASK

main = TASK.main

if __name__ == "__main__":
    main()
