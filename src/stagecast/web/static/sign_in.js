// Exchanges a key for a cookie. The key is sent in a header, and never part of a URL.

import { errorOf, root } from "./api.js";

const form = document.getElementById("form");
const field = document.getElementById("key");
const problem = document.getElementById("problem");

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  problem.textContent = "";
  const key = field.value.trim();
  // A header takes only these characters; keys and tokens have no others.
  if (!/^[!-~]+$/.test(key)) {
    problem.textContent = "A key has no spaces or special characters.";
    return;
  }
  try {
    const answer = await fetch(`${root}/session`, {
      method: "POST",
      headers: { Authorization: `Bearer ${key}` },
    });
    if (answer.ok) {
      location.reload();
    } else {
      problem.textContent = errorOf(answer, await answer.json().catch(() => null)).message;
      field.select();
    }
  } catch {
    problem.textContent = "The server cannot be reached. Try again.";
  }
});
