// What is known of a batch: built from messages of `WatchBatch`, free of the browser.
//
// Messages without a token are parts; they are applied together with the one that completes them, so
// that what one call changed is shown at once, and parts of a lost stream are never shown.

import { word } from "./format.js";

export const STAGES = ["waiting", "parsing", "cleaning", "splitting", "indexing"];
export const OPEN = ["pending", "running", "paused"];

const seconds = new Map(); // those of a batch repeat, and parsing is slow

/** A time such as `2026-11-29T16:20:31.123456Z` in milliseconds, with a fraction; `null` if there is none. */
export function time(text) {
  if (!text) return null;
  const whole = text.slice(0, 19);
  let ms = seconds.get(whole);
  if (ms === undefined) {
    if (seconds.size > 10_000) seconds.clear();
    ms = Date.parse(`${whole}Z`);
    seconds.set(whole, ms);
  }
  return text.length > 20 ? ms + 1000 * Number(text.slice(19, -1)) : ms;
}

const number = (text) => Number(text ?? 0);
const STATES = ["total", "pending", "running", "paused", "succeeded", "failed", "stopped", "stalled"];

/** Counts of documents by state, as numbers. */
export function toCounts(counts = {}) {
  return Object.fromEntries(STATES.map((state) => [state, number(counts[state])]));
}

/** A batch with numbers, times in milliseconds and states as words. */
export function toBatch(batch) {
  return {
    datasetId: batch.datasetId,
    batchId: batch.batchId,
    labels: batch.labels ?? {},
    state: word(batch.state, "BATCH_STATE"),
    sealed: batch.sealed ?? false,
    counts: toCounts(batch.counts),
    chunks: number(batch.progress?.completedSegments),
    totalChunks: toTotal(batch.progress),
    createdAt: time(batch.createTime),
    endedAt: time(batch.endTime),
    updatedAt: time(batch.updateTime),
  };
}

const toTotal = (progress) =>
  progress?.totalSegments === undefined ? null : number(progress.totalSegments);

const RANKS = { failed: 0, running: 1, paused: 2, succeeded: 3, stopped: 3, pending: 4 };

/** A document in the same form. */
export function toDocument(document, position) {
  const state = word(document.state, "DOCUMENT_STATE");
  const stage = word(document.stage, "STAGE");
  const stalled = document.stalled ?? false;
  const { progress } = document;
  return {
    id: document.documentId,
    position,
    name: document.displayName || document.documentId,
    labels: document.labels ?? NONE,
    state,
    stage,
    stalled,
    open: OPEN.includes(state),
    rank: stalled ? 0 : RANKS[state], // in the order of the list
    at: Math.max(0, STAGES.indexOf(stage)),
    revision: number(document.revision),
    attempt: document.attempt ?? 0,
    worker: document.worker ?? "",
    error: document.error ?? null,
    chunks: number(progress?.completedSegments),
    totalChunks: toTotal(progress),
    step: toStep(progress?.step),
    updatedAt: time(document.updateTime),
    createdAt: time(document.createTime),
    startedAt: time(document.processingStartTime),
    parsedAt: time(document.parsingCompleteTime),
    cleanedAt: time(document.cleaningCompleteTime),
    splitAt: time(document.splittingCompleteTime),
    completedAt: time(document.completeTime),
    pausedAt: time(document.pauseTime),
    stoppedAt: time(document.stopTime),
  };
}

const NONE = Object.freeze({});

const toStep = (step) =>
  step
    ? {
        name: step.name ?? "",
        completed: number(step.completed),
        total: step.total === undefined ? null : number(step.total),
      }
    : null;

/** A transition in the same form. */
export function toTransition(transition) {
  return {
    revision: number(transition.revision),
    kind: word(transition.kind, "TRANSITION_KIND"),
    document: transition.document && toDocument(transition.document, -1),
    previousStage: word(transition.previousStage, "STAGE"),
    at: time(transition.eventTime) ?? time(transition.commitTime),
    committedAt: time(transition.commitTime),
  };
}

/** Whether a person should look at a document. */
export const needsAttention = (document) => document.stalled || document.state === "failed";

