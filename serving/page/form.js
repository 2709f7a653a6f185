"use strict";

const settings = SETTINGS;
const $ = (id) => document.getElementById(id);

function field(name, label, kind) {
  const box = document.createElement("label");
  const entry = document.createElement(kind === "document" ? "textarea" : "input");
  entry.name = name;
  if (kind === "password") Object.assign(entry, { type: "password", autocomplete: "off" });
  if (kind === "document") entry.placeholder = name === "text_pair" ? "Optional" : "Paste a document of any length";
  entry.setAttribute("dir", "auto");
  box.append(label, entry);
  return box;
}

function say(words) {
  $("error").textContent = words;
  $("error").hidden = !words;
}

const kinds = { text: "document", context: "document", text_pair: "document" };
for (const [name, label] of Object.entries(settings.fields)) $("fields").append(field(name, label, kinds[name]));
if (settings.key) $("fields").append(field("key", "Key", "password"));
say(settings.refusal);
$("send").disabled = Boolean(settings.refusal);

$("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const row = Object.fromEntries(new FormData($("form")));
  const headers = { "Content-Type": "application/json" };
  if (settings.key) headers.Authorization = `Bearer ${row.key}`;
  delete row.key;
  say("");
  $("view").hidden = true;
  $("send").disabled = true;
  $("status").textContent = "The model reads …";
  const begin = performance.now();
  try {
    const answer = await fetch("page", { method: "POST", headers, body: JSON.stringify(row) });
    if (answer.ok) {
      $("view").srcdoc = await answer.text();
      $("view").hidden = false;
      $("status").textContent = `${((performance.now() - begin) / 1000).toFixed(1)} s`;
    } else {
      say((await answer.json()).error.message);
      $("status").textContent = "";
    }
  } catch (error) {
    say(`The server did not answer: ${error.message}`);
    $("status").textContent = "";
  }
  $("send").disabled = false;
});
