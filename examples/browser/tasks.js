// Copyright 2026 The hf-longformer authors.
// SPDX-License-Identifier: Apache-2.0
// What is made of a model's outputs: passages, labels, entities, answers and words for masks. All take plain arrays.

const PASSAGE = 96; // tokens, about four sentences
const LONGEST_ANSWER = 30; // tokens, as in Transformers' pipeline

/** Probabilities of scores, one of which is certain (softmax). */
export function probabilities(scores) {
  const largest = scores.reduce((one, other) => Math.max(one, other), -Infinity);
  const raised = Array.from(scores, (score) => Math.exp(score - largest));
  const sum = raised.reduce((one, other) => one + other, 0);
  return raised.map((one) => one / sum);
}

const sigmoid = (score) => 1 / (1 + Math.exp(-score));

/** The mean of rows `start` to `end` of `states` (rows of `size` numbers), of length 1 if `normalize`. */
export function pooled(states, size, start, end, normalize) {
  const mean = new Float64Array(size);
  for (let row = start; row < end; row++) for (let i = 0; i < size; i++) mean[i] += states[row * size + i];
  for (let i = 0; i < size; i++) mean[i] /= end - start;
  return normalize ? unit(mean) : mean;
}

export function unit(vector) {
  const length = Math.max(Math.hypot(...vector), 1e-12);
  return vector.map((one) => one / length);
}

/** Sentences, joined to passages of about `PASSAGE` tokens: `{ start, end }` in characters, `first` and `behind` in tokens. */
export function passages(text, tokens) {
  const found = [];
  let token = 0;
  for (const { index, segment } of new Intl.Segmenter(undefined, { granularity: "sentence" }).segment(text)) {
    const end = index + segment.trimEnd().length;
    const first = token;
    while (token < tokens.ids.length && tokens.starts[token] < index + segment.length) token++;
    if (token === first) continue;
    const last = found.at(-1);
    if (last && token - last.first <= PASSAGE && !last.closed) [last.end, last.behind] = [end, token];
    else found.push({ start: index + segment.length - segment.trimStart().length, end, first, behind: token });
    found.at(-1).closed = /\n\s*\n\s*$/.test(segment) && token - found.at(-1).first > PASSAGE / 2;
  }
  return found;
}

/** The passages in the order of their likeness (cosine) to a query. */
export function nearest(passages, query, count) {
  const wanted = unit(query);
  const score = ({ vector }) => unit(vector).reduce((sum, one, index) => sum + one * wanted[index], 0);
  return passages
    .map(({ start, end, ...passage }) => ({ start, end, score: score(passage) }))
    .sort((one, other) => other.score - one.score)
    .slice(0, count);
}

/** Labels with their probabilities, or the number that a regression predicts. */
export function labels(logits, config) {
  const names = config.id2label ?? {};
  if (config.problem_type === "regression" || (logits.length === 1 && !config.problem_type)) {
    return Array.from(logits, (value, index) => ({ label: names[index] ?? "value", value }));
  }
  const scores = config.problem_type === "multi_label_classification" ? Array.from(logits, sigmoid) : probabilities(logits);
  return scores
    .map((score, index) => ({ label: names[index] ?? `LABEL_${index}`, score }))
    .sort((one, other) => other.score - one.score);
}

/** Entities `{ start, end, label, score }`: the first token of a word decides; words with one tag in a row are one entity. */
export function entities(logits, size, tokens, id2label) {
  const found = [];
  let open = null;
  for (let token = 0; token < tokens.ids.length; token++) {
    const [start, end] = [tokens.starts[token], tokens.ends[token]];
    if (token > 0 && start === tokens.starts[token - 1] && end === tokens.ends[token - 1]) continue; // the same word
    const scores = probabilities(logits.subarray(token * size, (token + 1) * size));
    const best = scores.indexOf(Math.max(...scores));
    const tag = id2label[best] ?? `LABEL_${best}`;
    const [prefix, label] = /^[BIES]-/.test(tag) ? [tag[0], tag.slice(2)] : ["I", tag];
    if (tag === "O") {
      open = null;
    } else if (open?.label === label && "IE".includes(prefix)) {
      open.end = end;
      open.scores.push(scores[best]);
    } else {
      open = { start, end, label, scores: [scores[best]] };
      found.push(open);
    }
    if ("ES".includes(prefix)) open = null;
  }
  const mean = (numbers) => numbers.reduce((one, other) => one + other, 0) / numbers.length;
  return found.map(({ scores, ...entity }) => ({ ...entity, score: mean(scores) }));
}

/**
 * The best answers in a part of a text, by the sum of their logits at start and end; `offset` is where the text begins
 * among the outputs. `none` is the score of there being no answer, that of the first token.
 */
export function answers(starts, ends, offset, part, tokens, count) {
  const found = [];
  for (let first = part.start; first < part.end; first++) {
    const score = starts[offset + first - part.start];
    for (let last = first; last < Math.min(part.end, first + LONGEST_ANSWER); last++) {
      const sum = score + ends[offset + last - part.start];
      if (found.length < count * 8 || sum > found.at(-1).score) {
        found.push({ start: tokens.starts[first], end: tokens.ends[last], score: sum });
        found.sort((one, other) => other.score - one.score);
        found.length = Math.min(found.length, count * 8);
      }
    }
  }
  return { found, none: starts[0] + ends[0] };
}

/** The answers of all parts in one order, none of which overlaps a better one. */
export function best(found, count) {
  const kept = [];
  for (const answer of found.sort((one, other) => other.score - one.score)) {
    if (kept.length < count && kept.every(({ start, end }) => answer.end <= start || end <= answer.start)) kept.push(answer);
  }
  return kept;
}

/** The `count` most probable tokens: `{ id, score }`. */
export function top(logits, count) {
  const scores = probabilities(logits);
  const order = [...scores.keys()].sort((one, other) => scores[other] - scores[one]);
  return order.slice(0, count).map((id) => ({ id, score: scores[id] }));
}
