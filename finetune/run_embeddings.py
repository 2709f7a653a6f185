# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Training of sentence encoders on long documents.

python finetune/run_embeddings.py RECIPE.yaml [--argument value …]
python finetune/run_embeddings.py --model_name_or_path CHECKPOINT --train_files pairs.jsonl --output_dir RUN
"""

from hf_longformer.finetune.embeddings import TASK

main = TASK.main

if __name__ == "__main__":
    main()
