// Batches of more documents than a page should hold: listed page by page by the server.
//
// The watch begins with the token of the first page, so it has no snapshot and misses nothing.

import { CallError, call } from "./api.js";
import { select } from "./order.js";
import { STAGES } from "./store.js";

export const MAX_WATCHED = 20_000;
const PAGE = 500;
const MAX_PAGE = 1000;
const AHEAD = 2; // screens that are read in advance

export class LargeBatch {
  constructor(store, name, onPage) {
    Object.assign(this, { store, name, onPage });
    this.query = newQuery("all");
    this.counted = false; // whether the stages of all documents are known
  }

  /** List the first page, then what needs attention and what is beyond the first stage. */
  async begin() {
    this.store.partial = true;
    this.store.replace(""); // if this is not the first attempt
    const query = newQuery("all");
    this.query = query;
    const page = await this.list({ pageSize: PAGE });
    this.store.token = page.resumeToken;
    this.store.revision = Number(page.revision ?? 0);
    this.keep(query, page);
    const failed = await this.list({ states: ["DOCUMENT_STATE_FAILED"], pageSize: MAX_PAGE });
    this.store.note(failed.documents ?? []);
    await this.noteAll({ states: ["DOCUMENT_STATE_RUNNING"] });
    await this.noteAll({ states: ["DOCUMENT_STATE_PAUSED"], stages: BEGUN });
    this.counted = true;
    this.store.version += 1; // to be shown
  }

  async noteAll(filter) {
    let pageToken = "";
    do {
      const page = await this.list({ ...filter, pageSize: MAX_PAGE, pageToken });
      this.store.note(page.documents ?? []);
      pageToken = page.nextPageToken ?? "";
    } while (pageToken);
  }

  list(request) {
    return call("StatusService/ListDocuments", { ...this.name, ...request });
  }

  keep(query, page, passed) {
    const documents = page.documents ?? [];
    // What the watch has brought meanwhile is newer.
    this.store.add(
      documents.filter(({ documentId }) => !this.store.documents.has(documentId)),
      passed,
    );
    for (const { documentId } of documents) query.ids.add(documentId);
    query.next = page.nextPageToken || null;
  }

  /** List with another filter. */
  show(filter) {
    if (!this.store.partial || filter === this.query.filter) return;
    this.query = newQuery(filter);
    if (!LOCAL.includes(filter)) this.load();
  }

  /** List again after a snapshot, which has replaced all. */
  reload() {
    if (!this.store.partial) return;
    const { filter } = this.query;
    this.query.filter = null;
    this.show(filter);
  }

  /** Return what is listed, in the order of registration; what needs attention is all known. */
  listed({ filter, words, group, groups }) {
    const documents = [...this.store.documents.values()];
    if (group) {
      const ids = new Set(groups.find(({ key }) => key === group)?.documents.map(({ id }) => id));
      return select(documents, { filter, words, group: ids });
    }
    if (LOCAL.includes(filter)) return select(documents, { filter, words, group: null });
    const listed = documents.filter(({ id }) => this.query.ids.has(id));
    return select(listed, { filter, words, group: null });
  }

  /** Read again what could not be read before. */
  readAgain() {
    if (this.query.failed) this.load();
  }

  /** Read on near the end of what is listed. */
  readOn() {
    const { filter, next, loading } = this.query;
    if (!this.store.partial || LOCAL.includes(filter) || next === null || loading) return;
    const rest = document.body.scrollHeight - window.scrollY - window.innerHeight;
    if (rest < AHEAD * window.innerHeight) this.load();
  }

  /** List the next page of the query; what fails is read again with the next connection, or scroll. */
  async load() {
    const { query } = this;
    Object.assign(query, { loading: true, failed: false });
    const states = query.filter === "all" ? [] : [`DOCUMENT_STATE_${query.filter.toUpperCase()}`];
    const passed = this.store.beginList();
    try {
      const page = await this.list({ states, pageSize: PAGE, pageToken: query.next });
      // After a snapshot, or with another filter, the page is of no use any more.
      if (query === this.query) this.keep(query, page, passed);
    } catch (error) {
      if (!(error instanceof CallError)) throw error;
      query.failed = true;
    } finally {
      query.loading = false;
      this.store.endList(passed);
    }
    this.onPage();
  }
}

/** A query whose next page begins at a token; at the end, at `null`. */
const newQuery = (filter) => ({ filter, ids: new Set(), next: "", loading: false, failed: false });

// The stages of documents that are no longer waiting; pending ones are always waiting.
const BEGUN = STAGES.slice(1).map((stage) => `STAGE_${stage.toUpperCase()}`);

const LOCAL = ["attention", "stalled"]; // filters that the server does not have
