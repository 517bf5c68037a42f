// Painting at most ten times a second, in step with the screen.

const EVERY_MS = 100;
const HIDDEN_MS = 1000;

/** Return a function that has `paint` called soon, however often it is called itself. */
export function painter(paint) {
  let asked = false;
  let last = -Infinity;
  const frame = () => {
    const now = performance.now();
    if (now - last < EVERY_MS) {
      setTimeout(() => atFrame(frame), EVERY_MS - (now - last));
      return;
    }
    asked = false;
    last = now;
    paint();
  };
  return () => {
    if (asked) return;
    asked = true;
    atFrame(frame);
  };
}

/** Run at the next frame; a hidden tab has none, but a title and an icon that show progress. */
function atFrame(run) {
  const timer = setTimeout(() => {
    cancelAnimationFrame(frame);
    run();
  }, HIDDEN_MS);
  const frame = requestAnimationFrame(() => {
    clearTimeout(timer);
    run();
  });
}

/** Set a text, and leave the document alone if it is the same. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function setClass(element, name) {
  if (element.className !== name) element.className = name;
}

/**
 * Make a list hold one child per item: `make` creates one, `fill` brings it up to date.
 *
 * A child stays with the item that has its key, so that a click or the focus never meets another one.
 */
export function setChildren(list, items, { keyOf, make, fill }) {
  const focused = list.contains(document.activeElement) ? document.activeElement : null;
  const children = new Map([...list.children].map((child) => [child.key, child]));
  const keys = items.map(keyOf);
  const wanted = new Set(keys);
  for (const [key, child] of children) if (!wanted.has(key)) child.remove();
  let next = list.firstElementChild;
  items.forEach((item, index) => {
    const child = children.get(keys[index]) ?? Object.assign(make(), { key: keys[index] });
    if (child === next) next = next.nextElementSibling;
    else list.insertBefore(child, next);
    fill(child, item, index);
  });
  if (focused?.isConnected && document.activeElement !== focused) focused.focus({ preventScroll: true });
}

export const clone = (id) => document.getElementById(id).content.cloneNode(true).firstElementChild;
