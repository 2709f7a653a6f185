"use strict";

const COLOURS = 12;
const NOTHING = { chains: [], marks: [], parts: [], facts: [] };
const [CHAIN, NOTE, WORDS, BEFORE, BEHIND, START, END] = [0, 1, 2, 3, 4, 5, 6]; // of a mark
const $ = (id) => document.getElementById(id);
const read = (id) => JSON.parse($(id).textContent);

const titles = read("index");
let shown = NOTHING; // the document
let places = []; // per mark the elements of its pieces
let marksOf = []; // per chain the numbers of its marks, in the order in which they are read
let chain = null; // the chosen one
let step = 0; // which of its marks

function element(name, words, ...classes) {
  const made = document.createElement(name);
  made.textContent = words;
  made.classList.add(...classes);
  return made;
}

function colour(number) {
  return `k${number % COLOURS}`;
}

function count(number, what) {
  return `${number} ${what}${number === 1 ? "" : "s"}`;
}

function say(id, words) {
  $(id).textContent = words;
  $(id).hidden = !words;
}

function open(number) {
  shown = { ...NOTHING, ...read(`document-${number + 1}`) };
  chain = null;
  $("documents").selectedIndex = number;
  $("earlier").disabled = number === 0;
  $("later").disabled = number === titles.length - 1;
  $("of").textContent = `of ${titles.length}`;
  document.title = titles[number];
  say("error", shown.error || "");
  say("question", shown.question || "");
  say("pair", shown.text_pair || "");
  $("facts").hidden = !shown.facts.length;
  $("facts").replaceChildren(...shown.facts.flatMap(([name, value]) => [element("dt", name), element("dd", value)]));
  marksOf = shown.chains.map(() => []);
  shown.marks.forEach((mark, index) => marksOf[mark[CHAIN]].push(index));
  drawText();
  const answer = shown.chains.findIndex((one) => one.kind === "answer");
  $("text").classList.remove("chosen");
  listChains();
  $("main").scrollTop = 0;
  if (answer >= 0) choose(answer, 0);
}

function drawText() {
  places = shown.marks.map(() => []);
  const drawn = document.createDocumentFragment();
  for (const part of shown.parts) {
    const box = element("div", "", "part");
    let size = 0;
    for (const piece of part) {
      if (typeof piece === "string") {
        size += piece.length;
        box.append(piece);
        continue;
      }
      const [words, ...marks] = piece;
      size += words.length;
      const inner = marks[marks.length - 1]; // the shortest
      const made = element("span", words, "mark", colour(shown.marks[inner][CHAIN]));
      made.dataset.marks = marks.join(" ");
      if (marks.length > 1) made.dataset.depth = Math.min(marks.length, 3);
      marks.forEach((mark) => places[mark].push(made));
      box.append(made);
    }
    box.style.containIntrinsicBlockSize = `auto ${Math.ceil(size / 75) * 1.86}rem`;
    drawn.append(box);
  }
  shown.marks.forEach((mark, index) => {
    const { kind, name } = shown.chains[mark[CHAIN]];
    const last = places[index][places[index].length - 1];
    if (kind === "entity") last.dataset.kind = last.dataset.kind ? `${last.dataset.kind} ${name}` : name;
  });
  $("text").replaceChildren(drawn);
}

function button(index, name, many, ...before) {
  const made = element("button", "");
  made.type = "button";
  made.dataset.index = index;
  made.append(...before, name, element("span", many, "many"));
  const item = document.createElement("li");
  item.append(made);
  return item;
}

function listChains() {
  const entities = shown.chains.length && shown.chains.every((one) => one.kind === "entity");
  say("heading", shown.chains.length ? count(shown.chains.length, entities ? "kind" : "chain") : "Nothing is marked");
  say("status", shown.marks.length ? count(shown.marks.length, "mark") : "");
  $("status").hidden = false;
  $("back").hidden = $("steps").hidden = true;
  document.body.classList.toggle("bare", !shown.marks.length);
  const items = shown.chains.map(({ name, size }, index) =>
    button(index, element("span", name, "name"), `× ${size}`, element("span", "", "swatch", colour(index))));
  $("list").replaceChildren(...items);
}

