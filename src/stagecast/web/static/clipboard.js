// Copying, also where the page has no access to the clipboard, as over plain HTTP.

/** Copy a text, and say so on the button. */
export async function copy(button, text) {
  const label = button.textContent;
  button.textContent = (await copied(text)) ? "Copied" : "Press Ctrl+C";
  setTimeout(() => {
    button.textContent = label;
  }, 2000);
}

async function copied(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copiedFromField(text);
  }
}

function copiedFromField(text) {
  const field = document.createElement("textarea");
  field.value = text;
  field.className = "hide";
  field.ariaLabel = "Text to copy";
  document.body.append(field);
  field.select();
  const done = document.execCommand("copy");
  field.remove();
  return done;
}
