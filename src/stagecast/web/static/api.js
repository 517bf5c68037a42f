// Calls to the server by the Connect protocol, and what the page says about its reader.

const page = document.documentElement.dataset;
const FORGERY_HEADER = "x-stagecast-forgery-token";
const TIMEOUT_MS = 30_000; // longer than the server waits for its store

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
  const answer = await reach(`${root}/stagecast.v1.${method}`, {
    method: "POST",
    headers: { "Content-Type": "application/json", [FORGERY_HEADER]: page.forgeryToken },
    body: JSON.stringify(request),
  });
  const body = await answer.json().catch(() => null);
  if (answer.ok && body) return body;
  if (answer.ok) throw new CallError("unavailable", "the connection was lost");
  const { code, message } = errorOf(answer, body);
  throw new CallError(code, message, (body?.details ?? []).map((one) => one.debug?.reason).find(Boolean));
}

/** What a proxy in front of the server means, which has no codes. */
const CODES = { 401: "unauthenticated", 403: "permission_denied", 429: "resource_exhausted" };

/** Return the code and the message of an error; `body` is its JSON, if it has any. */
export function errorOf({ status, statusText }, body) {
  return {
    code: body?.code ?? CODES[status] ?? "unavailable",
    message: body?.message ?? `the server answered ${status} ${statusText}`.trim(),
  };
}

async function reach(url, options) {
  try {
    return await fetch(url, { ...options, signal: AbortSignal.timeout(TIMEOUT_MS) });
  } catch {
    throw new CallError("unavailable", "the server cannot be reached");
  }
}

/**
 * Return whether an error means that the session is over, or another one, and load the page again.
 *
 * Only once a minute: a proxy may let the page through and refuse its calls, again and again.
 */
export function signInIfNeeded({ code, message }) {
  const another = code === "permission_denied" && message.includes(FORGERY_HEADER);
  if (!another && code !== "unauthenticated") return false;
  if (!reloads && Date.now() - Number(sessionStorage.getItem(RELOADED_AT)) > MINUTE_MS) {
    reloads = true;
    sessionStorage.setItem(RELOADED_AT, Date.now());
    location.reload(); // the server answers with the form if nobody is signed in
  }
  return reloads;
}

const RELOADED_AT = "stagecast reloaded at";
const MINUTE_MS = 60_000;
let reloads = false;

const signOut = document.getElementById("sign-out");
signOut?.addEventListener("click", async () => {
  try {
    await reach(`${root}/session`, { method: "DELETE", headers: { [FORGERY_HEADER]: page.forgeryToken } });
    location.reload();
  } catch {
    signOut.textContent = "Sign out: the server cannot be reached, try again";
  }
});
