// Calls to the server by the Connect protocol, and what the page says about its reader.

const page = document.documentElement.dataset;
const FORGERY_HEADER = "x-stagecast-forgery-token";

export const root = page.root;
export const mayControl = page.scopes.split(" ").includes("control");

/** An error of a call. `code` is that of Connect, `reason` that of stagecast, if there is one. */
export class CallError extends Error {
  constructor(code, message, reason = "") {
    super(message);
    this.code = code;
    this.reason = reason;
  }
}

/** Call an RPC, such as `StatusService/GetBatch`, and return its response. */
export async function call(method, request) {
  let answer;
  try {
    answer = await fetch(`${root}/stagecast.v1.${method}`, {
      method: "POST",
      headers: { "Content-Type": "application/json", [FORGERY_HEADER]: page.forgeryToken },
      body: JSON.stringify(request),
    });
  } catch {
    throw new CallError("unavailable", "the server cannot be reached");
  }
  const body = await answer.json().catch(() => ({}));
  if (answer.ok) return body;
  const reason = (body.details ?? []).map((one) => one.debug?.reason).find(Boolean);
  throw new CallError(body.code ?? `http_${answer.status}`, body.message ?? answer.statusText, reason);
}

/** Return whether an error means that the session is over, or another one, and load the page again. */
export function signInIfNeeded({ code, message }) {
  const another = code === "permission_denied" && message.includes(FORGERY_HEADER);
  const needed = another || code === "unauthenticated";
  if (needed) location.reload(); // the server answers with the form if nobody is signed in
  return needed;
}

document.getElementById("sign-out")?.addEventListener("click", async () => {
  await fetch(`${root}/session`, {
    method: "DELETE",
    headers: { [FORGERY_HEADER]: page.forgeryToken },
  });
  location.reload();
});
