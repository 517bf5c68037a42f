// What needs attention, in groups: failures by reason and stage, stalled documents by worker.

import { ago, coarse, count, isolate, moment, quantity } from "./format.js";
import { clone, setChildren, setClass, setText } from "./paint.js";

const MAX_GROUPS = 6; // until the reader wants all
const NAMES = 3; // of documents of a group

/** What a group is, such as `2 documents failed in parsing: DECODE_ERROR`. */
export function titleOf({ kind, title, stage, documents }) {
  const many = quantity(documents.length, "document");
  if (kind === "failed") return `${many} failed in ${stage}: ${isolate(title)}`;
  if (kind === "waiting") return `${many} not taken by any worker`;
  return title ? `${many} stalled at ${isolate(title)}` : `${many} stalled`;
}

function subtitleOf({ kind, documents, since }, now) {
  const names = documents.slice(0, NAMES).map((one) => isolate(one.name)).join(", ");
  const more = documents.length > NAMES ? ` and ${count(documents.length - NAMES)} more` : "";
  const when = kind === "failed" ? `first ${ago(now - since)}` : `since ${moment(since)}, for ${coarse(now - since)}`;
  return `${names}${more} · ${when}`;
}

export class Attention {
  /** `onShow` and `onAct` get the group whose button was clicked; without `onAct` it has only one. */
  constructor({ onShow, onAct, onMore }) {
    Object.assign(this, { onShow, onAct });
    this.section = document.getElementById("attention");
    this.unknown = document.getElementById("attention-note");
    this.more = document.getElementById("more-groups");
    this.all = false;
    this.more.addEventListener("click", () => {
      this.all = !this.all;
      onMore();
    });
  }

  /** Show the groups; `unknown` is how many documents are in none, `mayAct` whether acting makes sense. */
  paint(groups, { unknown, mayAct, now }) {
    this.section.hidden = groups.length === 0 && unknown <= 0;
    this.unknown.hidden = unknown <= 0;
    setText(this.unknown, `${quantity(unknown, "more document")} of this large batch`);
    const more = groups.length - MAX_GROUPS;
    this.more.parentElement.hidden = more <= 0;
    setText(this.more, this.all ? "Show fewer" : `Show ${more} more`);
    setChildren(this.section.querySelector("ul"), this.all ? groups : groups.slice(0, MAX_GROUPS), {
      keyOf: ({ key }) => key,
      make: () => this.make(),
      fill: (row, group) => fill(row, group, { mayAct, now }),
    });
  }

  make() {
    const row = clone("group");
    row.querySelector(".show").addEventListener("click", () => this.onShow(row.group));
    if (this.onAct) {
      const act = document.createElement("button");
      act.type = "button";
      act.className = "act";
      act.addEventListener("click", () => this.onAct(row.group));
      row.querySelector(".actions").append(act);
    }
    return row;
  }
}

function fill(row, group, { mayAct, now }) {
  row.group = group;
  setClass(row, `group ${group.kind}`);
  setText(row.querySelector("strong"), titleOf(group));
  setText(row.querySelector("span"), subtitleOf(group, now));
  const act = row.querySelector(".act");
  if (!act) return;
  act.hidden = group.kind === "waiting" || !mayAct;
  setText(act, group.kind === "failed" ? "Retry" : "Stop");
}
