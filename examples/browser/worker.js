// Copyright 2026 The hf-longformer authors.
// SPDX-License-Identifier: Apache-2.0
// Runs the model beside the page, which goes on answering meanwhile.

import * as library from "./node_modules/@huggingface/transformers/dist/transformers.min.js";
import { Reader } from "./reader.js";

const here = new URL(".", import.meta.url);
const runtime = new URL("node_modules/onnxruntime-web/dist/ort-wasm-simd-threaded", here);
library.env.allowRemoteModels = false;
library.env.allowLocalModels = true;
library.env.localModelPath = here.pathname;
library.env.useBrowserCache = library.env.useWasmCache = false;
Object.assign(library.env.backends.onnx.wasm, {
  wasmPaths: { mjs: `${runtime}.mjs`, wasm: `${runtime}.wasm` },
  numThreads: self.crossOriginIsolated ? navigator.hardwareConcurrency : 1,
});

let reader = null;
const say = (progress) => postMessage({ progress });
const DO = {
  async load({ folder, dtype, threads }) {
    if (threads) library.env.backends.onnx.wasm.numThreads = threads;
    const options = { dtype, device: "wasm", session_options: { enableCpuMemArena: false } };
    reader = await Reader.load(library, folder, options, say);
    const { task, limit, config, tokenizer } = reader;
    return { task, limit, name: config._name_or_path, mask: tokenizer.mask_token };
  },
  read: ({ text }) => reader.read(text),
  ask: ({ question }) => reader.ask(question),
  embed: async ({ text }) => Array.from(await reader.embed(text)),
};

// One thing at a time: what is asked for meanwhile waits.
let last = Promise.resolve();
onmessage = ({ data: { id, name, ...given } }) => {
  last = last.then(async () => {
    const began = performance.now();
    try {
      const result = await DO[name](given);
      postMessage({ id, result, seconds: (performance.now() - began) / 1000 });
    } catch (error) {
      postMessage({ id, error: String(error?.message ?? error) });
    }
  });
};
