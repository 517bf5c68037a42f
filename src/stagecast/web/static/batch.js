// The page of a batch: joins the stream, the store and what is on the screen.

import "./bar.js";
import "./drawer.js";
import "./list.js";
import { operator } from "./actions.js";
import { CallError, call, mayControl, root, signInIfNeeded } from "./api.js";
import { Attention, titleOf } from "./attention.js";
import { Pace, left } from "./estimate.js";
import { ago, count, duration, ended, percent, quantity } from "./format.js";
import { Keys } from "./keys.js";
import { LargeBatch, MAX_WATCHED } from "./large.js";
import { FILTERS, select } from "./order.js";
import { clone, painter, setChildren, setClass, setText } from "./paint.js";
import { BatchStore, toBatch, toCounts } from "./store.js";
import { HEARTBEAT, Stream, showConnection } from "./stream.js";

const SUMMARY_MS = 1000; // how often all documents are counted and put in order
const BEGIN_AGAIN_MS = 2000;
const SMALL = 500; // documents that may be counted at every painting

const element = (id) => document.getElementById(id);
const main = element("main");
const name = { datasetId: main.dataset.dataset, batchId: main.dataset.batch };
const list = document.querySelector("document-list");
const drawer = document.querySelector("document-drawer");
const store = new BatchStore((transition) => drawer.onTransition(transition));
const pace = new Pace();
const view = { filter: "all", words: "", group: null, listed: [], groups: [] };
const large = new LargeBatch(store, name, reorder);
const operate = operator(name.datasetId, name.batchId, (text) => announce(text));
const attention = new Attention({
  onShow: showGroup,
  onAct: mayControl ? actOnGroup : null,
  onMore: () => schedule(),
});
const icon = document.querySelector('link[rel="icon"]');

let counted = { version: -1, at: 0, done: 0 };
let jobs = []; // what is left to bring up to date
let connection = { state: "" };
let snapshotsBefore = 0; // the connection was lost

/** Whether nothing more will come. */
const isOver = () => connection.state === "failed";

const schedule = painter(paint);

// ---- What arrives.

const stream = new Stream({
  url: () => watchUrl(store.token),
  onMessage: receive,
  onState: onConnection,
});

function watchUrl(token) {
  const query = new URLSearchParams({ follow: "true", heartbeat_interval: HEARTBEAT });
  if (token) query.set("resume_token", token);
  const { datasetId, batchId } = name;
  const path = `${encodeURIComponent(datasetId)}/batches/${encodeURIComponent(batchId)}`;
  return `${root}/v1/datasets/${path}/watch?${query}`;
}

function receive(message) {
  const { snapshots, known } = store;
  try {
    store.apply(message);
  } catch (error) {
    // It should never happen; starting over is right in any case.
    console.error(error);
    store.token = "";
    stream.lose();
    return;
  }
  if (store.snapshots > snapshots) onSnapshot(known);
  schedule();
}

function reorder() {
  order();
  schedule();
}

function onSnapshot(again) {
  pace.clear();
  countDone();
  const ends = [...store.documents.values()].map((one) => one.completedAt ?? one.stoppedAt);
  pace.seed(ends, ended(store.batch.counts), store.now());
  large.reload();
  if (again) drawer.reload();
  if (again && store.reason === "token expired") {
    notify("Some history was missed while away; what you see is the present state.");
  } else if (again && store.reason === "history changed") {
    notify("The history of this batch was replaced; what you see is its state now.");
  }
}

function onConnection(state, more = {}) {
  const before = connection.state;
  connection = { state, error: more.error };
  if (state === "connecting" || state === "lost") store.begin();
  if (state === "lost" || state === "hidden") pace.clear();
  if (state === "failed" && !signInIfNeeded(more.error)) fail(more.error);
  if (state === "lost") snapshotsBefore = store.snapshots;
  if (state === "open") large.readAgain();
  if (state === "open" && before === "lost" && store.known && store.snapshots === snapshotsBefore) {
    announce("Connected again; nothing was missed.");
  }
  schedule();
}

