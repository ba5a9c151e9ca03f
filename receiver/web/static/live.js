// Makes pages live and fixes copyable. Every page works without it.
"use strict";
document.documentElement.classList.add("js");

const told = (text) => {
  const at = document.getElementById("told");
  if (at && at.textContent !== text) at.textContent = text;
};

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-copy]");
  if (!button) return;
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
    told("Copied: " + button.dataset.copy);
    button.textContent = "Copied";
  } catch {
    // Without the right to write the clipboard: select it, to copy by hand.
    getSelection().selectAllChildren(button.previousElementSibling);
    told("Selected: copy it with Ctrl-C");
  }
});

// What the one who looks is at work with is left alone until they are done.
const busy = (part) =>
  part.contains(document.activeElement) && document.activeElement.matches("input, select, textarea");

// mark finds the same link or button again in a part that was replaced.
const mark = (element) =>
  element.id || element.getAttribute("href") || element.dataset.copy || element.getAttribute("aria-label");

const replace = (old, fresh) => {
  if (old.innerHTML === fresh.innerHTML || busy(old)) return;
  const held = old.contains(document.activeElement) ? document.activeElement : null;
  const open = [...old.querySelectorAll("details[open] > summary")].map((s) => s.textContent);
  old.replaceWith(fresh);
  for (const s of fresh.querySelectorAll("details > summary")) {
    if (open.includes(s.textContent)) s.parentElement.open = true;
  }
  if (held && mark(held)) {
    const again = [...fresh.querySelectorAll("a, button")].find((e) => mark(e) === mark(held));
    if (again) again.focus({ preventScroll: true });
  }
};

let asking = false;
const refresh = async () => {
  if (asking || document.hidden) return;
  asking = true;
  try {
    const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
    if (!answer.ok || answer.redirected) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const verdict = document.getElementById("verdict");
    const before = verdict && verdict.firstElementChild.textContent;
    for (const old of document.querySelectorAll("[data-live]")) {
      const fresh = page.getElementById(old.id);
      if (fresh) replace(old, document.adoptNode(fresh));
    }
    const after = document.getElementById("verdict");
    if (after && before !== after.firstElementChild.textContent) told(after.firstElementChild.textContent);
  } catch {
    // The receiver is away: the stream comes back by itself.
  } finally {
    asking = false;
  }
};

if (document.querySelector("[data-live]")) {
  new EventSource("/events").addEventListener("change", refresh);
  document.addEventListener("visibilitychange", refresh);
}
