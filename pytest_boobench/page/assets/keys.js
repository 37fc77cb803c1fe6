// Keys that work in every room. Single ones can be switched off, for those who speak to their machine.

import { ROOMS, go } from "./route.js";
import { signal } from "./store.js";

const KEPT = "boobench-single-keys";
const on = signal(window.localStorage.getItem(KEPT) !== "off");

export const shortcuts = {
  on,
  set: (value) => {
    on.value = value;
    window.localStorage.setItem(KEPT, value ? "on" : "off");
  },
  list: [
    [["?"], "these keys"],
    [["1", "2", "3", "4", "5"], "Run, Now, History, Try, A/B"],
    [["/"], "the room's filter or prompt"],
    [["↑", "↓"], "in the tree: to another line"],
    [["→", "←"], "in the tree: open, close, or go in and out"],
    [["Home", "End", "Page ↑", "Page ↓"], "in the tree: far"],
    [["Space"], "in the tree: select or not"],
    [["*"], "in the tree: open all"],
    [["Enter"], "in a prompt: send; Shift and Enter begins a line"],
    [["Esc"], "stop an answer, close a dialog"],
    [["←", "→", "+", "−", "0"], "in a chart: from run to run, nearer, farther, all"],
  ],
};

const writes = (target) => target.closest?.("input:not([type=checkbox],[type=radio]), textarea, select, [contenteditable]");

export function listen(help) {
  const act = (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || !on.peek()) return;
    if (writes(event.target) || document.querySelector("dialog[open]")) return;
    const room = ROOMS[Number(event.key) - 1];
    const inChart = event.target.closest?.(".plot");
    if (event.key === "?") help();
    else if (event.key === "/") document.querySelector("[data-first]")?.focus();
    else if (room && !inChart) go(room.key);
    else return;
    event.preventDefault();
  };
  document.addEventListener("keydown", act);
  return () => document.removeEventListener("keydown", act);
}