function fail(error) {
  main.ariaBusy = "false";
  setText(element("state"), endOf(error));
  setClass(element("state"), "state failed");
  notify(endOf(error) === "deleted" ? "This batch was deleted." : `${error.message}.`);
  if (store.known) return;
  for (const section of main.querySelectorAll("section:not(.batch-head)")) section.hidden = true;
}

/** Why nothing more will come, in a word. */
function endOf({ code }) {
  if (code !== "not_found") return "cannot be shown";
  return store.known ? "deleted" : "not there";
}

// ---- What is shown.

function paint() {
  const now = store.now();
  showConnection(connection.state, connection.error);
  if (!store.known) return;
  main.ariaBusy = "false";
  summarise();
  paintHead(now);
  paintGroups(now);
  list.paint(view.listed, now, hrefOf, none());
  drawer.update(store.documents.get(openId()));
}

/** Bring up to date what depends on all documents; of many, one thing at a painting. */
function summarise() {
  pace.add(store.now(), counted.done, store.batch.chunks);
  if (jobs.length === 0 && counted.version !== store.version) {
    if (store.documents.size > SMALL && Date.now() - counted.at < SUMMARY_MS) return;
    counted = { ...counted, version: store.version, at: Date.now() };
    jobs = [...JOBS];
  }
  do jobs.shift()?.();
  while (jobs.length > 0 && store.documents.size <= SMALL);
  if (jobs.length > 0) schedule();
}

const JOBS = [countDone, group, order, paintStages];

function countDone() {
  counted.done = store.partial ? ended(store.batch.counts) : store.done();
}

function group() {
  view.groups = store.groups();
}

function order() {
  view.listed = store.partial
    ? large.listed(view)
    : select(store.documents.values(), { ...view, group: groupIds() });
  paintFilter();
}

function groupIds() {
  return view.group ? new Set(shownGroup()?.documents.map(({ id }) => id)) : null;
}

/** The group that is listed; it may be empty by now. */
const shownGroup = () => view.groups.find(({ key }) => key === view.group);

function paintHead(now) {
  const { batch } = store;
  const state = isOver() ? endOf(connection.error) : batch.state;
  setText(element("state"), state);
  setClass(element("state"), `state ${isOver() ? "failed" : state.replace(" ", "-")}`);
  element("bar").counts = batch.counts;
  setText(element("line"), lineOf(batch, now));
  document.title = `${signOf(batch, state)} · ${name.batchId} · stagecast`;
  const href = `${root}/icons/${iconOf(batch)}.svg`;
  if (icon.getAttribute("href") !== href) icon.href = href;
  paintActions(batch);
}

/** What the title says first. */
function signOf(batch, state) {
  if (batch.endedAt !== null || isOver()) return state;
  const done = `${percent(batch.counts)}%`;
  return connection.state === "hidden" ? `was ${done}` : done;
}

/** `1,834 of 10,000 · 212 chunks/s · 8–11 min left · heard 2 s ago`. */
function lineOf(batch, now) {
  const parts = [`${count(ended(batch.counts))} of ${quantity(batch.counts.total, "document")}`];
  if (batch.chunks) parts.push(chunksOf(batch));
  if (batch.endedAt !== null) {
    parts.push(`took ${duration(batch.endedAt - batch.createdAt)}`, `ended ${ago(now - batch.endedAt)}`);
  } else if (!isOver()) {
    const speed = pace.chunksPerSecond(now);
    if (speed) parts.push(`${quantity(speed < 10 ? Math.round(speed * 10) / 10 : Math.round(speed), "chunk")}/s`);
    const estimate = pace.estimate(batch, now);
    parts.push(estimate.why ?? left(estimate));
  }
  if (connection.state === "open" && batch.endedAt === null) parts.push(`heard ${ago(Date.now() - stream.heardAt)}`);
  return parts.filter(Boolean).join(" · ");
}

function chunksOf({ chunks, totalChunks }) {
  return totalChunks === null || totalChunks === chunks
    ? quantity(chunks, "chunk")
    : `${count(chunks)} of ${quantity(totalChunks, "chunk")}`;
}

function iconOf(batch) {
  const kind = store.attention.size || batch.counts.failed ? "attention" : batch.endedAt === null ? "running" : "done";
  return `${kind}-${batch.endedAt === null ? Math.floor(percent(batch.counts) / 5) : 20}`;
}

