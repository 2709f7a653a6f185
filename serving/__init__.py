# Copyright 2026 The hf-longformer authors.
# SPDX-License-Identifier: Apache-2.0
"""`hf-longformer serve`: embeddings and predictions over HTTP, in batches across requests."""
