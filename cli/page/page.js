// Does for the widget what CloudWatch does: asks for its HTML, and turns each <cwdb-action> into an invocation.
"use strict";

const token = location.hash.slice(1);
const settings = { seconds: 5 };
const widget = document.getElementById("widget");
const failure = document.getElementById("failure");
const dialog = document.getElementById("confirm");
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
  widget.querySelector(".pb")?.classList.toggle("pb-dark", theme() === "dark");
  document.getElementById("theme").textContent = `Theme: ${chosen}`;
}

// The view is in the address, so that it can be kept, shared and gone back to. The key stays in the fragment.
const IN_ADDRESS = ["show", "filter", "state", "plot", "page"];
const USUAL = { page: "1", plot: "hour" };

const pick = (values) => Object.fromEntries(IN_ADDRESS.filter((name) => values[name] !== undefined).map((name) => [name, values[name]]));
const ofAddress = () => pick(Object.fromEntries(new URLSearchParams(location.search)));
let wanted = ofAddress(); // what a refresh asks for

function toAddress(view) {
  const given = new URLSearchParams();
  for (const name of IN_ADDRESS) {
    const value = String(view[name] ?? "");
    if (value && value !== USUAL[name]) given.set(name, value);
  }
  return `${location.pathname}${String(given) && `?${given}`}${location.hash}`;
}

// Another page is another entry of the history; a filter is not.
function remember(view) {
  const anew = (view.show ?? "") !== (wanted.show ?? "");
  wanted = view;
  if (anew) history.pushState(null, "", toAddress(view));
  else history.replaceState(null, "", toAddress(view));
}

const FIELDS = "input[name], select[name]";
function fields() {
  const all = {};
  for (const field of widget.querySelectorAll(FIELDS)) all[field.name] = field.value;
  return all;
}

const context = () => ({
  locale: "en", theme: theme(), width: widget.clientWidth, height: innerHeight, params: settings.parameters || {},
  forms: { all: fields() },
});

const GONE = "The server of this page does not answer: backfill dashboard was ended, or its machine sleeps. Run backfill dashboard again and open the address that it prints.";

// Every failure is a sentence for a person: of this page's server, of the key in the address, or of the stack.
async function call(path, event) {
  const headers = { "content-type": "application/json", "x-backfill-token": token };
  let answer, body;
  try {
    answer = await fetch(path, { method: "POST", headers, body: JSON.stringify(event) });
    body = await answer.json();
  } catch {
    throw new Error(GONE);
  }
  if (!answer.ok) throw new Error(body.error);
  return body;
}

function show(path, event, keeping = false) {
  waiting += 1;
  running = running.then(async () => {
    try {
      const { html } = await call(path, event);
      replace(html, keeping);
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

// The keyboard stays where it was, as every control has an id of its own; so does what is opened. A refresh that nobody asked
// for (``keeping``) leaves what is typed.
let shown = "";
function replace(html, keeping) {
  if (keeping && html === shown) return;
  shown = html;
  const active = widget.contains(document.activeElement) ? document.activeElement : null;
  const caret = active?.matches("input") ? [active.selectionStart, active.selectionEnd] : null;
  const typed = new Map(keeping ? [...widget.querySelectorAll(FIELDS)].map((each) => [each.id, each.value]) : []);
  const opened = new Map([...widget.querySelectorAll("details[id]")].map((each) => [each.id, each.open]));
  widget.innerHTML = html;
  for (const each of widget.querySelectorAll("details[id]")) if (opened.has(each.id)) each.open = opened.get(each.id);
  for (const each of widget.querySelectorAll(FIELDS)) if (typed.has(each.id)) each.value = typed.get(each.id);
  const again = active?.id ? document.getElementById(active.id) : null;
  again?.focus({ preventScroll: true });
  if (again && caret) again.setSelectionRange(...caret);
}

function tellAge() {
  const text = updated === null ? "nothing received yet" : `received ${Math.round((Date.now() - updated) / 1000)} s ago`;
  document.getElementById("freshness").textContent = text;
}

// Dead letters are as they were received: to list them again would hide them from others.
const still = () => widget.querySelector(".pb[data-still]") !== null;
const refresh = () => still() ? undefined : show("/widget", { ...wanted, widgetContext: context() }, true);
const busy = () => waiting > 0 || dialog.open || Date.now() < noticeUntil;

// The event of a dialog that was closed may come after the next one was opened: it answers the question that it belongs to.
let asked = 0;
function confirmed(question, name) {
  const mine = ++asked;
  document.getElementById("question").textContent = question;
  document.getElementById("yes").textContent = name;
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
  if (question && !await confirmed(question, element.getAttribute("aria-label") || element.textContent)) return;
  element.focus();
  const present = context();
  const typed = present.forms.all;
  remember(path === "/widget" ? { ...event, ...typed } : { ...pick(event), ...pick(typed) });
  const done = await show(path, { ...event, widgetContext: present });
  // What became of an action can be read before a refresh replaces it.
  if (done && path === "/console") noticeUntil = Date.now() + 1000 * settings.notice_seconds;
}

widget.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button) act(button);
});
// Enter presses the button of its form.
widget.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || !event.target.matches("input")) return;
  event.preventDefault(); // or the button, which gets the focus, would be pressed by the same key
  const button = event.target.closest(".pb-form")?.querySelector("button");
  if (button) act(button);
});
// A filter applies while it is typed.
let typing;
widget.addEventListener("input", ({ target }) => {
  if (!target.matches("#pb-filter, #pb-state")) return;
  remember({ ...wanted, ...fields(), page: 1 });
  clearTimeout(typing);
  typing = setTimeout(refresh, 200);
});
addEventListener("popstate", () => {
  wanted = ofAddress();
  shown = "";
  widget.replaceChildren(); // its fields are of the page that is left
  refresh();
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