function paintGroups(now) {
  const { failed, stalled } = store.batch.counts;
  const unknown = store.partial ? failed + stalled - store.attention.size : 0;
  attention.paint(view.groups, { unknown, mayAct: !isOver(), now });
}

function actOnGroup({ kind, documents }) {
  const { failed, stopped } = store.batch.counts;
  if (kind === "failed" && documents.length === failed && stopped === 0) {
    operate.onBatch("Retry", quantity(failed, "document")); // one call for all
  } else {
    operate.onDocuments(kind === "failed" ? "Retry" : "Stop", documents);
  }
}

function showGroup(group) {
  view.group = view.group === group.key ? null : group.key;
  view.filter = "all";
  if (store.known) order();
  schedule();
  element("documents-title").scrollIntoView({ block: "start" });
}

function paintStages() {
  element("stages-note").hidden = !store.partial;
  element("stages").parentElement.hidden = store.partial && !large.counted;
  setChildren(element("stages"), store.partial ? store.stageCounts() : store.stages(), {
    keyOf: ({ name: stage }) => stage,
    make: () => clone("stage"),
    fill: fillStage,
  });
}

function fillStage(row, stage) {
  setText(row.querySelector(".stage-name"), stage.name);
  setText(row.querySelector(".stage-count"), count(stage.open));
  const taken = row.querySelector(".stage-time");
  setText(taken, store.partial ? "" : stageTime(stage));
  taken.title = stage.unknown ? "Whether it was skipped is not known: no time was recorded between its beginning and its end." : "";
  row.classList.toggle("busy", stage.open > 0);
}

function stageTime({ skipped, unknown, median }) {
  if (skipped) return "skipped";
  if (unknown) return "–";
  if (median !== null && median < 100) return "median under 0.1 s";
  return median === null ? "no time yet" : `median ${duration(median)}`;
}

function paintFilter() {
  const { counts } = store.batch;
  const numbers = {
    ...counts,
    all: counts.total,
    attention: store.attention.size,
    group: shownGroup()?.documents.length ?? 0,
  };
  const filter = view.group ? "group" : view.filter;
  setChildren(element("filter"), view.group ? [GROUP, ...FILTERS] : FILTERS, {
    keyOf: ([value]) => value,
    make: () => document.createElement("option"),
    fill(option, [value, label]) {
      option.value = value;
      setText(option, `${label} (${count(numbers[value])})`);
      option.disabled = numbers[value] === 0 && value !== "all" && value !== filter;
    },
  });
  element("filter").value = filter;
  setText(element("shown"), shownText());
  element("show-all").hidden = !isNarrowed();
}

const GROUP = ["group", "This group"];

const isNarrowed = () => Boolean(view.group || view.words) || view.filter !== "all";

function showAll() {
  element("search").value = "";
  setView({ words: "", filter: "all" });
}

function shownText() {
  const listed = view.listed.length;
  if (view.group) return shownGroup() ? titleOf(shownGroup()) : "none left of this group";
  if (view.filter === "all" && !view.words && !store.partial) return "";
  return `${count(listed)} listed`;
}

function none() {
  if (store.batch.counts.total === 0) return "No documents yet.";
  if (view.words && store.partial) {
    return `No match among the ${quantity(store.documents.size, "document")} that were read; the others are not searched.`;
  }
  return view.words ? "No document matches the search." : "No such documents.";
}

const ACTIONS = {
  Pause: ({ pending, running }) => pending + running,
  Resume: ({ paused }) => paused,
  Retry: ({ failed, stopped }) => failed + stopped,
  Stop: ({ pending, running, paused }) => pending + running + paused,
};

function paintActions(batch) {
  for (const button of document.querySelectorAll("#batch-actions button")) {
    const { action } = button.dataset;
    button.hidden = isOver() || ACTIONS[action](batch.counts) === 0;
    if (action === "Retry") setText(button, `Retry ${retriedOf(batch.counts)}`);
  }
}

const retriedOf = ({ failed, stopped }) =>
  [failed && "failed", stopped && "stopped"].filter(Boolean).join(" and ");

function notify(text) {
  const notice = element("notice");
  notice.hidden = !text;
  setText(notice, text);
}

