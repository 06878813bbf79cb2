// What the pages can do besides being read. Nothing here is needed for reading.
"use strict";

// --- live: word from the server makes htmx look at once; without it htmx looks every few seconds.
const KINDS = ["run-submitted", "run-cancelling", "run-finished", "cell-finished", "attempt-started", "attempt-finished",
  "phase-started", "phase-ended", "guest", "tests", "artifact", "held", "hold-moved", "ended", "end"];
const GATHER_MS = 400;
let source = null;
let waiting = null;

function news(event) {
  const cell = document.getElementById("live")?.dataset.cell;
  if (waiting || (cell && event.data && ![cell, null, undefined].includes(JSON.parse(event.data).cell))) return;
  waiting = setTimeout(() => {
    waiting = null;
    const live = document.getElementById("live");
    if (live && live.dataset.events) htmx.trigger(live, "news");
  }, GATHER_MS);
}

function listen() {
  const live = document.getElementById("live");
  const run = live && live.dataset.events;
  if (!run) {
    if (source) source.close();
    source = null;
    return;
  }
  if (source || !window.EventSource) return;
  source = new EventSource(`/api/v1/runs/${encodeURIComponent(run)}/events?after=${live.dataset.seen}`);
  source.onmessage = news;
  for (const kind of KINDS) source.addEventListener(kind, news);
  source.addEventListener("end", () => source.close());
}

// --- copying commands
function offerToCopy(root) {
  if (!navigator.clipboard) return;
  for (const code of root.querySelectorAll("[data-copy]:not([data-ready])")) {
    code.dataset.ready = "";
    const text = code.textContent;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    button.textContent = "Copy";
    button.addEventListener("click", async () => {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    });
    code.prepend(button);
  }
}

// --- logs: staying at the end while they grow, and searching
function atEnd(log) {
  return log.scrollHeight - log.scrollTop - log.clientHeight < 40;
}

function toEnd() {
  const log = document.getElementById("story");
  if (log && log.querySelector(".more")) log.scrollTop = log.scrollHeight;
}

class Search {
  constructor(form) {
    this.form = form;
    this.text = form.querySelector("input[type=search]");
    this.only = form.querySelector("[data-only]");
    this.output = form.querySelector("output");
    this.place = -1;
    this.hits = [];
    form.hidden = false;
    form.addEventListener("submit", (event) => event.preventDefault());
    this.text.addEventListener("input", () => this.look());
    this.text.addEventListener("keydown", (event) => {
      if (event.key === "Enter") this.step(event.shiftKey ? -1 : 1);
      if (event.key === "Escape") { this.text.value = ""; this.look(); }
    });
    this.only.addEventListener("change", () => this.look());
    for (const button of form.querySelectorAll("[data-step]")) {
      button.addEventListener("click", () => this.step(Number(button.dataset.step)));
    }
  }

  get log() {
    return document.getElementById(this.form.dataset.search);
  }

  look(keep = false) {
    const wanted = this.text.value.toLowerCase();
    this.hits = [];
    for (const line of this.log.querySelectorAll(".line")) {
      const hit = wanted !== "" && line.textContent.toLowerCase().includes(wanted);
      line.classList.toggle("hit", hit);
      line.classList.remove("now");
      if (hit) this.hits.push(line);
    }
    this.log.classList.toggle("only", this.only.checked && wanted !== "");
    if (!keep) this.place = -1;
    this.tell();
    if (!keep && this.hits.length) this.step(1);
  }

  step(by) {
    if (!this.hits.length) return;
    this.hits[this.place]?.classList.remove("now");
    this.place = (this.place + by + this.hits.length) % this.hits.length;
    const line = this.hits[this.place];
    line.classList.add("now");
    const log = this.log;
    log.scrollTop = line.offsetTop - log.offsetTop - log.clientHeight / 3;
    this.tell();
  }

  tell() {
    const found = this.hits.length;
    this.output.textContent = this.text.value === "" ? "" : found ? `${Math.max(0, this.place) + 1} of ${found} lines` : "in no line";
  }
}

let search = null;

function prepare(root) {
  offerToCopy(root);
  const form = document.querySelector("form[data-search]");
  if (form && form.hidden) search = new Search(form);
}

let stay = false;
document.addEventListener("htmx:beforeSwap", () => {
  const log = document.getElementById("story");
  stay = log !== null && atEnd(log);
});
document.addEventListener("htmx:afterSettle", () => {
  prepare(document.body);
  listen();
  if (stay) toEnd();
  if (search && search.log && search.text.value !== "") search.look(true);
});
document.addEventListener("DOMContentLoaded", () => {
  prepare(document.body);
  listen();
  toEnd();
});
