// Does for the widget what CloudWatch does: asks for its HTML, and turns each <cwdb-action> into an invocation.
"use strict";

const token = location.hash.slice(1);
const settings = { seconds: 5 };
const widget = document.getElementById("widget");
const failure = document.getElementById("failure");
const dialog = document.getElementById("confirm");
let wanted = {}; // the page and filter that a refresh keeps
let updated = null;
let running = Promise.resolve(); // calls come one after the other: none is dropped, and no late answer replaces a newer one
let waiting = 0;
let noticeUntil = 0;
let stopped = false;

const themes = ["auto", "light", "dark"];
let chosen = themes.includes(localStorage.getItem("theme")) ? localStorage.getItem("theme") : "auto";
const theme = () => chosen !== "auto" ? chosen : matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";

function showTheme() {
  document.documentElement.dataset.theme = theme();
  document.getElementById("theme").textContent = `Theme: ${chosen}`;
}

function context() {
  const offset = -new Date().getTimezoneOffset();
  const two = (number) => String(Math.floor(Math.abs(number))).padStart(2, "0");
  const all = {};
  for (const field of widget.querySelectorAll("input[name], select[name]")) all[field.name] = field.value;
  return {
    locale: "en", theme: theme(), width: widget.clientWidth, height: innerHeight, params: settings.parameters || {}, forms: { all },
    timezone: { label: offset ? "local time" : "UTC", offsetISO: `${offset < 0 ? "-" : "+"}${two(offset / 60)}:${two(offset % 60)}` },
  };
}

async function call(path, event) {
  const headers = { "content-type": "application/json", "x-backfill-token": token };
  const answer = await fetch(path, { method: "POST", headers, body: JSON.stringify(event) });
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.error);
  return body;
}

function show(path, event) {
  waiting += 1;
  running = running.then(async () => {
    try {
      const { html } = await call(path, event);
      replace(html);
      updated = Date.now();
      failure.hidden = true;
      return true;
    } catch (error) {
      failure.textContent = error.message;
      failure.hidden = false;
      return false;
    } finally {
      waiting -= 1;
      tellAge();
    }
  });
  return running;
}

// The keyboard stays where it was: every control has an id of its own.
function replace(html) {
  const focused = widget.contains(document.activeElement) ? document.activeElement.id : "";
  widget.innerHTML = html;
  if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
}

function tellAge() {
  const text = updated === null ? "nothing received yet" : `received ${Math.round((Date.now() - updated) / 1000)} s ago`;
  document.getElementById("freshness").textContent = text;
}

const refresh = () => show("/widget", { ...wanted, widgetContext: context() });
const busy = () => waiting > 0 || dialog.open || Date.now() < noticeUntil || document.activeElement?.matches("#widget input, #widget select");

// The event of a dialog that was closed may come after the next one was opened: it answers the question that it belongs to.
let asked = 0;
function confirmed(question) {
  const mine = ++asked;
  document.getElementById("question").textContent = question;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => {
    const closed = () => {
      if (mine === asked && dialog.open) return;
      dialog.removeEventListener("close", closed);
      resolve(mine === asked && dialog.returnValue === "yes");
    };
    dialog.addEventListener("close", closed);
  });
}

async function act(element) {
  const action = element.nextElementSibling;
  if (action?.localName !== "cwdb-action" || action.getAttribute("action") !== "call") return;
  const event = JSON.parse(action.textContent);
  const path = action.getAttribute("endpoint").endsWith("-console") ? "/console" : "/widget";
  const question = action.getAttribute("confirmation");
  if (question && !await confirmed(question)) return;
  element.focus();
  const present = context();
  if (path === "/widget") wanted = { ...event, ...present.forms.all };
  const done = await show(path, { ...event, widgetContext: present });
  // What became of an action can be read before a refresh replaces it.
  if (done && path === "/console") noticeUntil = Date.now() + 1000 * settings.notice_seconds;
}

widget.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button) act(button);
});
widget.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && event.target.matches("input, select")) act(document.getElementById("pb-show"));
});
document.getElementById("theme").addEventListener("click", () => {
  chosen = themes[(themes.indexOf(chosen) + 1) % themes.length];
  localStorage.setItem("theme", chosen);
  showTheme();
  refresh();
});
document.getElementById("refreshing").addEventListener("click", ({ target }) => {
  stopped = !stopped;
  target.setAttribute("aria-pressed", String(!stopped));
  target.textContent = stopped ? "Does not refresh" : "Refreshes by itself";
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { showTheme(); refresh(); });
addEventListener("resize", () => { clearTimeout(settings.resized); settings.resized = setTimeout(refresh, 200); });
setInterval(tellAge, 1000);

async function begin() {
  showTheme();
  try {
    Object.assign(settings, await call("/settings", {}));
  } catch (error) {
    failure.textContent = error.message;
    failure.hidden = false;
    return;
  }
  document.getElementById("stack").textContent = settings.stack;
  await refresh();
  setInterval(() => { if (!busy() && !stopped && !document.hidden) refresh(); }, settings.seconds * 1000);
}

begin();
