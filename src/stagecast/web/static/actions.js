// What an operator may do, each time after a question: retry, stop, pause, resume.

import { CallError, call, signInIfNeeded } from "./api.js";
import { isolate, quantity } from "./format.js";

const AT_ONCE = 4; // calls
const PAST = { Stop: "Stopped", Pause: "Paused", Resume: "Resumed" };

/** What came of an action, for the reader: a retry runs nothing by itself. */
function outcomeOf(action, changed) {
  const many = quantity(changed, "document");
  if (action !== "Retry") return `${PAST[action]} ${many}.`;
  const [are, them] = changed === 1 ? ["is", "it"] : ["are", "them"];
  return `${many} ${are} pending again; a worker takes ${them} up when it next runs.`;
}

/** Ask before something is changed; resolves to whether the answer is yes. */
export function confirmed(question, action) {
  const dialog = document.getElementById("confirm");
  const yes = dialog.querySelector('[value="yes"]');
  dialog.querySelector("p").textContent = question;
  yes.textContent = action;
  yes.className = action === "Stop" ? "danger" : "primary";
  dialog.showModal();
  return new Promise((resolve) => {
    const answer = (event) => {
      const button = event.target.closest("button");
      if (event.type === "click" && !button) return;
      dialog.removeEventListener("click", answer);
      dialog.removeEventListener("close", answer);
      dialog.close();
      resolve(button?.value === "yes");
    };
    dialog.addEventListener("click", answer);
    dialog.addEventListener("close", answer);
  });
}

/** Return functions that act on a batch; `say` gets what came of it, for the reader. */
export function operator(datasetId, batchId, say) {
  const request = { datasetId, batchId };

  async function act(action, documents) {
    try {
      const changed = documents
        ? await each(documents, (document) => one(action, document.id))
        : await one(action, "");
      say(outcomeOf(action, changed));
    } catch (error) {
      if (!(error instanceof CallError)) throw error;
      if (!signInIfNeeded(error)) say(`${action} failed, at least in part: ${error.message}.`);
    }
  }

  async function one(action, documentId) {
    const answer = await call(`ControlService/${action}`, { ...request, documentId });
    return Number(answer.changedDocuments ?? 0);
  }

  return {
    /** Act on some documents. */
    async onDocuments(action, documents) {
      const what = documents.length === 1 ? `“${isolate(documents[0].name)}”` : quantity(documents.length, "document");
      if (await confirmed(`${action} ${what}?`, action)) await act(action, documents);
    },
    /** Act on the whole batch. */
    async onBatch(action, about) {
      if (await confirmed(`${action} ${about}?`, action)) await act(action, null);
    },
  };
}

/** Call a function for each item, a few at a time, and return the sum of the results. */
async function each(items, run) {
  const rest = [...items];
  let sum = 0;
  const worker = async () => {
    while (rest.length > 0) {
      const result = await run(rest.shift());
      sum += result;
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
  return sum;
}
