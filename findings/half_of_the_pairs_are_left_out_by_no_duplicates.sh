#!/usr/bin/env bash
# sentence-transformers 6.2.0 with Transformers 5.23.0: BatchSamplers.NO_DUPLICATES, which is recommended for ranking
# losses, yields more batches than its `len` says where texts repeat (as documents with several queries do), since its
# batches stay smaller. Trainer takes `len` batches for an epoch and leaves the others out: without a warning, and with
# an epoch that is logged as whole.
# Expected by most: that an epoch has every pair once, as with the default sampler, or a word of those left out. A
# comment in the sampler ("never truncate the first pass") says that it means to yield them all.
# Seen with torch 2.13.0 on a CPU, 12 pairs of 2 documents with 6 queries each, batches of 4, one epoch:
#   batches: 6, len: 3
#   trained on 6 of 12 pairs in 3 steps, epoch 1.0
set -euo pipefail
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.23.0 accelerate==1.15.0 datasets==5.2.0 \
    sentence-transformers==6.2.0 2>/dev/null
cd "$place"
"$place/venv/bin/python" - 2> /dev/null > "$place/seen" <<'PYTHON'
from datasets import Dataset
from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

words = ["[PAD]", "[UNK]", "first", "second", "document", *(f"query{number}" for number in range(12))]
backend = Tokenizer(models.WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
backend.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]", pad_token="[PAD]", model_max_length=8)
tokenizer.save_pretrained("encoder")
sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 8}
BertModel(BertConfig(vocab_size=len(words), **sizes)).save_pretrained("encoder")
model = SentenceTransformer(modules=[Transformer("encoder"), Pooling(8)], device="cpu")
seen = []


class Watched(MultipleNegativesRankingLoss):
    def forward(self, features, labels):
        features = list(features)
        seen.extend(features[0]["input_ids"][:, 0].tolist())
        return super().forward(features, labels)


pairs = Dataset.from_list(
    [{"anchor": f"query{number}", "positive": f"{('first', 'second')[number % 2]} document"} for number in range(12)]
)
arguments = SentenceTransformerTrainingArguments(
    output_dir="out", num_train_epochs=1, per_device_train_batch_size=4, batch_sampler="no_duplicates",
    use_cpu=True, report_to="none", disable_tqdm=True, save_strategy="no",
)
trainer = SentenceTransformerTrainer(model, arguments, train_dataset=pairs, loss=Watched(model))
sampler = trainer.get_train_dataloader().batch_sampler
print(f"batches: {len(list(sampler))}, len: {len(sampler)}")
trainer.train()
state = trainer.state
print(f"trained on {len({*seen})} of {len(pairs)} pairs in {state.global_step} steps, epoch {state.epoch}")
PYTHON
grep -v "^{" "$place/seen" > "$place/lines"
cat "$place/lines"
diff "$place/lines" - <<'SEEN'
batches: 6, len: 3
trained on 6 of 12 pairs in 3 steps, epoch 1.0
SEEN
