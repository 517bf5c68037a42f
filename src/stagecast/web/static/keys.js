// Keys without modifiers, and not while the reader writes.

export class Keys {
  constructor(actions) {
    this.actions = actions;
    document.addEventListener("keydown", (event) => this.press(event));
  }

  press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    const writes = event.target.closest("input, textarea, select");
    if (event.key === "Escape") this.escape(event, writes);
    else if (!writes && BINDINGS[event.key]) {
      event.preventDefault();
      BINDINGS[event.key](this.actions);
    }
  }

  escape(event, writes) {
    event.preventDefault();
    if (writes) writes.blur();
    this.actions.escape();
  }
}

const BINDINGS = {
  "/": (actions) => actions.search(),
  j: (actions) => actions.move(1),
  k: (actions) => actions.move(-1),
  f: (actions) => actions.filter(),
  r: (actions) => actions.retry(),
  "?": (actions) => actions.help(),
};
