// Copyright 2026 The hf-longformer authors.
// SPDX-License-Identifier: Apache-2.0
// The page: a document in, marks and a list out. The model runs in worker.js.

const parameters = new URLSearchParams(location.search);
const folder = /^[\w.-]+$/.test(parameters.get("model") ?? "") ? parameters.get("model") : "model";
const find = (id) => document.getElementById(id);
const [source, shown, list, status, progress] = ["source", "document", "list", "status", "progress"].map(find);
const DTYPES = { q8: ["8-bit", "_quantized"], fp16: ["16-bit", "_fp16"], fp32: ["32-bit", ""] };
const ASK = {
  search: ["Search the document by meaning", "What it says of …"],
  "question-answering": ["Ask the document a question", "Who …?"],
};
const HEADINGS = {
  search: "Nearest passages",
  "question-answering": "Answers",
  "text-classification": "Labels",
  "token-classification": "Entities",
  "fill-mask": "Masks",
};

let worker, model, text, marks, current, clock;

// ---- the worker -----------------------------------------------------------------------------------------------------

const waiting = new Map();
let calls = 0;

function call(name, given = {}) {
  return new Promise((resolve, reject) => {
    waiting.set(++calls, { resolve, reject });
    worker.postMessage({ id: calls, name, ...given });
  });
}

function listen() {
  worker = new Worker("worker.js", { type: "module" });
  worker.onmessage = ({ data: { id, progress: step, result, seconds, error } }) => {
    if (step) return show_progress(step);
    const { resolve, reject } = waiting.get(id);
    waiting.delete(id);
    if (error) reject(Error(error));
    else resolve({ ...result, seconds });
  };
  worker.onerror = ({ message }) => {
    for (const { reject } of waiting.values()) reject(Error(message ?? "the worker did not start"));
    waiting.clear();
  };
}

/** Runs something that lasts: the status counts seconds, and an error is said instead of the result. */
async function busy(what, run) {
  const began = performance.now();
  const seconds = () => `${((performance.now() - began) / 1000).toFixed(1)} s`;
  say(what);
  progress.hidden = false;
  progress.removeAttribute("value");
  clock = { what, tick: setInterval(() => say(`${clock.what} · ${seconds()}`), 100) };
  document.body.setAttribute("aria-busy", "true");
  for (const button of document.querySelectorAll("form .primary")) button.disabled = true;
  try {
    await run();
  } catch (error) {
    say(error.message, true);
  } finally {
    clearInterval(clock.tick);
    clock = null;
    progress.hidden = true;
    document.body.removeAttribute("aria-busy");
    for (const button of document.querySelectorAll("form .primary")) button.disabled = !model;
    measure();
  }
}

function show_progress({ what, done, of }) {
  if (!clock) return;
  const mebibytes = what.startsWith("loading");
  clock.what = mebibytes ? `${what}, ${megabytes(done)} of ${megabytes(of)}` : of > 1 ? `${what}, part ${done + 1} of ${of}` : what;
  if (of > 1) [progress.max, progress.value] = [of, done];
}

const megabytes = (bytes) => `${(bytes / 1e6).toFixed(0)} MB`;
const count = (number, one) => `${number.toLocaleString("en")} ${one}${number === 1 ? "" : "s"}`;

function say(what, bad = false) {
  status.textContent = what;
  status.classList.toggle("bad", bad);
}

// ---- the model ------------------------------------------------------------------------------------------------------

async function start() {
  await isolate();
  const sizes = await Promise.all(
    Object.entries(DTYPES).map(async ([dtype, [, suffix]]) => {
      const answer = await fetch(`${folder}/onnx/model${suffix}.onnx`, { method: "HEAD" });
      return answer.ok ? [dtype, Number(answer.headers.get("Content-Length"))] : null;
    }),
  );
  const found = sizes.filter(Boolean);
  if (!found.length) {
    return say(`There is no model in the folder ${folder}: hf-longformer export CHECKPOINT ${folder} --format web`, true);
  }
  for (const [dtype, bytes] of found) find("dtype").add(new Option(`${DTYPES[dtype][0]}, ${megabytes(bytes)}`, dtype));
  if (DTYPES[parameters.get("dtype")]) find("dtype").value = parameters.get("dtype");
  find("files").hidden = false;
  await load();
}

