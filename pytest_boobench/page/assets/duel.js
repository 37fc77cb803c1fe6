// A comparison while it goes on: the sides' answers, the vote, and what the votes say so far.

import { get, post, Refused } from "./api.js";
import { say, signal } from "./store.js";
import { EMPTY, heard, isOver, read } from "./talk.js";

export const duel = signal(null); // { asked, answers, exchange, blind, vote, tally, repeated, error }
export const LETTERS = ["A", "B", "C", "D"];
let stopping = null;
let repeating = null;

const put = (found) => { duel.value = { ...duel.peek(), ...found }; };

export async function begin(asked) {
  const abort = new AbortController();
  stopping = abort;
  repeating?.abort();
  const answers = asked.sides.map(() => EMPTY);
  duel.value = { asked, answers, exchange: null, blind: asked.blind, vote: null, tally: null, repeated: null, error: null };
  const hear = (events) => {
    if (stopping !== abort) return;
    const next = [...duel.peek().answers];
    let { exchange, blind } = duel.peek();
    for (const { event, data } of events) {
      exchange = data.exchange ?? exchange;
      if (event === "named") blind = false; // a side gave no answer: nothing to vote on
      const sides = data.side === undefined || data.side === null ? [...next.keys()] : [data.side];
      for (const side of sides) next[side] = heard(next[side], event, data);
    }
    put({ answers: next, exchange, blind });
  };
  try {
    await read("/api/ab", asked, abort.signal, hear);
    if (stopping !== abort) return;
    finish((answer) => ({ ...answer, state: "failed", message: "The stream ended too early." }));
    say("All answers are there");
  } catch (error) {
    if (stopping !== abort) return;
    finish((answer) => ({ ...answer, state: "stopped" }));
    if (error.name !== "AbortError") put({ error });
  }
}

const finish = (end) => put({ answers: duel.peek().answers.map((answer) => (isOver(answer) ? answer : end(answer))) });

export const stop = () => stopping?.abort();

export async function vote(word) {
  try {
    const { sides, tally } = await post(`/api/ab/${encodeURIComponent(duel.peek().exchange)}/vote`, { vote: word });
    const named = duel.peek().answers.map((answer, side) => ({ ...answer, ...sides[side] }));
    put({ answers: named, vote: word, tally, blind: false });
    say(`Voted: ${word}`);
  } catch (error) {
    put({ error });
  }
}

// More rounds of this comparison: they give the difference its interval.
export async function repeat(times) {
  const abort = new AbortController();
  repeating = abort;
  const { exchange } = duel.peek();
  const tell = (found) => {
    if (duel.peek().exchange === exchange) put({ repeated: { ...duel.peek().repeated, ...found } });
  };
  tell({ busy: true, done: 0, of: times, why: null, message: null, error: null });
  try {
    await read(`/api/ab/${encodeURIComponent(exchange)}/repeat`, { times }, abort.signal, (events) => {
      for (const { event, data } of events) {
        if (event === "repeated") tell({ done: data.done, of: data.of, differences: data.differences, why: null });
        else tell(event === "waiting" ? { why: data.why } : { message: data.message });
      }
    });
    say("The rounds are over");
  } catch (error) {
    if (error.name !== "AbortError") tell({ error });
  }
  tell({ busy: false });
}

export const stopRepeating = () => repeating?.abort();

export const exported = () => get(`/api/ab/${encodeURIComponent(duel.peek().exchange)}/export`);

export function download(name, content) {
  const url = URL.createObjectURL(new Blob([JSON.stringify(content, null, 2)], { type: "application/json" }));
  const link = Object.assign(document.createElement("a"), { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

// Only an address of the web is opened, whatever the template says.
export function openArena(url) {
  if (!/^https?:\/\//.test(url ?? "")) {
    throw new Refused(0, { error: { message: "the hosts file has no arena: expected arena: \"https://…/?models={a},{b}&q={prompt}\"" } });
  }
  window.open(url, "_blank", "noopener,noreferrer");
}

// Ratios of each side to the first one: [[key, values, ratios]], of what all sides have.
export function differences(answers, keys) {
  const samples = answers.map((answer) => answer.sample);
  return keys.map((key) => [key, samples.map((sample) => sample?.[key] ?? null)])
    .filter(([, values]) => values.every((value) => value !== null))
    .map(([key, values]) => [key, values, values.slice(1).map((value) => (values[0] ? value / values[0] - 1 : null))]);
}
