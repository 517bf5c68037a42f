// Painting at most ten times a second, in step with the screen.

const EVERY_MS = 100;

/** Return a function that has `paint` called soon, however often it is called itself. */
export function painter(paint) {
  let asked = false;
  let last = -Infinity;
  const frame = (now) => {
    if (now - last < EVERY_MS) {
      setTimeout(() => requestAnimationFrame(frame), EVERY_MS - (now - last));
      return;
    }
    asked = false;
    last = now;
    paint();
  };
  return () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(frame);
  };
}

/** Set a text, and leave the document alone if it is the same. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function setClass(element, name) {
  if (element.className !== name) element.className = name;
}

/** Make a list hold one child per item: `make` creates one, `fill` brings it up to date. */
export function setChildren(list, items, make, fill) {
  while (list.children.length > items.length) list.lastElementChild.remove();
  while (list.children.length < items.length) list.append(make());
  items.forEach((item, index) => fill(list.children[index], item));
}

export const clone = (id) => document.getElementById(id).content.cloneNode(true).firstElementChild;
