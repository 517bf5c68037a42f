// A stream that survives lost connections, and lets go of its connection while nobody looks.

import { Refused, readEvents } from "./events.js";
import { setClass, setText } from "./paint.js";

const HIDDEN_MS = 60_000;
const SILENT_MS = 20_000; // four heartbeats, see `HEARTBEAT`
const FIRST_WAIT_MS = 500;
const MAX_WAIT_MS = 15_000;
const RETRYABLE = ["unavailable", "resource_exhausted", "deadline_exceeded", "aborted"];

export const HEARTBEAT = "5s";

const TEXTS = {
  connecting: "connecting …",
  lost: "connection lost, trying again",
  hidden: "paused while hidden",
  open: "live",
  failed: "not connected",
};

const REFUSALS = {
  "lost resource_exhausted": "too many streams are open, trying again",
  "failed unauthenticated": "the calls of this page are refused, by the server or a proxy",
};

/** Show the state of a connection in the head of the page. */
export function showConnection(state, error) {
  const place = document.getElementById("connection");
  setText(place, REFUSALS[`${state} ${error?.code}`] ?? TEXTS[state] ?? "");
  setClass(place, `connection ${state}`);
}

/**
 * `onState` gets `connecting`, `open`, `lost`, `hidden` or `failed`, with the `error` of the server if it
 * has sent one; `url` returns the URL of the next connection, and `onMessage` gets each message.
 */
export class Stream {
  constructor({ url, onMessage, onState }) {
    Object.assign(this, { url, onMessage, onState });
    this.connection = null; // an AbortController
    this.state = "";
    this.heardAt = 0; // the last sign of life
    this.wait = FIRST_WAIT_MS;
    document.addEventListener("visibilitychange", () => this.onVisibility());
    window.addEventListener("online", () => this.state === "lost" && this.open());
    window.addEventListener("pageshow", (event) => event.persisted && this.open());
    this.onVisibility(); // a tab may be opened in the background
  }

  async open() {
    this.close();
    if (this.state !== "lost") this.tell("connecting");
    const connection = new AbortController();
    this.connection = connection;
    const { signal } = connection;
    this.listen();
    try {
      await readEvents(this.url(), {
        signal,
        onSign: () => signal.aborted || this.sign(),
        onEvent: (type, data) => signal.aborted || this.receive(type, data),
      });
      if (!signal.aborted) this.lose();
    } catch (error) {
      if (signal.aborted) return;
      if (error instanceof Refused) this.refused(error.error);
      else this.lose();
    }
  }

  sign() {
    this.heardAt = Date.now();
    this.listen();
  }

  receive(type, data) {
    if (type === "message" || type === "heartbeat") this.go(data);
    else if (type === "error") this.refused(JSON.parse(data));
  }

  /** Pass a message on. Only the first one, or a heartbeat, shows that a stream goes on. */
  go(data) {
    const { connection } = this;
    if (data) this.onMessage(JSON.parse(data));
    if (this.state === "open" || connection !== this.connection) return;
    this.wait = FIRST_WAIT_MS;
    this.tell("open");
  }

  /** The server has refused a connection, or ended one, and said why. */
  refused(error) {
    if (error.retryAfterMs !== undefined || RETRYABLE.includes(error.code)) {
      this.lose(Number(error.retryAfterMs ?? 0), error);
    } else {
      this.close();
      this.tell("failed", { error });
    }
  }

  /** Connect again after a while, which grows with each failure. */
  lose(atLeast = 0, error = undefined) {
    this.close();
    const wait = Math.max(atLeast, this.wait * (0.75 + Math.random() / 2));
    this.wait = Math.min(2 * this.wait, MAX_WAIT_MS);
    this.tell("lost", { error });
    this.timer = setTimeout(() => this.open(), wait);
  }

  /** A connection that died without a word is noticed by its silence. */
  listen() {
    clearTimeout(this.silence);
    this.silence = setTimeout(() => this.lose(), SILENT_MS);
  }

  onVisibility() {
    clearTimeout(this.hiding);
    if (document.visibilityState === "hidden") {
      this.hiding = setTimeout(() => this.hide(), HIDDEN_MS);
    } else if (this.state === "hidden") {
      this.open();
    }
  }

  hide() {
    if (!["connecting", "open", "lost"].includes(this.state)) return;
    this.close();
    this.tell("hidden");
  }

  close() {
    clearTimeout(this.timer);
    clearTimeout(this.silence);
    this.connection?.abort();
    this.connection = null;
  }

  tell(state, more = {}) {
    this.state = state;
    this.onState(state, more);
  }
}
