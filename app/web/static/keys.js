// Keyboard: j k move through what is marked data-row, c confirms, o overrules, / searches, ? shows the keys. Enter and Escape are the browser's.
"use strict";

document.documentElement.classList.add("scripted");

const dialog = document.getElementById("keys");
const button = document.querySelector("[data-keys]");
button.hidden = false;
button.addEventListener("click", () => dialog.showModal());

function move(step) {
  const rows = [...document.querySelectorAll("[data-row]")].filter((row) => row.checkVisibility());
  const at = rows.findIndex((row) => row.contains(document.activeElement));
  const next = rows[at < 0 ? (step > 0 ? 0 : rows.length - 1) : at + step];
  if (next) {
    next.focus({ preventScroll: true });
    next.scrollIntoView({ block: "nearest" });
  }
}

// A row that is no link itself (a finding) opens at the line it quotes.
function open() {
  const row = document.activeElement;
  if (row.matches("[data-row]:not(a)")) row.querySelector(".line-link")?.click();
}

function search() {
  const field = document.getElementById("q");
  if (field) field.select();
  else location.assign("/#q");
}

// The first press chooses the button, the second presses it: nobody decides by a slip.
function confirm() {
  const button = document.querySelector("[data-confirm]");
  if (button && button === document.activeElement) button.click();
  else if (button) button.focus();
}

function overrule() {
  const summary = document.querySelector("[data-overrule]");
  if (!summary) return;
  summary.parentElement.open = true;
  summary.parentElement.querySelector("select").focus();
}

const actions = {
  j: () => move(1),
  k: () => move(-1),
  c: confirm,
  o: overrule,
  Enter: open,
  "/": search,
  "?": () => dialog.showModal(),
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || dialog.open) return;
  if (event.target.closest("input, select, textarea")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const action = actions[event.key];
  if (!action || (event.key === "Enter" && !event.target.matches("[data-row]:not(a)"))) return;
  if (event.key !== "Enter") event.preventDefault();
  action();
});

// A link to a finding that is folded away unfolds it first; so does an address that names one.
function unfold(id) {
  const element = id && document.getElementById(id);
  const folded = element && element.closest("details:not([open])");
  if (folded) {
    folded.open = true;
    element.scrollIntoView();
  }
}

document.addEventListener("click", (event) => {
  const link = event.target.closest('a[href^="#"]');
  if (link) unfold(decodeURIComponent(link.hash.slice(1)));
});
window.addEventListener("load", () => unfold(decodeURIComponent(location.hash.slice(1))));
if (location.hash === "#q") search();
