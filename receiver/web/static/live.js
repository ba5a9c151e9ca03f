// Keeps pages up to date, and adds what needs a script. Every page works without it.
"use strict";
const root = document.documentElement;
root.classList.add("js");
const byId = (id) => document.getElementById(id);

const announce = (text) => {
  const at = byId("status");
  if (at && at.textContent !== text) at.textContent = text;
};

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button[data-copy]");
  if (!button) return;
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
    announce("Copied: " + button.dataset.copy);
    if (button.closest(".fix")) button.textContent = "Copied";
  } catch {
    // The clipboard is not writable: select the text, to copy it by hand.
    getSelection().selectAllChildren(button.parentElement.querySelector("code"));
    announce("Selected: copy it with Ctrl-C");
  }
});

// The theme is the browser's own until it is chosen here.
const theme = byId("theme");
if (theme) theme.addEventListener("click", () => {
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  const next = dark ? "light" : "dark";
  root.dataset.theme = next;
  document.cookie = "cis490-theme=" + next + ";path=/;max-age=31536000;secure;samesite=strict";
  announce("Theme: " + next);
  for (const part of document.querySelectorAll(".plot")) part.querySelector("img") && location.reload();
});

// Shortcuts: single keys, not while typing.
const shortcuts = byId("shortcuts");
let prefix = "";
if (shortcuts) {
  byId("keys").addEventListener("click", () => shortcuts.showModal());
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, select, textarea, dialog")) return;
    const key = event.key, page = prefix === "g" && { f: "/", a: "/alerts", e: "/episodes", r: "/releases" }[key];
    prefix = key;
    if (page) location.assign(page);
    else if (key === "?") shortcuts.showModal();
    else if (key === "/") {
      const search = document.querySelector("input[type=search]");
      if (search) {
        event.preventDefault();
        search.focus();
      }
    }
  });
}

// The selection of hosts.
const picked = () => document.querySelectorAll("#rows input:checked").length;
const showPicked = () => {
  if (byId("selected")) byId("selected").textContent = picked() + " selected:";
};
document.addEventListener("change", (event) => {
  if (event.target.id === "all") {
    for (const box of document.querySelectorAll("#rows input")) box.checked = event.target.checked;
  }
  if (event.target.closest("#hosts")) showPicked();
});
showPicked();

// Relative times, in the words of the receiver.
let skew = Date.now() - Number(document.body.dataset.now);
const duration = (s) => {
  if (s >= 172800) return Math.floor(s / 86400) + " days";
  if (s >= 3600) return Math.floor(s / 3600) + " h " + (Math.floor(s / 60) % 60) + " min";
  return s >= 60 ? Math.floor(s / 60) + " min" : Math.floor(s) + " s";
};
const showTimes = () => {
  if (document.hidden) return;
  for (const at of document.querySelectorAll("time[data-ago], time[data-age]")) {
    const seconds = Math.max(0, (Date.now() - skew - Date.parse(at.dateTime)) / 1000);
    const ago = at.hasAttribute("data-ago");
    const text = ago && seconds < 1 ? "now" : duration(seconds) + (ago ? " ago" : "");
    if (at.firstChild && at.firstChild.data !== text) at.firstChild.data = text;
  }
};

// An element in which someone types stays as it is until they are done.
const busy = (part) =>
  part.contains(document.activeElement) && document.activeElement.matches("input:not([type=checkbox]), select, textarea");

// name finds the same control again in a part that was replaced.
const name = (element) =>
  element.id || element.getAttribute("href") || element.dataset.copy || element.getAttribute("aria-label");

const replace = (old, fresh) => {
  if (busy(old)) return;
  const held = old.contains(document.activeElement) ? name(document.activeElement) : null;
  const open = [...old.querySelectorAll("details[open]")].map((d) => d.id);
  const box = old.querySelector("input[type=checkbox]");
  old.replaceWith(fresh);
  for (const d of fresh.querySelectorAll("details")) d.open = open.includes(d.id);
  if (box && box.checked) fresh.querySelector("input[type=checkbox]").checked = true;
  if (held) {
    const again = [...fresh.querySelectorAll("a, button, input")].find((e) => name(e) === held);
    if (again) again.focus({ preventScroll: true });
  }
};

// arrange brings the rows of the table into an order and drops those it does not list.
const arrange = (order, added) => {
  const body = byId("rows");
  if (!body) return;
  const wanted = new Set(order);
  for (const row of [...body.children]) {
    if (!wanted.has(row.id)) row.remove();
  }
  let next = body.firstElementChild;
  for (const id of order) {
    if (next && next.id === id) {
      next = next.nextElementSibling;
      continue;
    }
    const row = byId(id) || added.get(id);
    if (row) body.insertBefore(row, next);
  }
};

const apply = (change) => {
  document.title = change.title;
  skew = Date.now() - change.now;
  const verdict = byId("verdict");
  const before = verdict && verdict.firstElementChild.textContent;
  const added = new Map();
  for (const part of change.parts) {
    const holder = document.createElement("template");
    holder.innerHTML = part.html;
    const fresh = holder.content.firstElementChild;
    const old = byId(part.id);
    if (old) replace(old, fresh);
    else added.set(part.id, fresh);
  }
  arrange(change.order, added);
  showPicked();
  const after = byId("verdict");
  if (after && before !== after.firstElementChild.textContent) announce(after.firstElementChild.textContent);
};

// A refresh asks for the parts whose marks the page does not have, one at a time and not
// more often than every few seconds.
const pause = 3000;
let asking = false, again = false;
const refresh = async () => {
  if (document.hidden) return;
  if (asking) {
    again = true;
    return;
  }
  asking = true;
  try {
    const marks = [...document.querySelectorAll("[data-live]")].map((part) => part.dataset.live).join(" ");
    const answer = await fetch(location.href, { headers: { "Cis490-Marks": marks } });
    if (answer.redirected) location.reload(); // the session has ended
    else if (answer.status === 200) apply(await answer.json());
    showTimes();
  } catch {
    // The receiver is away; the stream of events comes back by itself.
  }
  setTimeout(() => {
    asking = false;
    if (again) {
      again = false;
      refresh();
    }
  }, pause);
};

setInterval(showTimes, 10000);
if (document.querySelector("[data-live]")) {
  new EventSource("/events").addEventListener("change", refresh);
  document.addEventListener("visibilitychange", refresh);
}
