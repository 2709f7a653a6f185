# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""Conversion of RoBERTa-like and BERT-like checkpoints to long ones, with proof, and back to stock Transformers."""
