# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Summaries of long documents, by an encoder-decoder: section 7 of the paper.

python finetune/run_summarization.py RECIPE.yaml [--argument value …]
python finetune/run_summarization.py --model_name_or_path CHECKPOINT --train_file articles.jsonl --output_dir RUN
"""

from hf_longformer.finetune.summarization import TASK

main = TASK.main

if __name__ == "__main__":
    main()
