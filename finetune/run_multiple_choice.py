# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""The answer to a question among candidates, beside documents of any length: WikiHop in section 6 of the paper.

python finetune/run_multiple_choice.py RECIPE.yaml [--argument value …]
python finetune/run_multiple_choice.py --model_name_or_path CHECKPOINT --train_file hops.jsonl --output_dir RUN
"""

from hf_longformer.finetune.multiple_choice import TASK

main = TASK.main

if __name__ == "__main__":
    main()
