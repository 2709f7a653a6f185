// Copyright 2026 The hf-longformer authors.
// SPDX-License-Identifier: Apache-2.0
// A model of a folder that `hf-longformer export … --format web` wrote, and what it says of a text of any length.

import { align, frame, framed, parts } from "./tokens.js";
import { answers, best, entities, labels, nearest, passages, pooled, probabilities, top } from "./tasks.js";

const SHOWN = 5;

export const TASKS = {
  ForMaskedLM: ["fill-mask", "AutoModelForMaskedLM"],
  ForSequenceClassification: ["text-classification", "AutoModelForSequenceClassification"],
  ForTokenClassification: ["token-classification", "AutoModelForTokenClassification"],
  ForQuestionAnswering: ["question-answering", "AutoModelForQuestionAnswering"],
  Model: ["search", "AutoModel"],
};

export class Reader {
  /** `library` is transformers.js; `say` is called with `{ done, of, what }` while something lasts. */
  static async load(library, folder, options, say) {
    const progress_callback = ({ status, file, loaded, total }) => {
      if (status === "progress" && file.endsWith(".onnx")) say({ what: "loading the model", done: loaded, of: total });
    };
    const config = await library.AutoConfig.from_pretrained(folder);
    const head = Object.keys(TASKS).find((name) => String(config.architectures?.[0]).endsWith(name));
    if (!head) throw Error(`the page knows no model ${config.architectures}`);
    const tokenizer = await library.AutoTokenizer.from_pretrained(folder);
    const model = await library[TASKS[head][1]].from_pretrained(folder, { ...options, progress_callback });
    return Object.assign(new Reader(), { library, config, task: TASKS[head][0], tokenizer, model, say });
  }

  get limit() {
    return this.tokenizer.model_max_length;
  }

  async run(inputs) {
    const tensor = (numbers) => new this.library.Tensor("int64", BigInt64Array.from(numbers, BigInt), [1, numbers.length]);
    return await this.model(Object.fromEntries(Object.entries(inputs).map(([name, one]) => [name, tensor(one)])));
  }

  /** Runs all parts of the text, with a question in front of each if one is given: what `take` makes of each. */
  async all(question, take) {
    const around = frame(this.tokenizer, question);
    const room = this.limit - around.before.length - around.after.length;
    if (room < 16) throw Error(`the question is longer than the model reads, ${this.limit} tokens: ask a shorter one`);
    const pieces = parts(this.tokens.ids.length, room);
    const found = [];
    for (const [index, part] of pieces.entries()) {
      this.say({ what: "reading", done: index, of: pieces.length });
      found.push(take(await this.run(framed(around, this.tokens.ids, part)), part, around.before.length));
    }
    this.parts = pieces.length;
    return found;
  }

  /** Reads a text: what can be said of it without a question. */
  async read(text) {
    this.text = text;
    this.tokens = align(this.tokenizer, text);
    if (!this.tokens.ids.length) throw Error("there is no text to read");
    const facts = () => ({ tokens: this.tokens.ids.length, limit: this.limit, parts: this.parts });
    this.parts = 0;
    const found = this.task === "question-answering" ? {} : await this[this.task]();
    return { ...found, ...facts() };
  }

  /** What the text says to a question: passages for search, answers otherwise. */
  async ask(question) {
    if (this.task === "search") {
      return { passages: nearest(this.passages, await this.embed(question), SHOWN) };
    }
    const found = await this.all(question, ({ start_logits, end_logits }, part, offset) =>
      answers(start_logits.data, end_logits.data, offset, part, this.tokens, SHOWN),
    );
    const none = Math.min(...found.map((part) => part.none));
    const kept = best(found.flatMap((part) => part.found), SHOWN);
    const scores = probabilities([...kept.map(({ score }) => score), none]);
    return {
      answers: kept.map((answer, index) => ({ ...answer, score: scores[index] })),
      none: scores.at(-1),
      parts: this.parts,
    };
  }

  /** The embedding of a short text, as the checkpoint makes it: `pooling` and `normalize` of its config.json. */
  async embed(text) {
    const { pooling = "mean", normalize = true } = this.config.embedding ?? {};
    const around = frame(this.tokenizer);
    const ids = this.tokenizer.encode(text, { add_special_tokens: false }).map(Number);
    const room = this.limit - around.before.length - around.after.length;
    if (ids.length > room) throw Error(`a question has at most ${room} tokens, got ${ids.length}`);
    const { last_hidden_state } = await this.run(framed(around, ids, { start: 0, end: ids.length }));
    const [, length, size] = last_hidden_state.dims;
    const rows = { mean: [0, length], cls: [0, 1], last_token: [length - 1, length] }[pooling];
    if (!rows) throw Error(`the page does not know pooling ${pooling}`);
    return pooled(last_hidden_state.data, size, ...rows, normalize);
  }

  // A passage is the mean of its tokens as the model saw them in the whole document. Models that pool otherwise are asked
  // for every passage by itself.
  async search() {
    this.passages = passages(this.text, this.tokens);
    if ((this.config.embedding?.pooling ?? "mean") !== "mean") {
      for (const [index, passage] of this.passages.entries()) {
        this.say({ what: "reading", done: index, of: this.passages.length });
        passage.vector = await this.embed(this.text.slice(passage.start, passage.end));
      }
      this.parts = this.passages.length;
      return { count: this.passages.length };
    }
    const states = await this.perToken("last_hidden_state");
    for (const one of this.passages) one.vector = pooled(states.data, states.size, one.first, one.behind, true);
    return { count: this.passages.length };
  }

  async "text-classification"() {
    const found = await this.all(null, ({ logits }, { start, end }) => ({
      start: this.tokens.starts[start],
      end: this.tokens.ends[end - 1],
      labels: labels(logits.data, this.config),
    }));
    return { labels: found };
  }

  async "token-classification"() {
    const logits = await this.perToken("logits");
    return { entities: entities(logits.data, logits.size, this.tokens, this.config.id2label ?? {}) };
  }

  async "fill-mask"() {
    const { mask_token, mask_token_id } = this.tokenizer;
    const places = [...this.tokens.ids.keys()].filter((token) => this.tokens.ids[token] === mask_token_id);
    if (!places.length) return { masks: [], mask: mask_token };
    const found = await this.all(null, ({ logits }, part, offset) => {
      const size = logits.dims[2];
      return places
        .filter((token) => part.from <= token && token < part.to)
        .map((token) => {
          const row = offset + token - part.start;
          const words = top(logits.data.subarray(row * size, (row + 1) * size), SHOWN);
          return {
            start: this.tokens.starts[token],
            end: this.tokens.ends[token],
            words: words.map(({ id, score }) => ({ word: this.tokenizer.decode([id]).trim(), score })),
          };
        });
    });
    return { masks: found.flat(), mask: mask_token };
  }

  /** An output per token of the text, each from the part in which it stands farthest from an edge. */
  async perToken(name) {
    let data = null;
    let size = 0;
    await this.all(null, (outputs, { start, from, to }, offset) => {
      size = outputs[name].dims[2];
      data ??= new Float32Array(this.tokens.ids.length * size);
      data.set(outputs[name].data.subarray((offset + from - start) * size, (offset + to - start) * size), from * size);
    });
    return { data, size };
  }
}
