// Copyright 2026 The hf-longformer authors.
// SPDX-License-Identifier: Apache-2.0
// Which characters every token stands for, and the parts of a text that a model reads one after the other.
// Transformers.js gives neither places of tokens nor a truncation that keeps the closing special token.

// A text is cut before its line breaks, its words before their spaces, and a word between letters and other signs. A cut
// counts only if the pieces give the tokens of the whole; otherwise its tokens stand for all of it.
const CUTS = [
  /(?<!\s)(?=\s*\n)/u,
  /(?<!\s)(?=\s)/u,
  /(?<=[\p{L}\p{M}\p{N}])(?=[^\p{L}\p{M}\p{N}\s])|(?<=[^\p{L}\p{M}\p{N}\s])(?=\S)/u,
];

/** The tokens of a text without special ones: `ids`, and the characters `starts[i]` to `ends[i]` of each. */
export function align(tokenizer, text) {
  const known = new Map();
  const encode = (piece) => {
    if (!known.has(piece)) known.set(piece, tokenizer.encode(piece, { add_special_tokens: false }));
    return known.get(piece);
  };
  const found = { ids: [], starts: [], ends: [] };
  const add = (piece, start, ids, level) => {
    const pieces = level < CUTS.length && ids.length > 1 ? piece.split(CUTS[level]) : [piece];
    const parts = pieces.length > 1 ? pieces.map(encode) : [];
    if (parts.length && same(parts.flat(), ids)) {
      pieces.forEach((one, index) => {
        add(one, start, parts[index], level + 1);
        start += one.length;
      });
    } else if (level < CUTS.length) {
      add(piece, start, ids, level + 1);
    } else {
      const first = start + piece.length - piece.trimStart().length;
      const last = Math.max(first, start + piece.trimEnd().length);
      for (const id of ids) {
        found.ids.push(Number(id));
        found.starts.push(first);
        found.ends.push(last);
      }
    }
  };
  add(text, 0, encode(text), 0);
  return found;
}

function same(some, others) {
  return some.length === others.length && some.every((id, index) => id === others[index]);
}

/** The special tokens around a text, with a question in front of it if one is given, and their token types. */
export function frame(tokenizer, question = null) {
  const [one, other] = ["a", "b"].map((text) => {
    const given = question === null ? [text] : [question, { text_pair: text }];
    return tokenizer(given[0], { ...given[1], return_tensor: false });
  });
  const differs = one.input_ids.findLastIndex((id, index) => id !== other.input_ids[index]);
  const length = tokenizer.encode("a", { add_special_tokens: false }).length;
  if (differs < 0 || one.input_ids.length !== other.input_ids.length) throw Error("the tokenizer knows no letters");
  const [start, end] = [differs + 1 - length, differs + 1];
  const types = one.token_type_ids;
  return {
    before: one.input_ids.slice(0, start).map(Number),
    after: one.input_ids.slice(end).map(Number),
    types: types && { before: types.slice(0, start), text: types[differs], after: types.slice(end) },
  };
}

/**
 * Parts `[start, end)` of `length` tokens, of at most `room` each. They overlap, and `from` to `to` are the tokens that
 * are taken from a part: those that stand nearer to its middle than to its neighbours'.
 */
export function parts(length, room) {
  if (length <= room) return [{ start: 0, end: length, from: 0, to: length }];
  const overlap = Math.min(512, Math.floor(room / 4));
  const count = Math.ceil((length - overlap) / (room - overlap));
  const found = [];
  for (let index = 0; index < count; index++) {
    const start = Math.round((index * (length - room)) / (count - 1));
    found.push({ start, end: start + room, from: start, to: start + room });
  }
  for (let index = 1; index < count; index++) {
    const middle = Math.floor((found[index - 1].end + found[index].start) / 2);
    found[index - 1].to = found[index].from = middle;
  }
  return found;
}

/** What a model is given of the tokens `[start, end)`: plain arrays of numbers. */
export function framed(frame, ids, { start, end }) {
  const input_ids = [...frame.before, ...ids.slice(start, end), ...frame.after];
  const types = frame.types && [...frame.types.before, ...Array(end - start).fill(frame.types.text), ...frame.types.after];
  return { input_ids, attention_mask: Array(input_ids.length).fill(1), ...(types && { token_type_ids: types }) };
}