/** Has isolate.js send its headers, which takes one more loading of the page; without it everything runs, in one thread. */
async function isolate() {
  if (crossOriginIsolated || !navigator.serviceWorker || parameters.has("alone")) return;
  try {
    await navigator.serviceWorker.register("isolate.js");
    await navigator.serviceWorker.ready;
    if (!sessionStorage.getItem("isolated")) {
      sessionStorage.setItem("isolated", "tried");
      location.reload();
      await new Promise(() => {});
    }
  } catch {
    return; // such as in a private window
  }
}

async function load() {
  worker?.terminate();
  waiting.clear();
  model = null;
  back();
  await busy("loading the model", async () => {
    listen();
    const threads = Number(parameters.get("threads")) || null;
    model = await call("load", { folder, dtype: find("dtype").value, threads });
    const kind = model.task.replace("-", " ");
    find("model").textContent = `${folder} · ${kind} · ${count(model.limit, "token")} at once · nothing leaves this machine`;
    say(`ready in ${model.seconds.toFixed(1)} s`);
  });
}

// ---- the document ---------------------------------------------------------------------------------------------------

function measure() {
  const words = source.value.split(/\s+/).filter(Boolean).length;
  find("size").textContent = words ? count(words, "word") : "";
  find("read").disabled = !model || !words || clock != null;
}

function back() {
  shown.hidden = find("bar").hidden = find("ask").hidden = find("note").hidden = true;
  find("edit").hidden = find("help").hidden = false;
  list.replaceChildren();
  measure();
}

async function read() {
  text = source.value;
  await busy("reading", async () => {
    const found = await call("read", { text });
    find("edit").hidden = find("help").hidden = true;
    shown.hidden = find("bar").hidden = false;
    find("heading").textContent = HEADINGS[model.task];
    const asks = ASK[model.task];
    find("ask").hidden = !asks;
    if (asks) [find("asks").textContent, find("question").placeholder] = asks;
    SHOW[model.task](found);
    const parts = found.parts > 1 && model.task !== "search" ? ` in ${found.parts} parts that overlap` : "";
    const took = found.parts ? ` in ${found.seconds.toFixed(1)} s` : "";
    say(`read ${count(found.tokens, "token")}${parts}${took}`);
    find(asks ? "question" : "document").focus();
  });
}

async function ask() {
  const question = find("question").value.trim();
  if (!question) return;
  await busy("looking", async () => {
    const found = await call("ask", { question });
    const items = found.passages ?? found.answers;
    show(items.map((one, index) => ({ ...one, kind: 0, head: found.passages ? `${index + 1}` : words(one), below: around(one) })));
    if (found.answers) note(`that there is no answer: ${percent(found.none)}`);
    if (marks.length) choose(0);
    say(`found in ${found.seconds.toFixed(1)} s`);
  });
}

const words = ({ start, end }) => text.slice(start, end).replace(/\s+/g, " ");
const around = (one) => words({ start: one.end - one.start > 60 ? one.start : Math.max(0, one.start - 60), end: one.end + 60 });
const percent = (score) => `${(100 * score).toFixed(1)} %`;

function note(what) {
  find("note").textContent = what;
  find("note").hidden = !what;
}

const SHOW = {
  search({ count: number }) {
    show([]);
    note(`${count(number, "passage")} can be searched.`);
  },
  "question-answering"() {
    show([]);
    note("");
  },
  "text-classification"({ labels }) {
    const parts = labels.length > 1;
    show(
      labels.flatMap((part, index) =>
        part.labels.slice(0, parts ? 2 : 12).map(({ label, score, value }) => ({
          start: part.start,
          end: part.end,
          plain: true,
          head: parts ? `part ${index + 1}: ${label}` : label,
          score,
          number: value?.toFixed(3),
        })),
      ),
    );
    note(parts ? `The model reads ${count(model.limit, "token")} at once: every part has labels of its own.` : "");
  },
  "token-classification"({ entities }) {
    const kinds = [...new Set(entities.map(({ label }) => label))].sort();
    show(entities.map((one) => ({ ...one, kind: kinds.indexOf(one.label) % 10, head: words(one), below: one.label })));
    note(`${entities.length.toLocaleString("en")} of ${count(kinds.length, "kind")}`);
  },
  "fill-mask"({ masks, mask }) {
    const below = (one) => one.words.map(({ word, score }) => `${word} ${percent(score)}`).join(" · ");
    show(masks.map((one) => ({ ...one, kind: 0, head: one.words[0].word, label: one.words[0].word, below: below(one) })));
    note(masks.length ? "" : `There is no ${mask} in the document: write one where a word is to be found.`);
  },
};

