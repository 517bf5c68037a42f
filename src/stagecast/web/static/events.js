// Server-sent events of one connection, read with `fetch`.
//
// `EventSource` shows neither the comments that are heartbeats, so a dead connection looks like a quiet
// one, nor why a connection was refused.

import { errorOf } from "./api.js";

const LARGE = 1 << 15;

// Between large events others get their turn, such as a click.
const nextTask = () => new Promise((resolve) => setTimeout(resolve));

/** A refused connection, with the error of the server. */
export class Refused extends Error {
  constructor(error) {
    super(error.message);
    this.error = error;
  }
}

/**
 * Call `onEvent` with the type and data of each event, `heartbeat` for a comment, and `onSign` at every
 * sign of life, until the connection ends. Rejects if it cannot be made or is lost.
 */
export async function readEvents(url, { signal, onSign, onEvent }) {
  const answer = await fetch(url, { signal, cache: "no-store", headers: { Accept: "text/event-stream" } });
  if (!answer.ok) throw new Refused(await refusal(answer));
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  const lines = new Lines();
  let event = { type: "message", data: "" };
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    onSign();
    for (const line of lines.add(value)) {
      if (line === "") {
        if (event.data) onEvent(event.type, event.data);
        if (event.data.length > LARGE) await nextTask();
        event = { type: "message", data: "" };
      } else if (line.startsWith(":")) onEvent("heartbeat", "");
      else if (line.startsWith("event: ")) event.type = line.slice(7);
      else if (line.startsWith("data: ")) event.data += line.slice(6);
    }
  }
}

async function refusal(answer) {
  const body = await answer.json().catch(() => null);
  const wait = Number(answer.headers.get("retry-after"));
  return { ...errorOf(answer, body), retryAfterMs: wait > 0 ? wait * 1000 : undefined };
}

/** Cuts a text into lines; a line may come in many pieces, which are joined once. */
class Lines {
  constructor() {
    this.pieces = [];
  }

  add(text) {
    const parts = text.split("\n");
    this.pieces.push(parts[0]);
    if (parts.length === 1) return [];
    parts[0] = this.pieces.join("");
    this.pieces = [parts.pop()];
    return parts;
  }
}
