// The overview: open batches, then the recent ones. A watch of the datasets says when to read again.

import "./bar.js";
import { CallError, call, root, signInIfNeeded } from "./api.js";
import { copy } from "./clipboard.js";
import { ago, coarse, count, duration, ended, percent, quantity } from "./format.js";
import { clone, painter, setChildren, setClass, setText } from "./paint.js";
import { toBatch } from "./store.js";
import { HEARTBEAT, Stream, showConnection } from "./stream.js";

const OPEN = ["PENDING", "RUNNING", "PAUSED"].map((state) => `BATCH_STATE_${state}`);
const ENDED = ["SUCCEEDED", "PARTIALLY_SUCCEEDED", "FAILED", "STOPPED"].map((state) => `BATCH_STATE_${state}`);
const OPEN_LIMIT = 200;
const RECENT_LIMIT = 20;
const READ_EVERY_MS = 1000;

const element = (id) => document.getElementById(id);
const names = new Map(); // of datasets
let open = [];
let recent = [];
let more = false; // open batches than are listed
let known = false;
let offset = 0;
let reading = false;
let again = false;

const schedule = painter(paint);

const stream = new Stream({
  url: () => `${root}/v1/datasets/watch?heartbeat_interval=${HEARTBEAT}`,
  onMessage(message) {
    if (message.serverTime) offset = Date.parse(message.serverTime) - Date.now();
    for (const dataset of message.datasets ?? []) names.set(dataset.datasetId, dataset.displayName);
    const news = (message.datasets ?? []).length + (message.removedDatasetIds ?? []).length;
    if (news || message.complete) read();
  },
  onState(state, { error }) {
    if (error) signInIfNeeded(error);
    showConnection(state, error);
  },
});

/** Read the lists, at most once a second. */
async function read() {
  again = true;
  if (reading) return;
  reading = true;
  while (again) {
    again = false;
    try {
      const [first, second] = await Promise.all([
        call("StatusService/ListBatches", { states: OPEN, pageSize: OPEN_LIMIT }),
        call("StatusService/ListBatches", { states: ENDED, pageSize: RECENT_LIMIT }),
      ]);
      open = (first.batches ?? []).map(toBatch);
      more = Boolean(first.nextPageToken);
      recent = (second.batches ?? []).map(toBatch);
      known = true;
      schedule();
    } catch (error) {
      if (!(error instanceof CallError)) throw error;
      if (signInIfNeeded(error)) return;
      if (error.code === "unauthenticated") return stream.refused(error);
      again = true;
    }
    await new Promise((resolve) => setTimeout(resolve, READ_EVERY_MS));
  }
  reading = false;
}

function paint() {
  if (!known) return;
  element("main").ariaBusy = "false";
  element("empty").hidden = open.length + recent.length > 0;
  paintList("open", open);
  element("more").hidden = !more;
  setText(element("more"), `Only the newest ${open.length} are listed.`);
  paintList("recent", recent);
  document.title = open.length ? `${open.length} in progress · stagecast` : "stagecast";
}

function paintList(id, batches) {
  element(id).hidden = batches.length === 0;
  setChildren(element(id).querySelector("ul"), batches, {
    keyOf: ({ datasetId, batchId }) => `${datasetId}/${batchId}`,
    make: () => clone("batch-card"),
    fill,
  });
}

function fill(card, batch) {
  const { datasetId, batchId, state, counts } = batch;
  const path = `${encodeURIComponent(datasetId)}/batches/${encodeURIComponent(batchId)}`;
  card.firstElementChild.href = `${root}/datasets/${path}`;
  setText(card.querySelector(".name"), batchId);
  setText(card.querySelector(".state"), state);
  setClass(card.querySelector(".state"), `state ${state.replace(" ", "-")}`);
  setText(card.querySelector(".dataset bdi"), names.get(datasetId) || datasetId);
  card.querySelector("stacked-bar").counts = counts;
  setText(card.querySelector(".summary"), summaryOf(batch));
}

function summaryOf({ counts, createdAt, endedAt }) {
  const now = Date.now() + offset;
  const parts = [`${count(ended(counts))} of ${quantity(counts.total, "document")}`];
  if (endedAt === null) parts.push(`${percent(counts)}%`, `for ${coarse(now - createdAt)}`);
  else parts.push(`took ${duration(endedAt - createdAt)}`, `ended ${ago(now - endedAt)}`);
  if (counts.stalled) parts.push(`${count(counts.stalled)} stalled`);
  return parts.join(" · ");
}

const button = document.querySelector("#empty .copy");
button.addEventListener("click", () => copy(button, document.querySelector("#empty code").textContent));
setInterval(() => document.visibilityState === "visible" && schedule(), 1000);
stream.open();