function listMarks() {
  const { kind, name, size } = shown.chains[chain];
  say("heading", name);
  $("back").hidden = $("steps").hidden = false;
  const items = marksOf[chain].map((index, position) => {
    const mark = shown.marks[index];
    const words = element("span", "", "name");
    words.append(element("span", mark[BEFORE], "around"), element("strong", mark[WORDS]), element("span", mark[BEHIND], "around"));
    const item = button(position, words, mark[NOTE]);
    item.firstChild.title = `characters ${mark[START]} to ${mark[END]}`;
    return item;
  });
  $("list").replaceChildren(...items);
  $("list").setAttribute("aria-label", `${kind} ${name}, ${count(size, "mark")}`);
}

function light(on) {
  if (chain === null) return;
  for (const index of marksOf[chain]) {
    for (const piece of places[index]) {
      piece.classList.toggle("on", on);
      if (!on) piece.classList.remove("now");
      const marks = piece.dataset.marks.split(" ");
      const inner = marks[marks.length - 1];
      piece.classList.remove(colour(on ? shown.marks[inner][CHAIN] : chain));
      piece.classList.add(colour(on ? chain : shown.marks[inner][CHAIN]));
    }
  }
  $("text").classList.toggle("chosen", on);
}

function choose(which, position) {
  if (which !== chain) {
    light(false);
    chain = which;
    light(true);
    listMarks();
    step = position;
  }
  go(position);
}

function go(position) {
  const marks = marksOf[chain];
  places[marks[step]].forEach((piece) => piece.classList.remove("now"));
  $("list").children[step].firstChild.removeAttribute("aria-current");
  step = (position + marks.length) % marks.length;
  const pieces = places[marks[step]];
  pieces.forEach((piece) => piece.classList.add("now"));
  const listed = $("list").children[step].firstChild;
  listed.setAttribute("aria-current", "true");
  listed.scrollIntoView({ block: "nearest" });
  if ($("list").contains(document.activeElement)) listed.focus({ preventScroll: true });
  pieces[0].scrollIntoView({ block: "center" });
  const mark = shown.marks[marks[step]];
  $("status").textContent = `${step + 1} of ${marks.length}: ${mark[WORDS]} ${mark[NOTE]}`;
}

function leave() {
  if (chain === null) return;
  const left = chain;
  light(false);
  chain = null;
  listChains();
  $("list").children[left].firstChild.focus({ preventScroll: true });
}

function move(by) {
  if (chain !== null) go(step + by);
  else if (shown.marks.length) {
    const first = shown.marks.reduce((best, mark, index) => (mark[START] < shown.marks[best][START] ? index : best), 0);
    choose(shown.marks[first][CHAIN], marksOf[shown.marks[first][CHAIN]].indexOf(first));
  }
}

$("text").addEventListener("click", (event) => {
  const piece = event.target.closest(".mark");
  if (!piece || String(getSelection())) return;
  const marks = piece.dataset.marks.split(" ").map(Number).reverse(); // the shortest first
  const at = marks.findIndex((index) => shown.marks[index][CHAIN] === chain && marksOf[chain][step] === index);
  const index = marks[(at + 1) % marks.length]; // a second click chooses the mark around it
  choose(shown.marks[index][CHAIN], marksOf[shown.marks[index][CHAIN]].indexOf(index));
});

$("list").addEventListener("click", (event) => {
  const chosen = event.target.closest("button");
  if (!chosen) return;
  const index = Number(chosen.dataset.index);
  if (chain === null) {
    choose(index, 0);
    $("list").children[0].firstChild.focus({ preventScroll: true });
  } else go(index);
});

$("back").addEventListener("click", leave);
$("next").addEventListener("click", () => move(1));
$("previous").addEventListener("click", () => move(-1));
$("documents").addEventListener("change", (event) => open(event.target.selectedIndex));
$("earlier").addEventListener("click", () => open($("documents").selectedIndex - 1));
$("later").addEventListener("click", () => open($("documents").selectedIndex + 1));

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "SELECT") return;
  const forward = event.key === "n" || (chain !== null && ["ArrowRight", "ArrowDown"].includes(event.key));
  const back = event.key === "p" || (chain !== null && ["ArrowLeft", "ArrowUp"].includes(event.key));
  if (forward || back) move(forward ? 1 : -1);
  else if (event.key === "Escape" && chain !== null) leave();
  else return;
  event.preventDefault();
});

$("documents").replaceChildren(...titles.map((title) => element("option", title)));
open(0);
