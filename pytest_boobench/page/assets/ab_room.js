// Room 5: the same prompt and seed on two to four models: which answer is better, and which is faster.

import { html, useEffect, useState } from "./vendor/htm-preact.js";
import { Answer, MEASURED } from "./answer.js";
import { get } from "./api.js";
import { percent } from "./courses.js";
import { LETTERS, begin, differences, download, duel, exported, openArena, repeat, stop, stopRepeating, vote } from "./duel.js";
import { Lamps, PickModel, Sampling, firstPair, splitPair, useHosts } from "./hosts.js";
import { BLANK, count, number } from "./report.js";
import { fetched, useSignal } from "./store.js";
import { isOver, kept } from "./talk.js";
import { Check, Choice, Field, Problem, Table } from "./ui.js";

const votes = fetched(() => get("/api/votes").then((found) => found.tallies));
const settings = kept("ab", { sides: ["", ""], system: "", sampling: {}, max_tokens: 256, mode: "turns", blind: true, prompt: "" });
const MODES = [["turns", "in turns"], ["together", "at once"]];

const set = (name) => (value) => { settings.value = { ...settings.peek(), [name]: value }; };

function ask(more = {}) {
  const { sides, prompt, ...rest } = settings.peek();
  return begin({ ...rest, sides: sides.map(splitPair), messages: [{ role: "user", content: prompt }], ...more });
}

export function AbRoom({ state }) {
  const known = useHosts();
  const found = known.value ?? [];
  const now = useSignal(duel);
  const wanted = useSignal(settings);
  useEffect(() => { votes.refresh(); }, [now?.vote]);
  useEffect(() => {
    if (found.length && wanted.sides.every((side) => !side)) set("sides")(wanted.sides.map((_, place) => firstPair(found, place)));
  }, [known.value]);
  return html`<h1 class="unseen">A/B</h1><div class="room split">
    <section class="card settings" aria-labelledby="sides"><h2 id="sides">Who answers</h2>
      <${Problem} error=${known.error} />
      <${Sides} found=${found} wanted=${wanted} />
      <${Lamps} found=${found} />
      <${Field} label="System prompt"><textarea rows="2" value=${wanted.system}
        onInput=${(event) => set("system")(event.target.value)}></textarea><//>
      <${Field} label="Most tokens of an answer"><input type="number" min="1" step="1" value=${wanted.max_tokens}
        onInput=${(event) => set("max_tokens")(Number(event.target.value))} /><//>
      <details><summary>Sampling</summary><p class="note">The seed is the same on all sides.</p>
        <${Sampling} values=${wanted.sampling} onChange=${set("sampling")} /></details>
      <${Choice} legend="Order" value=${wanted.mode} onChange=${set("mode")} options=${MODES} />
      ${wanted.mode === "together" && html`<p class="note">Sides on one machine slow each other down: they are refused, until you ask again.</p>`}
      <${Check} label="Blind: no names until the vote" checked=${wanted.blind} onChange=${set("blind")} />
    </section>
    <div class="duel">
      <section class="card" aria-labelledby="prompt"><h2 id="prompt">Prompt</h2><${Prompt} wanted=${wanted} now=${now} /></section>
      ${now && html`<${Answers} now=${now} state=${state} />`}
      <${Tallies} />
    </div>
  </div>`;
}

function Sides({ found, wanted }) {
  const { sides } = wanted;
  const pick = (place) => (pair) => set("sides")(sides.map((side, at) => (at === place ? pair : side)));
  return html`${sides.map((side, place) => html`<${PickModel} key=${place} label=${`Model ${place + 1}`} value=${side}
      onChange=${pick(place)} found=${found} />`)}
    <p class="row"><button type="button" class="small" disabled=${sides.length >= 4} onClick=${() => set("sides")([...sides, firstPair(found, sides.length)])}>
        One more</button>
      <button type="button" class="small" disabled=${sides.length <= 2} onClick=${() => set("sides")(sides.slice(0, -1))}>One less</button></p>`;
}

function Prompt({ wanted, now }) {
  const busy = now !== null && now.error === null && !now.answers.every(isOver);
  const able = !busy && wanted.prompt.trim() !== "" && wanted.sides.every(Boolean);
  const submit = (event) => {
    event.preventDefault();
    if (able) ask();
  };
  const press = (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) submit(event);
    if (event.key === "Escape") stop();
  };
  return html`<form class="composer" onSubmit=${submit}>
    <label class="field wide"><span class="unseen">Prompt for all sides</span><textarea data-first rows="3" value=${wanted.prompt}
      onKeyDown=${press} onInput=${(event) => set("prompt")(event.target.value)}></textarea></label>
    <${Problem} error=${now?.error}>${now?.error?.status === 409 && now.asked.mode === "together" && html`
      <button type="button" onClick=${() => ask({ anyway: true })}>At once all the same</button>`}<//>
    <p class="row"><button type="submit" class="main" disabled=${!able}>Send to all</button>
      <button type="button" disabled=${!busy} onClick=${stop}>Stop</button></p></form>`;
}

const nameOf = (answer, side) => (answer.model ? `${LETTERS[side]}: ${answer.model} on ${answer.host}` : `${LETTERS[side]}`);

