// How fast a batch moves, and when it may end; free of the browser.
//
// An estimate is made from what was observed, over a short and a long time: the two make its range.

import { coarse, ended } from "./format.js";

const SHORT_MS = 60_000;
const LONG_MS = 300_000;
const MIN_MS = 8_000; // of observation
const MIN_DONE = 1; // documents, or what adds up to one
const EVERY_MS = 1_000;
const STILL_MS = 20_000; // without any progress, at least
const IDLE_MS = 5_000; // without any progress while no document is running
const STILL_GAPS = 10; // times the usual gap between two documents

export class Pace {
  constructor() {
    this.samples = [];
    this.movedAt = null; // when something was done last
  }

  /** Forget everything, e.g. after a time in which nothing was observed. */
  clear() {
    this.samples = [];
    this.movedAt = null;
  }

  /** Begin with the times at which documents have ended before the page was opened. */
  seed(times, done, now) {
    const recent = times.filter((time) => time !== null && time > now - LONG_MS).sort((a, b) => a - b);
    // Without an end in the last minutes there is nothing to begin with.
    if (recent.length < 3) return;
    const before = done - recent.length;
    this.samples = recent.map((at, index) => ({ at, done: before + index + 1, chunks: null }));
    this.movedAt = recent.at(-1);
  }

  add(now, done, chunks) {
    // A retry takes back what was done: what was observed before says nothing now.
    if (done < this.samples.at(-1)?.done - 0.5) this.clear();
    const last = this.samples.at(-1);
    if (last && now - last.at < EVERY_MS) return;
    if (!last || done > last.done || chunks > (last.chunks ?? chunks)) this.movedAt = now;
    this.samples.push({ at: now, done, chunks });
    while (this.samples[0].at < now - LONG_MS) this.samples.shift();
  }

  /** Return the chunks a second of the last minute; `null` while there is nothing to measure. */
  chunksPerSecond(now) {
    const seen = this.samples.filter(({ at, chunks }) => chunks !== null && at >= now - SHORT_MS);
    if (seen.length < 2) return null;
    const [first, last] = [seen[0], seen.at(-1)];
    const seconds = (now - first.at) / 1000;
    return seconds >= 3 && last.chunks >= first.chunks ? (last.chunks - first.chunks) / seconds : null;
  }

  /** Return the documents a millisecond over the last `span`, and over how long. */
  rate(now, span) {
    const first = this.samples.find(({ at }) => at >= now - span);
    const last = this.samples.at(-1);
    if (!first || first === last) return { rate: 0, done: 0, over: 0 };
    const over = now - first.at;
    return { rate: (last.done - first.done) / over, done: last.done - first.done, over };
  }

  /** Return the time left as `{from, to}` in milliseconds, or `{why}` there is none. */
  estimate(batch, now) {
    const { counts, state, sealed, endedAt } = batch;
    if (endedAt !== null) return { why: "" };
    if (state === "paused") return { why: "no estimate while paused" };
    if (counts.total === 0) return { why: "waiting for documents" };
    if (state === "pending") return { why: "waiting for a worker" };
    if (!sealed) return { why: "no estimate while documents may be added" };
    const open = counts.total - ended(counts) - counts.paused;
    if (open === 0) return { why: "no estimate while documents are paused" };
    if (counts.stalled > 0 && counts.stalled >= counts.running) {
      return { why: "no estimate while all that runs is stalled" };
    }
    const long = this.rate(now, LONG_MS);
    const still = now - this.movedAt;
    if (counts.running === 0 && still > IDLE_MS) return { why: "waiting for a worker" };
    if (still > Math.max(STILL_MS, (STILL_GAPS * (long.over - still)) / Math.max(1, long.done))) {
      return { why: `no estimate: nothing has moved for ${coarse(still)}` };
    }
    if (long.over < MIN_MS) return { why: counts.running ? "estimate follows shortly" : "waiting for a worker" };
    if (long.done < MIN_DONE) return { why: "estimate follows once a document ends" };
    const short = this.rate(now, SHORT_MS);
    const rates = [long.rate, short.rate].filter((rate) => rate > 0);
    const left = Math.max(0, counts.total - this.samples.at(-1).done);
    return { from: (0.9 * left) / Math.max(...rates), to: (1.15 * left) / Math.min(...rates) };
  }
}

/** `8–11 min left`, in the largest unit that both ends share. */
export function left({ from, to }) {
  if (to < 60_000) return `less than ${to < 15_000 ? "15 s" : "a minute"} left`;
  const [ms, unit] = to < 90 * 60_000 ? [60_000, "min"] : to < 48 * 3_600_000 ? [3_600_000, "h"] : [86_400_000, "days"];
  const [low, high] = [Math.max(1, Math.floor(from / ms)), Math.max(1, Math.round(to / ms))];
  return low >= high ? `about ${high} ${unit} left` : `${low}–${high} ${unit} left`;
}
