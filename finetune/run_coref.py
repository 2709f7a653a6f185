# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Coreference: which words of a document speak of the same person, place or thing.

python finetune/run_coref.py RECIPE.yaml [--argument value …]
python finetune/run_coref.py --model_name_or_path CHECKPOINT --train_file train.conll --output_dir RUN
"""

from hf_longformer.finetune.coref import TASK

main = TASK.main

if __name__ == "__main__":
    main()
