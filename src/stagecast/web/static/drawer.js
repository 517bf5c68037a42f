// <document-drawer>: all that is known of one document, beside the list.

import { call } from "./api.js";
import { copy } from "./clipboard.js";
import { coarse, count, duration, isolate, moment, shell } from "./format.js";
import { chunksOf, stateOf, stepOf, timeOf } from "./list.js";
import { setChildren, setClass, setText } from "./paint.js";
import { toDocument, toTransition } from "./store.js";

const PAGE = 1000;
const OF_DOCUMENT = ".drawer-state, .facts, .error, .drawer-body > .actions";
const MAX_ENTRIES = 100; // of the timeline
const NARROW = matchMedia("(max-width: 899px)");

class DocumentDrawer extends HTMLElement {
  connectedCallback() {
    if (this.head) return;
    this.append(document.getElementById("drawer").content.cloneNode(true));
    this.role = "region";
    this.ariaLabel = "Document";
    this.head = this.querySelector("h2");
    this.shown = null;
    this.entries = [];
    this.noted = "";
    this.querySelector(".close").addEventListener("click", () => this.onClose());
    const error = this.querySelector(".copy-error");
    error.addEventListener("click", () => copy(error, this.errorText()));
    const command = this.querySelector(".copy");
    command.addEventListener("click", () => copy(command, this.querySelector("code").textContent));
    NARROW.addEventListener("change", () => this.cover());
  }

  /** Where the drawer covers the rest, nothing there can be reached. */
  cover() {
    const covers = !this.hidden && NARROW.matches;
    for (const other of document.querySelectorAll("body > .skip, body > .top, #main")) other.inert = covers;
  }

  onClose() {}

  /** Open for a document of a batch; `actions` makes the buttons of one, `now` tells the server's time. */
  async open({ datasetId, batchId, grpc }, id, known, { actions, now }) {
    this.request = { datasetId, batchId, documentId: id };
    Object.assign(this, { actions, now });
    this.entries = [];
    this.shown = known;
    this.hidden = false;
    this.cover();
    setText(this.querySelector("code"), commandOf(this.request, grpc));
    setText(this.head.firstElementChild, known?.name ?? id);
    for (const part of this.querySelectorAll(OF_DOCUMENT)) part.hidden = true;
    this.note("Loading …");
    this.paint();
    this.querySelector(".drawer-body").scrollTop = 0;
    this.head.focus();
    await this.load();
  }

  close() {
    this.hidden = true;
    this.request = null;
    this.cover();
  }

  async load() {
    const request = this.request;
    try {
      const fetched = this.shown ?? (await fetchDocument(request));
      const transitions = await fetchTransitions(request);
      if (this.request !== request) return; // another one was opened meanwhile
      this.shown ??= fetched;
      this.note(transitions[0]?.kind === "registered" ? "" : "The earlier history is no longer retained.");
      const last = transitions.at(-1)?.revision ?? 0;
      this.entries = [...transitions, ...this.entries.filter(({ revision }) => revision > last)];
    } catch (error) {
      if (this.request !== request) return;
      this.note(`The timeline cannot be read: ${error.message}`);
    }
    this.paint();
  }

  /** Read the timeline again, after some of the history was missed. */
  reload() {
    this.entries = [];
    if (this.request) this.load();
  }

  note(text) {
    this.noted = text;
    this.paintTimeline();
  }

  paintTimeline() {
    const shown = this.entries.slice(-MAX_ENTRIES);
    setChildren(this.querySelector(".timeline"), shown, {
      keyOf: ({ revision }) => revision,
      make: makeEntry,
      fill: (entry, transition) => fillEntry(entry, transition, this.entries),
    });
    const left = this.entries.length - shown.length;
    const note = this.querySelector(".timeline-note");
    setText(note, left ? `${count(left)} earlier entries are left out; the command below lists all.` : this.noted);
    note.hidden = !note.textContent;
  }

  /** Add a transition of the watch. */
  onTransition(transition) {
    if (transition.document?.id === this.request?.documentId) this.entries.push(transition);
  }

  /** Show a document as it is now. */
  update(shown) {
    if (this.hidden) return;
    this.shown = shown ?? this.entries.at(-1)?.document ?? this.shown;
    this.paint();
  }