function Answers({ now, state }) {
  const over = now.answers.every(isOver);
  const shown = now.answers.map((answer) => (now.blind && !now.vote ? { ...answer, sample: null, live: null, host: null, model: null } : answer));
  const [error, setError] = useState(null);
  const run = (work) => () => work().catch(setError);
  const hand = async () => openArena((await exported()).arena_url);
  return html`<section class="card" aria-labelledby="answers"><h2 id="answers">Answers</h2>
    <div class="columns">${shown.map((answer, side) => html`<article key=${side} aria-label=${`Answer ${LETTERS[side]}`}>
      <h3>${nameOf(answer, side)}</h3><${Answer} answer=${answer} /></article>`)}</div>
    ${over && now.exchange && html`${now.answers.every(({ state: its }) => its === "done")
      ? html`<${Vote} now=${now} />` : html`<p class="note">No vote: a side gave no whole answer.</p>`}
      ${now.tally && html`<p class="note" role="status">${saySoFar(now.tally)}</p>`}
      ${(!now.blind || now.vote) && html`<${Measured} now=${now} />`}
      <p class="row"><button type="button" class="small" onClick=${run(async () => download(`exchange-${now.exchange}.json`, await exported()))}>
          Export as JSON</button>
        ${state?.arena?.template && html`<button type="button" class="small" onClick=${run(hand)}>Go on in the arena</button>`}</p>
      <${Problem} error=${error} />`}
  </section>`;
}

const saySoFar = ({ a, b, n, a_wins, b_wins, share, low, high }) => `So far ${count(n, "vote")} on ${a} against ${b}${share === null ? ""
  : `: the first won ${a_wins} of ${a_wins + b_wins}, ${shareOf({ share, low, high })}`}.`;
const shareOf = ({ share, low, high }) =>
  (share === null ? BLANK : `${Math.round(share * 100)} % (${Math.round(low * 100)} to ${Math.round(high * 100)} %)`);

function Vote({ now }) {
  const choices = [...now.answers.map((_, side) => [LETTERS[side].toLowerCase(), `${LETTERS[side]} is better`]), ["tie", "Tie"], ["both bad",
    now.answers.length > 2 ? "All bad" : "Both bad"]];
  return html`<div class="row votes" role="group" aria-label="Your vote">${choices.map(([word, text]) => html`
    <button type="button" key=${word} aria-pressed=${now.vote === word} disabled=${now.vote !== null} onClick=${() => vote(word)}>
      ${text}</button>`)}</div>`;
}

function Measured({ now }) {
  const rows = differences(now.answers, MEASURED.map(([key]) => key));
  const words = Object.fromEntries(MEASURED.map(([key, title, unit]) => [key, `${title} ${unit}`.trim()]));
  const letters = now.answers.map((_, side) => LETTERS[side]);
  const heads = ["measured", ...letters, ...letters.slice(1).map((letter) => `${letter} against A`)];
  if (!rows.length) return null;
  return html`<${Table} caption="The measured difference" heads=${heads} rows=${rows.map(([key, values, ratios]) => [key, words[key],
      ...values.map(number), ...ratios.map(percent)])} />
    <${Repeated} now=${now} words=${words} />`;
}

function Repeated({ now, words }) {
  const { busy = false, done, of, differences: found = [], why, message, error } = now.repeated ?? {};
  const interval = ({ low, high }) => (low === null ? BLANK : `${percent(low)} to ${percent(high)}`);
  const heads = ["repeated", "A", "other", "change", "95 % interval", "rounds"];
  const rows = found.map((one) => [`${one.metric} ${one.side}`, `${words[one.metric]}, ${LETTERS[one.side]} against A`, number(one.first),
    number(one.value), percent(one.change), interval(one), one.pairs]);
  return html`${rows.length ? html`<${Table} caption="The repeated difference" heads=${heads} rows=${rows} />
      <p class="note">Medians of all rounds, with the prompt in the servers' caches. An interval needs nine rounds. boobench ab measures
        without caches.</p>`
    : html`<p class="note">One answer of each side: no interval. More rounds give one.</p>`}
    <p class="row"><button type="button" class="small" disabled=${busy} onClick=${() => repeat(10)}>
        ${rows.length ? "Ten more rounds" : "Repeat ten times"}</button>
      ${busy && html`<button type="button" class="small" onClick=${stopRepeating}>Stop repeating</button>
        <span class="note">${why ?? `round ${done + 1} of ${of}`}</span>`}</p>
    ${message && html`<p class="note" role="alert">${message}</p>`}<${Problem} error=${error} />`;
}

function Tallies() {
  const known = useSignal(votes.found);
  const rows = (known.value ?? []).map((one) => [`${one.a} ${one.b}`, `${one.a} against ${one.b}`, one.a_wins, one.b_wins, one.ties, one.both_bad,
    shareOf(one)]);
  return html`<section class="card" aria-labelledby="votes"><h2 id="votes">Votes so far</h2><${Problem} error=${known.error} />
    ${rows.length ? html`<${Table} caption="Votes so far" heads=${["models", "first won", "second won", "ties", "both bad", "share of the first (95 %)"]} rows=${rows} />`
      : html`<p class="empty">None yet.</p>`}</section>`;
}