function announce(text) {
  notify(text);
  setTimeout(() => element("notice").textContent === text && notify(""), 6000);
}

// ---- What the reader does.

const hrefOf = ({ id }) => `#document=${encodeURIComponent(id)}`;

function openId() {
  const match = /^#document=(.*)$/.exec(location.hash);
  try {
    return match ? decodeURIComponent(match[1]) : null;
  } catch {
    return null; // written by hand
  }
}

function onHash() {
  const id = openId();
  if (id === null) {
    if (drawer.hidden) return;
    drawer.close();
    list.focusSelected();
    return;
  }
  list.selected = id;
  const context = { ...name, grpc: document.documentElement.dataset.grpc };
  drawer.open(context, id, store.documents.get(id), { actions: documentActions, now: () => store.now() });
  schedule();
}

function closeDrawer() {
  history.pushState(null, "", location.pathname + location.search);
  onHash();
}

/** Show the buttons that a document has. */
function documentActions(place, shown) {
  const actions = mayControl && !isOver() ? [shown.open ? "Stop" : "Retry"] : [];
  place.hidden = actions.length === 0;
  setChildren(place, actions, { keyOf: (action) => action, make: makeAction, fill: fillAction });
}

function fillAction(button, action) {
  setText(button, action);
  setClass(button, action === "Stop" ? "danger" : "");
}

function makeAction() {
  const button = document.createElement("button");
  button.type = "button";
  button.addEventListener("click", () => operate.onDocuments(button.textContent, [drawer.shown]));
  return button;
}

function setView(change) {
  Object.assign(view, { group: null }, change);
  large.show(view.filter);
  if (store.known) order();
  schedule();
}

element("filter").addEventListener("change", (event) => setView({ filter: event.target.value }));
element("show-all").addEventListener("click", () => {
  showAll();
  element("filter").focus(); // the button is gone
});
element("search").addEventListener("input", (event) => setView({ words: event.target.value }));
for (const button of document.querySelectorAll("#batch-actions button")) {
  const { action } = button.dataset;
  button.addEventListener("click", () =>
    operate.onBatch(action, quantity(ACTIONS[action](store.batch.counts), "document")),
  );
}
list.onScroll = () => {
  schedule();
  large.readOn();
};
drawer.onClose = closeDrawer;
addEventListener("hashchange", onHash);

new Keys({
  move: (by) => list.move(by),
  search: () => element("search").focus(),
  help: () => element("keys").showModal(),
  escape() {
    if (!drawer.hidden) closeDrawer();
    else if (isNarrowed()) showAll();
    else document.activeElement?.blur();
  },
  filter: () => setView({ filter: view.filter === "attention" ? "all" : "attention" }),
  retry() {
    const chosen = store.documents.get(openId() ?? list.selected);
    if (mayControl && !isOver() && chosen && !chosen.open) operate.onDocuments("Retry", [chosen]);
  },
});
element("help").addEventListener("click", () => element("keys").showModal());
element("keys").addEventListener("click", (event) => {
  if (event.target.closest("button")) element("keys").close();
});

// Times on the screen go on while nothing arrives.
setInterval(() => document.visibilityState === "visible" && schedule(), 1000);

/** The name of the dataset, if it has one. */
async function showDataset() {
  const { dataset } = await call("StatusService/GetDataset", { datasetId: name.datasetId });
  if (dataset.displayName) setText(element("dataset"), dataset.displayName);
}

async function start() {
  schedule();
  showDataset().catch(() => {}); // its id is shown as well
  const { batch } = await call("StatusService/GetBatch", name);
  if (toCounts(batch.counts).total > MAX_WATCHED) {
    store.batch = toBatch(batch);
    await large.begin();
    large.show(view.filter); // which the reader may have chosen meanwhile
  }
  stream.open();
  if (openId() !== null) onHash();
}

function begin() {
  start().catch((error) => {
    if (!(error instanceof CallError)) throw error;
    if (signInIfNeeded(error)) return;
    if (["not_found", "invalid_argument", "permission_denied", "unauthenticated"].includes(error.code)) {
      onConnection("failed", { error });
    } else {
      onConnection("lost");
      setTimeout(begin, BEGIN_AGAIN_MS);
    }
  });
}

begin();
