// <document-list>: a window of rows over any number of documents.
//
// Only what is near the screen exists. A row stays the same element while its document is in the
// window, so the focus stays on the document and not at a place.

import { coarse, count, duration } from "./format.js";
import { clone, setChildren, setClass, setText } from "./paint.js";
import { STAGES } from "./store.js";

const AROUND = 12; // rows beyond the screen, on both sides

class DocumentList extends HTMLElement {
  connectedCallback() {
    if (this.list) return;
    this.list = document.createElement("ul");
    this.note = document.createElement("p");
    this.note.className = "none";
    this.note.hidden = true;
    this.append(this.note, this.list);
    this.documents = [];
    this.selected = null; // the id of a document
    this.now = 0;
    const repaint = () => this.onScroll();
    window.addEventListener("scroll", repaint, { passive: true });
    window.addEventListener("resize", repaint);
    this.list.addEventListener("focusin", (event) => {
      const row = event.target.closest("li");
      if (row) this.selected = row.key;
    });
  }

  onScroll() {}

  /** Show these documents; `hrefOf` makes the link of one. */
  paint(documents, now, hrefOf, none) {
    this.documents = documents;
    this.now = now;
    this.note.hidden = documents.length > 0;
    setText(this.note, none);
    const height = this.rowHeight();
    const top = -this.list.getBoundingClientRect().top;
    const first = clamp(Math.floor(top / height) - AROUND, documents.length);
    const last = clamp(Math.ceil((top + window.innerHeight) / height) + AROUND, documents.length);
    this.list.style.paddingTop = `${first * height}px`;
    this.list.style.paddingBottom = `${(documents.length - last) * height}px`;
    setChildren(this.list, documents.slice(first, last), {
      keyOf: ({ id }) => id,
      make: () => clone("row"),
      fill: (row, shown, index) => this.fill(row, shown, first + index, hrefOf),
    });
  }

  fill(row, shown, index, hrefOf) {
    row.ariaPosInSet = index + 1;
    row.ariaSetSize = this.documents.length;
    row.classList.toggle("selected", shown.id === this.selected);
    if (row.shown !== shown) {
      row.shown = shown;
      row.firstElementChild.href = hrefOf(shown);
      fillDocument(row, shown);
    }
    setText(row.querySelector(".cell-time"), timeOf(shown, this.now));
  }

  rowHeight() {
    return parseFloat(getComputedStyle(this).getPropertyValue("--row-height"));
  }

  /** Select the next document, or the one before, and put the focus on it. */
  move(by) {
    const at = this.documents.findIndex(({ id }) => id === this.selected);
    const index = at < 0 ? 0 : clamp(at + by, this.documents.length - 1);
    const chosen = this.documents[index];
    if (chosen) this.select(chosen.id, index);
  }

  select(id, index) {
    this.selected = id;
    const height = this.rowHeight();
    const top = this.list.getBoundingClientRect().top + index * height;
    const head = 8;
    if (top < head) window.scrollBy(0, top - head);
    else if (top + height > window.innerHeight - head) {
      window.scrollBy(0, top + height - window.innerHeight + head);
    }
    this.focusSelected(); // at once, since Enter may follow
    this.onScroll();
    requestAnimationFrame(() => this.focusSelected()); // if a scroll has to make its row
  }

  focusSelected() {
    const row = [...this.list.children].find(({ key }) => key === this.selected);
    row?.firstElementChild.focus({ preventScroll: true });
  }
}

function fillDocument(row, shown) {
  setWhole(row.querySelector(".name"), shown.name);
  setWhole(row.querySelector(".detail"), detailOf(shown));
  const state = row.querySelector(".state");
  setText(state, stateOf(shown));
  setClass(state, `state ${stateOf(shown)}`);
  setClass(row.querySelector(".segments"), `segments ${stateOf(shown)} at-${reached(shown)}`);
  setText(row.querySelector(".stage"), stageOf(shown));
  setText(row.querySelector(".cell-chunks"), chunksOf(shown));
  setWhole(row.querySelector(".worker"), shown.worker);
  setText(row.querySelector(".attempt"), shown.attempt > 1 ? `attempt ${shown.attempt}` : "");
}

/** Set a text that may be cut, so that the pointer shows it whole. */
function setWhole(element, text) {
  setText(element, text);
  element.title = text;
}

const clamp = (number, most) => Math.max(0, Math.min(number, most));

/** The state in a word: `stalled` goes before the rest. */
export const stateOf = (shown) => (shown.stalled ? "stalled" : shown.state);

const stageOf = (shown) => (shown.state === "succeeded" ? "completed" : shown.stage);

/** How many of the five segments are behind. */
const reached = (shown) =>
  shown.state === "succeeded" ? STAGES.length : shown.at;

/** What is written under the name: the error, the step, or the id if the name is another. */
function detailOf(shown) {
  if (shown.error) {
    const message = shown.error.message ?? "";
    return message ? `${shown.error.reason}: ${message.split("\n", 1)[0]}` : shown.error.reason;
  }
  if (shown.step && shown.open) return stepOf(shown.step);
  return `/${shown.id}`.endsWith(`/${shown.name}`) ? "" : shown.id;
}

/** `pages 3 of 12`. */
export function stepOf({ name, completed, total }) {
  return total === null ? `${name} ${count(completed)}` : `${name} ${count(completed)} of ${count(total)}`;
}

/** `7 of 12 chunks`. */
export function chunksOf({ chunks, totalChunks }) {
  if (totalChunks !== null) return `${count(chunks)} of ${count(totalChunks)} chunks`;
  return chunks ? `${count(chunks)} ${chunks === 1 ? "chunk" : "chunks"}` : "";
}

/** How long this attempt took, or takes; how long ago a document was registered if none has begun. */
export function timeOf(shown, now) {
  const end = shown.completedAt ?? shown.stoppedAt ?? shown.pausedAt;
  if (shown.startedAt !== null) return end === null ? coarse(now - shown.startedAt) : duration(end - shown.startedAt);
  return shown.state === "pending" ? `for ${coarse(now - shown.createdAt)}` : "";
}

customElements.define("document-list", DocumentList);
