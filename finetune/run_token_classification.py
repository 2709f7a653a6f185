# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Tags of words, such as names of people and places, in documents of any length.

python finetune/run_token_classification.py RECIPE.yaml [--argument value …]
python finetune/run_token_classification.py --model_name_or_path CHECKPOINT --train_file news.jsonl --output_dir RUN
"""

from hf_longformer.finetune.token_classification import TASK

main = TASK.main

if __name__ == "__main__":
    main()
