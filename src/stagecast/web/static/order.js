// Which documents are listed, and in which order; free of the browser.

import { needsAttention } from "./store.js";

export const FILTERS = [
  ["all", "All"],
  ["attention", "Needs attention"],
  ["running", "Running"],
  ["pending", "Pending"],
  ["paused", "Paused"],
  ["succeeded", "Succeeded"],
  ["failed", "Failed"],
  ["stopped", "Stopped"],
  ["stalled", "Stalled"],
];

/** Needs attention, longest running, paused, recently ended, pending. */
export function compare(a, b) {
  const { rank } = a;
  if (rank !== b.rank) return rank - b.rank;
  if (rank === 0 || rank === 3) return b.updatedAt - a.updatedAt || a.position - b.position;
  if (rank === 1) return (a.startedAt ?? a.updatedAt) - (b.startedAt ?? b.updatedAt) || a.position - b.position;
  return a.position - b.position;
}

/** Return the documents of a store that match, in order. */
export function select(documents, { filter, words, group }) {
  const parts = words.toLowerCase().split(/\s+/).filter(Boolean);
  const listed = [];
  for (const document of documents) {
    if (group ? group.has(document.id) : matches(document, filter)) {
      if (parts.length === 0 || contains(document, parts)) listed.push(document);
    }
  }
  return listed.sort(compare);
}

function matches(document, filter) {
  if (filter === "all") return true;
  if (filter === "attention") return needsAttention(document);
  if (filter === "stalled") return document.stalled;
  return document.state === filter;
}

function contains(document, parts) {
  const text = [
    document.id,
    document.name,
    document.worker,
    document.error?.reason,
    document.error?.message,
    ...Object.entries(document.labels).map(([key, value]) => `${key}=${value}`),
  ]
    .join("\n")
    .toLowerCase();
  return parts.every((part) => text.includes(part));
}
