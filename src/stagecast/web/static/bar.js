// <stacked-bar>: documents by state, as a bar and in words.

import { count } from "./format.js";
import { setText } from "./paint.js";

const PARTS = ["succeeded", "failed", "stopped", "running", "paused", "pending"];

class StackedBar extends HTMLElement {
  connectedCallback() {
    if (this.bar) return;
    this.bar = document.createElement("span");
    this.bar.className = "bar";
    this.bar.ariaHidden = "true";
    this.legend = document.createElement("span");
    this.legend.className = "legend";
    this.parts = PARTS.map((state) => {
      const part = document.createElement("i");
      part.className = state;
      part.hidden = true; // until there are counts
      const entry = document.createElement("span");
      entry.className = state;
      entry.hidden = true;
      this.bar.append(part);
      this.legend.append(entry);
      return { state, part, entry };
    });
    this.append(this.bar, this.legend);
  }

  set counts(counts) {
    const total = Math.max(1, counts.total);
    for (const { state, part, entry } of this.parts) {
      const number = counts[state];
      part.style.flexGrow = number / total;
      part.hidden = number === 0;
      entry.hidden = number === 0;
      setText(entry, `${count(number)} ${state}`);
    }
  }
}

customElements.define("stacked-bar", StackedBar);