export class BatchStore {
  /** `onTransition` is called with each transition. */
  constructor(onTransition = () => {}) {
    this.documents = new Map();
    this.attention = new Set(); // ids
    this.begun = new Map(); // of a large batch, open documents beyond the first stage, by id
    this.batch = null;
    this.revision = 0;
    this.token = "";
    this.partial = false; // whether only some documents are known, of a large batch
    this.reason = ""; // why the last snapshot was sent
    this.snapshots = 0;
    this.clockOffset = 0; // of the server's clock
    this.version = 0; // goes up with every change of a document
    this.onTransition = onTransition;
    this.parts = [];
    this.lists = new Set(); // of a large batch, that are being read
  }

  get known() {
    return this.batch !== null;
  }

  /** The server's clock. */
  now() {
    return Date.now() + this.clockOffset;
  }

  /** Forget incomplete messages, before a stream begins. */
  begin() {
    this.parts = [];
  }

  /** Apply a message, and return whether anything but the time has changed. */
  apply(message) {
    if (message.serverTime) this.clockOffset = time(message.serverTime) - Date.now();
    this.parts.push(prepared(message));
    if (!message.resumeToken) return false;
    const parts = this.parts;
    this.parts = [];
    let changed = false;
    let replaced = false;
    for (const part of parts) {
      if (part.documents && !replaced) this.replace(part.reason);
      replaced ||= Boolean(part.documents);
      changed = this.applyPart(part) || changed;
    }
    this.token = message.resumeToken;
    if (message.batch) {
      this.batch = toBatch(message.batch);
      this.revision = number(message.revision);
    }
    return changed;
  }

  applyPart({ documents, transitions, progress }) {
    for (const document of documents ?? []) this.put(document);
    for (const transition of transitions) {
      this.check(transition);
      if (transition.document) this.put(transition.document);
      this.onTransition(transition);
    }
    for (const one of progress) this.count(one);
    return Boolean(documents) || transitions.length + progress.length > 0;
  }

  /** Prove that nothing was missed. */
  check(transition) {
    if (this.revision && transition.revision !== this.revision + 1) {
      throw new Error(`revision ${transition.revision} follows ${this.revision}`);
    }
    this.revision = transition.revision;
  }

  /** Forget all that a snapshot replaces. */
  replace(reason) {
    this.reason = reason;
    this.snapshots += 1;
    this.documents.clear();
    this.attention.clear();
    this.begun.clear();
    this.revision = 0;
  }

  /** Begin to read a list; returns the unknown documents that the watch brings meanwhile. */
  beginList() {
    const passed = new Map();
    this.lists.add(passed);
    return passed;
  }

  endList(passed) {
    this.lists.delete(passed);
  }

  /** Add documents of a list; those that have `passed` since it was begun are newer. */
  add(documents, passed = new Map()) {
    for (const document of documents) {
      this.put(passed.get(document.documentId) ?? toDocument(document, -1), true);
    }
  }

  /** Count documents of a list, and keep those that need attention. */
  note(documents) {
    for (const document of documents) this.put(toDocument(document, -1));
  }

  put(document, listed = false) {
    if (this.partial) this.follow(document);
    const before = this.documents.get(document.id);
    const needed = needsAttention(document);
    // Of a large batch, only what is listed or needs attention is kept.
    if (this.partial && !before && !needed && !listed) {
      for (const passed of this.lists) passed.set(document.id, document);
      return;
    }
    document.position = before?.position ?? this.documents.size;
    Object.assign(document, sight(document, before));
    this.documents.set(document.id, document);
    if (needed) this.attention.add(document.id);
    else this.attention.delete(document.id);
    this.version += 1;
  }

  /** Follow the stage of a document of a large batch, of which not all are kept. */
  follow({ id, revision, open, at }) {
    // A list may be newer than what the watch brings after it.
    if (this.begun.get(id)?.revision > revision) return;
    if (open && at > 0) this.begun.set(id, { revision, at });
    else this.begun.delete(id);
    this.version += 1;
  }

  count({ documentId, attempt, progress }) {
    const document = this.documents.get(documentId);
    if (!document || document.attempt !== (attempt ?? 0)) return;
    this.documents.set(documentId, {
      ...document,
      chunks: number(progress?.completedSegments),
      totalChunks: toTotal(progress),
      step: toStep(progress?.step),
    });
    this.version += 1;
  }