  paint() {
    const { shown } = this;
    const now = this.now();
    this.paintTimeline();
    if (!shown) return;
    for (const part of this.querySelectorAll(".drawer-state, .facts")) part.hidden = false;
    setText(this.head.firstElementChild, shown.name);
    const state = this.querySelector(".state");
    setText(state, stateOf(shown));
    setClass(state, `state ${stateOf(shown)}`);
    setText(this.querySelector(".since"), sinceOf(shown, now));
    setChildren(this.querySelector(".facts"), factsOf(shown, now), {
      keyOf: (_, index) => index,
      make: makeFact,
      fill: fillFact,
    });
    this.paintError(shown);
    this.actions(this.querySelector(".drawer-body > .actions"), shown);
  }

  paintError({ error }) {
    const section = this.querySelector(".error");
    section.hidden = !error;
    setText(section.querySelector(".reason"), error?.reason ?? "");
    const text = section.querySelector("pre");
    text.hidden = !error?.message;
    setText(text, error?.message ?? "");
  }

  errorText() {
    const { reason = "", message = "" } = this.shown?.error ?? {};
    return message ? `${reason}: ${message}` : reason;
  }
}

async function fetchDocument(request) {
  return toDocument((await call("StatusService/GetDocument", request)).document, -1);
}

async function fetchTransitions(request) {
  const transitions = [];
  let pageToken = "";
  do {
    const page = await call("StatusService/ListTransitions", { ...request, pageSize: PAGE, pageToken });
    transitions.push(...(page.transitions ?? []).map(toTransition));
    pageToken = page.nextPageToken ?? "";
  } while (pageToken);
  return transitions;
}

function commandOf({ datasetId, batchId, documentId }, grpc) {
  const target = grpc === "127.0.0.1:50051" ? "" : `--grpc ${shell(grpc)} `;
  const separator = documentId.startsWith("-") ? "-- " : "";
  return `stagecast history ${target}${separator}${datasetId} ${shell(batchId)} ${shell(documentId)}`;
}

function sinceOf(shown, now) {
  const since = coarse(now - shown.updatedAt);
  if (shown.stalled) return shown.state === "pending" ? `no worker has taken it for ${coarse(now - shown.createdAt)}` : `marked ${since} ago, as its worker was silent`;
  return `${shown.open ? "last change" : "ended"} ${since} ago`;
}

function factsOf(shown, now) {
  return [
    ["Stage", shown.state === "succeeded" ? "completed" : shown.stage],
    ["Step", shown.step ? stepOf(shown.step) : ""],
    ["Chunks", chunksOf(shown)],
    ["Time", timeOf(shown, now)],
    ["Attempt", String(shown.attempt)],
    ["Worker", shown.worker],
    ["Id", shown.id === shown.name ? "" : shown.id],
    ...Object.entries(shown.labels),
  ].filter(([, value]) => value);
}

function makeFact() {
  const fact = document.createElement("div");
  fact.append(document.createElement("dt"), document.createElement("dd"));
  fact.lastElementChild.dir = "auto";
  return fact;
}

function fillFact(fact, [name, value]) {
  setText(fact.firstElementChild, name);
  setText(fact.lastElementChild, value);
}

function makeEntry() {
  const entry = document.createElement("li");
  entry.append(document.createElement("span"), document.createElement("time"), document.createElement("small"));
  return entry;
}

function fillEntry(entry, transition, entries) {
  if (entry.shown === transition) return;
  entry.shown = transition;
  const [text, time, after] = entry.children;
  time.dateTime = new Date(transition.at).toISOString();
  setText(time, moment(transition.at));
  setText(text, sentenceOf(transition));
  setClass(entry, transition.kind.replace(" ", "-"));
  const before = entries[entries.indexOf(transition) - 1];
  setText(after, before ? ` · after ${duration(transition.at - before.at)}` : "");
}

function sentenceOf({ kind, document: after, previousStage }) {
  const { stage, worker, attempt, error } = after;
  const by = worker ? ` by ${isolate(worker)}` : "";
  const sentences = {
    registered: "registered",
    started: `started${by}, attempt ${attempt}`,
    "stage entered": stage,
    paused: `paused in ${stage}`,
    resumed: "resumed",
    stalled: after.state === "pending" ? "not taken by any worker" : `stalled in ${stage}`,
    recovered: "recovered",
    succeeded: "succeeded",
    failed: `failed in ${stage}: ${error?.reason ?? ""}`,
    stopped: `stopped in ${stage}`,
    retried: `to be retried, attempt ${attempt}`,
  };
  return sentences[kind] ?? `${kind} ${previousStage}`;
}

customElements.define("document-drawer", DocumentDrawer);
