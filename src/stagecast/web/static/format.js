// Numbers, durations and states as people read them.

const numbers = new Intl.NumberFormat("en");

export const count = (number) => numbers.format(number);

export const quantity = (number, one, many = `${one}s`) =>
  `${count(number)} ${number === 1 ? one : many}`;

/** A duration in milliseconds, in its two largest units: `8 s`, `3 min 5 s`, `2 h 10 min`. */
export function duration(ms) {
  const seconds = Math.max(0, ms) / 1000;
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return pair(minutes, "min", whole % 60, "s");
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return pair(hours, "h", minutes % 60, "min");
  return pair(Math.floor(hours / 24), "days", hours % 24, "h");
}

function pair(large, unit, small, smallUnit) {
  return small ? `${large} ${unit} ${small} ${smallUnit}` : `${large} ${unit}`;
}

/** How long ago something was, for sentences: `2 s ago`. */
export const ago = (ms) => (ms < 1000 ? "just now" : `${coarse(ms)} ago`);

/** A duration in its largest unit. */
export function coarse(ms) {
  const seconds = Math.max(0, ms) / 1000;
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 48 * 3600) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} days`;
}

const sameDay = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const otherDay = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

/** A time of day, with the date unless it is today's. */
export function moment(ms) {
  const date = new Date(ms);
  return (date.toDateString() === new Date().toDateString() ? sameDay : otherDay).format(date);
}

/** The percentage of ended documents; 100 only if all have ended. */
export function percent(counts) {
  return counts.total ? Math.floor((100 * ended(counts)) / counts.total) : 0;
}

export const ended = (counts) => counts.succeeded + counts.failed + counts.stopped;

const words = new Map();

/** `BATCH_STATE_PARTIALLY_SUCCEEDED` as `partially succeeded`. */
export function word(value, prefix) {
  if (!value) return "";
  let made = words.get(value);
  if (made === undefined) {
    made = value.replace(`${prefix}_`, "").replaceAll("_", " ").toLowerCase();
    words.set(value, made);
  }
  return made;
}

const RIGHT_TO_LEFT = /[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc]/;

/** A name within a sentence, which it must not turn round where it is written from right to left. */
export const isolate = (name) => (RIGHT_TO_LEFT.test(name) ? `\u2068${name}\u2069` : name);

/** A text quoted for a shell, if it has to be. */
export const shell = (text) =>
  /^[\w@%+=:,./-]+$/.test(text) && !text.startsWith("-") ? text : `'${text.replaceAll("'", `'"'"'`)}'`;