  /** Failures grouped by reason and stage, stalled documents by worker; the largest groups first. */
  groups() {
    const groups = new Map();
    for (const id of this.attention) {
      const document = this.documents.get(id);
      const [kind, title, stage] = groupOf(document);
      const key = `${kind}\n${title}\n${stage}`;
      const group = groups.get(key) ?? { key, kind, title, stage, documents: [], since: Infinity };
      group.documents.push(document);
      group.since = Math.min(group.since, document.updatedAt);
      groups.set(key, group);
    }
    return [...groups.values()].sort(
      (a, b) => KINDS.indexOf(a.kind) - KINDS.indexOf(b.kind) || b.documents.length - a.documents.length,
    );
  }

  /** Counts and median times of the stages; `unknown` is whether one was run or skipped at once. */
  stages() {
    const rows = STAGES.map((name) => ({ name, open: 0, left: 0, missed: 0, seen: 0, times: [] }));
    for (const document of this.documents.values()) {
      if (document.open) rows[document.at].open += 1;
      const ends = timesOf(document);
      for (let at = 0; at < STAGES.length; at += 1) addStage(rows[at], at, document, ends);
    }
    return rows.map(({ name, open, left, missed, seen, times }) => {
      const timeless = left > 0 && times.length === 0;
      return {
        name,
        open,
        skipped: timeless && missed + seen === 0,
        unknown: timeless && missed + seen > 0 && open === 0,
        median: median(times),
      };
    });
  }

  /** Counts of the stages of a large batch: those that are not beyond the first one are in it. */
  stageCounts() {
    const { pending, running, paused } = this.batch.counts;
    const rows = STAGES.map((name) => ({ name, open: 0 }));
    for (const { at } of this.begun.values()) rows[at].open += 1;
    rows[0].open = Math.max(0, pending + running + paused - this.begun.size);
    return rows;
  }

  /** Ended documents, and the parts of open ones whose chunks are known. */
  done() {
    let done = 0;
    for (const document of this.documents.values()) {
      if (!document.open) done += 1;
      else if (document.totalChunks) done += Math.min(1, document.chunks / document.totalChunks);
    }
    return done;
  }
}

/** Convert a message when it arrives, so that no single task has to convert all. */
function prepared(message) {
  return {
    documents: message.snapshot && (message.snapshot.documents ?? []).map((one) => toDocument(one, -1)),
    reason: word(message.snapshot?.reason, "SNAPSHOT_REASON"),
    transitions: (message.transitions ?? []).map(toTransition),
    progress: message.progress ?? [],
  };
}

const KINDS = ["failed", "stalled", "waiting"];

function groupOf(document) {
  if (document.state === "failed") return ["failed", document.error?.reason ?? "", document.stage];
  if (document.state === "pending") return ["waiting", "", ""];
  return ["stalled", document.worker, ""];
}

/**
 * What was seen of the stages of a document: `seen` has a bit for each it was in, `since` is the first
 * from which on none can have passed unseen.
 */
function sight({ state, at }, before) {
  if (state === "succeeded") return { seen: before?.seen ?? 1, since: before?.since ?? STAGES.length };
  if (at === 0) return { seen: 1, since: 0 }; // an attempt begins
  return { seen: (before?.seen ?? 1) | (1 << at), since: before?.since ?? at };
}

/** Add what a document tells of a stage to its row. */
function addStage(row, at, { seen, since }, ends) {
  const wasIn = Boolean(seen & (1 << at));
  if (wasIn) row.seen += 1;
  if (ends[at] === null || ends[at + 1] === null) return;
  row.left += 1;
  const took = ends[at + 1] - ends[at];
  // Reports of one call have one time: a stage that took none was either skipped, or entered and left.
  if (took > 0 || wasIn) row.times.push(took);
  else if (at < since) row.missed += 1;
}

/** When a document was created, and when it left each stage. */
function timesOf(document) {
  const { createdAt, startedAt, parsedAt, cleanedAt, splitAt, completedAt } = document;
  return [createdAt, startedAt, parsedAt, cleanedAt, splitAt, completedAt];
}

function median(times) {
  if (times.length === 0) return null;
  const sorted = Float64Array.from(times).sort();
  return sorted[sorted.length >> 1];
}
