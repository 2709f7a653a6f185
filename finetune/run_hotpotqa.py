# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
r"""Answers with the sentences that they follow from, in one model: HotpotQA in section 6 and appendix D of the paper.

python finetune/run_hotpotqa.py RECIPE.yaml [--argument value …]
python finetune/run_hotpotqa.py --model_name_or_path CHECKPOINT --train_file hotpot_train_v1.1.json \
    --validation_file hotpot_dev_distractor_v1.json --output_dir RUN
"""

from hf_longformer.finetune.hotpotqa import TASK

main = TASK.main

if __name__ == "__main__":
    main()
