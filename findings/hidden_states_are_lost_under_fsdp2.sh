#!/usr/bin/env bash
# Transformers 5.24.0, torch 2.13.0, on a CPU: a model under FSDP2 (fully_shard on its layers, then on itself) that is asked
# for hidden states and attention weights returns None for both, and says nothing. Its last hidden state is right.
# Expected by most: what the same model returns without FSDP2, or an error. Where only the layers are sharded, and the model
# itself is not, they are returned.
# Seen on an x86 CPU:
#   RobertaModel: 3 hidden states, 2 attentions
#   FSDPRobertaModel: None, None
#   BertModel: 3 hidden states, 2 attentions
#   FSDPBertModel: None, None
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.24.0 2>/dev/null
cd "$place"
"$place/venv/bin/python" - 2> /dev/null > seen <<'PYTHON'
import torch
from torch import distributed
from torch.distributed.fsdp import fully_shard
from transformers import BertConfig, BertModel, RobertaConfig, RobertaModel

distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16, "vocab_size": 50}
for config, kind in ((RobertaConfig, RobertaModel), (BertConfig, BertModel)):
    model = kind._from_config(config(**sizes), attn_implementation="eager").eval()
    for is_sharded in (False, True):
        if is_sharded:
            for layer in model.encoder.layer:
                fully_shard(layer)
            fully_shard(model)
        found = model(torch.full((1, 5), 7), output_hidden_states=True, output_attentions=True)
        if found.hidden_states is None or found.attentions is None:
            print(f"{type(model).__name__}: {found.hidden_states}, {found.attentions}")
        else:
            print(f"{type(model).__name__}: {len(found.hidden_states)} hidden states, {len(found.attentions)} attentions")
PYTHON
cat seen
diff seen - <<'SEEN'
RobertaModel: 3 hidden states, 2 attentions
FSDPRobertaModel: None, None
BertModel: 3 hidden states, 2 attentions
FSDPBertModel: None, None
SEEN
