#!/usr/bin/env bash
# Transformers 5.24.0: with assistant_model, an encoder-decoder assistant (here BART, a copy of the model itself) reads at
# the beginning of every later round all tokens again that its cache already holds, on top of it: 13 tokens after 11, where
# 2 are new. Its positions are twice as far from then on, so it drafts something else, and past half of a table of learned
# positions an IndexError ends generation. A decoder-only assistant reads the new tokens alone. The text stays right, as
# the model checks every draft.
# Expected by most: that an assistant with a cache reads what is new, whatever its kind.
# Seen with torch 2.13.0 on a CPU:
#   GPT2LMHeadModel reads tokens after tokens in its cache: 2 after 11
#   BartForConditionalGeneration reads tokens after tokens in its cache: 13 after 11
#   same text True True
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.24.0 2>/dev/null
"$place/venv/bin/python" - > "$place/seen" 2>/dev/null <<'PYTHON'
import copy

import torch
from transformers import BartConfig, BartForConditionalGeneration, GPT2Config, GPT2LMHeadModel

same = []


def generate(model, inputs):
    model.eval()
    twin = copy.deepcopy(model)
    rounds = []

    def note(module, args, kwargs):
        cache = kwargs.get("cache")
        read = 0 if cache is None else cache.get_seq_length()
        new = (kwargs["input_ids"] if "input_ids" in kwargs else args[0]).shape[1]
        if read and new > 1:
            rounds.append(f"{new} after {read}")

    reader = twin.get_decoder() if model.config.is_encoder_decoder else twin.transformer
    reader.register_forward_pre_hook(note, with_kwargs=True)
    settings = {"max_new_tokens": 24, "min_new_tokens": 24, "do_sample": False, "pad_token_id": 1}
    plain = model.generate(**inputs, **settings)
    twin.generation_config.num_assistant_tokens = 11
    twin.generation_config.assistant_confidence_threshold = 0.0
    assisted = model.generate(**inputs, **settings, assistant_model=twin)
    print(f"{type(model).__name__} reads tokens after tokens in its cache: {rounds[0]}")
    same.append(torch.equal(plain, assisted))


torch.manual_seed(0)
size = {"vocab_size": 60, "d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2}
size |= {"decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16, "forced_eos_token_id": None}
generate(
    GPT2LMHeadModel(GPT2Config(vocab_size=60, n_embd=16, n_layer=1, n_head=2, n_positions=99)),
    {"input_ids": torch.tensor([[5]])},
)
generate(
    BartForConditionalGeneration(BartConfig(**size, max_position_embeddings=99)),
    {"input_ids": torch.tensor([[0, 5, 9, 2]])},
)
print("same text", *same)
PYTHON
cat "$place/seen"
diff "$place/seen" - <<'SEEN'
GPT2LMHeadModel reads tokens after tokens in its cache: 2 after 11
BartForConditionalGeneration reads tokens after tokens in its cache: 13 after 11
same text True True
SEEN