// ---- marks and the list ---------------------------------------------------------------------------------------------

/** Marks `{ start, end, kind, head, below, score }` in the text and in the list, in the order given. */
function show(items) {
  marks = items;
  current = -1;
  const pieces = [];
  let at = 0;
  for (const item of [...items].filter(({ plain }) => !plain).sort((one, other) => one.start - other.start)) {
    pieces.push(text.slice(at, item.start));
    const mark = document.createElement("mark");
    mark.className = `k${item.kind}`;
    mark.textContent = text.slice(item.start, item.end);
    if (item.label) mark.dataset.label = item.label;
    mark.addEventListener("click", () => choose(items.indexOf(item)));
    item.mark = mark;
    pieces.push(mark);
    at = item.end;
  }
  shown.replaceChildren(...pieces, text.slice(at));
  list.replaceChildren(...items.map(entry));
  for (const id of ["previous", "next"]) find(id).hidden = !items.some(({ mark }) => mark);
}

function entry(item, index) {
  const button = document.createElement("button");
  button.type = "button";
  const line = element("span", "head");
  if (!item.plain) line.append(element("span", `swatch k${item.kind}`));
  line.append(element("span", "", item.head));
  const score = item.number ?? (item.score === undefined ? "" : model.task === "search" ? item.score.toFixed(2) : percent(item.score));
  line.append(element("span", "score", score));
  button.append(line);
  if (item.plain && item.score !== undefined) button.append(Object.assign(element("meter"), { value: item.score }));
  if (item.below) button.append(element("span", "words", item.below));
  button.addEventListener("click", () => choose(index));
  item.button = button;
  const line_of_list = document.createElement("li");
  line_of_list.append(button);
  return line_of_list;
}

function element(name, kind = "", content = "") {
  return Object.assign(document.createElement(name), { className: kind, textContent: content });
}

function choose(index) {
  marks[current]?.mark?.classList.remove("now");
  marks[current]?.button.removeAttribute("aria-current");
  current = index;
  const { mark, button } = marks[index];
  button.setAttribute("aria-current", "true");
  button.scrollIntoView({ block: "nearest" });
  mark?.classList.add("now");
  const tall = mark && mark.offsetHeight > find("main").clientHeight * 0.6;
  mark?.scrollIntoView({ block: tall ? "start" : "center" });
}

function step(by) {
  if (marks?.length) choose((current + by + marks.length) % marks.length);
}

// ---- what a person does ---------------------------------------------------------------------------------------------

async function take(given) {
  if (!shown.hidden) back();
  source.value = typeof given === "string" ? given : await given.text();
  measure();
  source.focus();
}

find("edit").addEventListener("submit", (event) => (event.preventDefault(), read()));
find("ask").addEventListener("submit", (event) => (event.preventDefault(), ask()));
find("open").addEventListener("click", () => find("file").click());
find("file").addEventListener("change", ({ target }) => target.files[0] && take(target.files[0]));
find("again").addEventListener("click", () => (back(), source.focus()));
find("previous").addEventListener("click", () => step(-1));
find("next").addEventListener("click", () => step(1));
find("dtype").addEventListener("change", load);
source.addEventListener("input", measure);
source.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !find("read").disabled) read();
});
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea, select")) return;
  if (event.key === "n") step(1);
  if (event.key === "p") step(-1);
  if (event.key === "/" && !find("ask").hidden) (event.preventDefault(), find("question").focus());
});
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    document.body.classList.toggle("dropping", kind === "dragover");
    const dropped = kind === "drop" && (event.dataTransfer.files[0] ?? event.dataTransfer.getData("text/plain"));
    if (dropped && clock == null) take(dropped);
  });
}
document.body.hf = { call }; // for tests
start().catch((error) => say(error.message, true));
