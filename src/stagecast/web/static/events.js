// Server-sent events of one connection, read with `fetch`.
//
// `EventSource` shows neither the comments that are heartbeats, so a dead connection looks like a quiet
// one, nor why a connection was refused.

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
  if (!answer.ok) throw new Refused(await errorOf(answer));
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

async function errorOf(answer) {
  const body = await answer.json().catch(() => ({}));
  const wait = Number(answer.headers.get("retry-after"));
  return {
    code: body.code ?? (answer.status < 500 ? `http_${answer.status}` : "unavailable"),
    message: body.message ?? answer.statusText,
    retryAfterMs: wait > 0 ? wait * 1000 : undefined,
  };
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
