// Copyright 2026 The hf-longformer authors.
// SPDX-License-Identifier: Apache-2.0
// What transformers.js, and the page of examples/browser/ by its means, make of a text: JSON in, JSON out.

import { readFileSync, writeFileSync } from "node:fs";
import * as library from "../examples/browser/node_modules/@huggingface/transformers/dist/transformers.node.mjs";
import { Reader } from "../examples/browser/reader.js";
import { align, frame, parts } from "../examples/browser/tokens.js";

const given = JSON.parse(readFileSync(0, "utf8"));
library.env.allowRemoteModels = false;
library.env.localModelPath = "/";
const said = [];
const DO = {
  /** The tokens of texts, and their characters. */
  async align({ folder, texts }) {
    const tokenizer = await library.AutoTokenizer.from_pretrained(folder);
    return texts.map((text) => {
      const { ids, starts, ends } = align(tokenizer, text);
      return { ids, places: ids.map((_, index) => text.slice(starts[index], ends[index])) };
    });
  },
  async frame({ folder, question }) {
    return frame(await library.AutoTokenizer.from_pretrained(folder), question);
  },
  async parts({ lengths, room }) {
    return lengths.map((length) => parts(length, room));
  },
  async tokenize({ folder, text, pair, options }) {
    const tokenizer = await library.AutoTokenizer.from_pretrained(folder);
    return tokenizer(text, { text_pair: pair ?? null, return_tensor: false, ...options });
  },
  /** Seconds to embed a text, of each of `rounds` runs, and the peak of memory before and after in MiB. */
  async measure({ folder, text, dtype, threads, rounds }) {
    const session_options = { intraOpNumThreads: threads, enableCpuMemArena: false };
    const reader = await Reader.load(library, folder, { dtype, device: "cpu", session_options }, () => {});
    const peak = () => Number(readFileSync("/proc/self/status", "utf8").match(/VmHWM:\s+(\d+)/)[1]) / 1024;
    await reader.embed("warm up");
    writeFileSync("/proc/self/clear_refs", "5"); // forgets the peak of loading
    const [before, seconds] = [peak(), []];
    for (let round = 0; round < rounds; round++) {
      const began = performance.now();
      await reader.embed(text);
      seconds.push((performance.now() - began) / 1000);
    }
    return { seconds, before, after: peak(), vector: Array.from(await reader.embed(text)) };
  },
  async read({ folder, text, question, dtype, pipeline, cut }) {
    const options = { dtype: dtype ?? "fp32", device: "cpu" };
    const reader = await Reader.load(library, folder, options, (step) => said.push(step));
    const tokenizer = reader.tokenizer;
    const inputs = question && reader.task === "question-answering"
      ? tokenizer(question, { text_pair: text, truncation: true })
      : tokenizer(text, { truncation: true });
    const began = performance.now();
    const outputs = await reader.model(inputs);
    const seconds = (performance.now() - began) / 1000;
    const values = Object.entries(outputs).map(([name, { data, dims }]) => [name, { dims, data: Array.from(data) }]);
    const found = { seconds, ids: inputs.input_ids.tolist()[0].map(Number), outputs: cut ? null : Object.fromEntries(values) };
    found.read = await reader.read(text);
    if (question) found.asked = await reader.ask(question);
    if (reader.task === "search") found.vectors = reader.passages.map(({ start, end, vector }) => ({ start, end, vector: Array.from(vector) }));
    if (pipeline) {
      const run = await library.pipeline(pipeline.task, folder, options);
      const result = await run(...pipeline.arguments);
      found.pipeline = result.tolist?.() ?? result;
    }
    return found;
  },
};
console.log(JSON.stringify(await DO[given.do](given)));
