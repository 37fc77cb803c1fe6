// An answer while it is written: what each event of the stream makes of it. Try and A/B share it.

import { stream } from "./api.js";
import { signal } from "./store.js";

export const EMPTY = {
  state: "waiting", text: "", reasoning: "", why: null, live: null, sample: null, exchange: null, host: null, model: null,
  seed: null, finish_reason: null, message: null, who: [], curl: null, python: null, suite: null,
};

export function heard(answer, event, data) {
  switch (event) {
    case "waiting": return { ...answer, state: "waiting", why: data.why };
    case "start": return { ...answer, ...known(data, ["exchange", "host", "model", "seed"]), state: "writing", why: null };
    case "delta": return data.reasoning ? { ...answer, reasoning: answer.reasoning + data.text }
      : { ...answer, text: answer.text + data.text };
    case "live": return { ...answer, live: data };
    case "done": return { ...answer, ...known(data, ["exchange", "sample", "finish_reason", "curl", "python", "suite"]),
      state: answer.state === "stopped" ? "stopped" : "done" };
    case "named": return { ...answer, ...known(data, ["host", "model"]) };
    case "failed": return answer.state === "stopped" ? answer : { ...answer, state: "failed", message: data.message };
    case "refused": return { ...answer, state: "refused", message: data.message, who: data.who ?? [] };
    default: return answer;
  }
}

const known = (data, names) =>
  Object.fromEntries(names.filter((name) => name in data).map((name) => [name, data[name]]));

export const isOver = ({ state }) => ["done", "failed", "refused", "stopped"].includes(state);

// A signal whose value is there again after a reload of this tab, as it was when `ready` held; what is too large is not kept.
export function kept(name, usual, ready = () => true) {
  const key = `boobench-${name}`;
  const source = signal(JSON.parse(window.sessionStorage.getItem(key)) ?? usual);
  source.subscribe((value) => {
    if (!ready(value)) return;
    try {
      window.sessionStorage.setItem(key, JSON.stringify(value));
    } catch {
      window.sessionStorage.removeItem(key);
    }
  });
  return source;
}

// Streams an answer into put(events), at most once a frame, so that a fast model costs no more than a slow one.
export async function read(path, body, abort, put) {
  let waiting = [];
  let planned = false;
  const flush = () => {
    planned = false;
    const events = waiting;
    waiting = [];
    if (events.length) put(events);
  };
  const later = () => (document.hidden ? setTimeout(flush, 250) : requestAnimationFrame(flush));
  try {
    for await (const found of stream(path, body, abort)) {
      waiting.push(found);
      if (planned) continue;
      planned = true;
      later();
    }
  } finally {
    flush();
  }
}
