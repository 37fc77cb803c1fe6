// Room 2: a run while it goes on, and after it: a lane a cell, pytest's own output beside it.

import { Component, html, useEffect, useRef, useState } from "./vendor/htm-preact.js";
import { get, post } from "./api.js";
import { about, count, duration, isRed, quantity, time } from "./report.js";
import { go, link, route } from "./route.js";
import { Busy, selectOnly } from "./run_room.js";
import { watchRun } from "./run_stream.js";
import { fetched, useSignal } from "./store.js";
import { Legend, Timeline, isOpen, rangeOf, wholeRange } from "./timeline.js";
import { Choice, Command, Mark, Problem } from "./ui.js";

const runs = fetched(() => get("/api/runs").then((found) => found.runs ?? found));
const FIRST = 60; // cells that are drawn at once

export function NowRoom() {
  const { rest: id } = useSignal(route);
  const known = useSignal(runs.found);
  useEffect(() => { runs.refresh(); }, [id]);
  const going = known.value?.find((run) => run.state !== "ended");
  useEffect(() => { if (!id && going) go("now", going.id); }, [id, going?.id]);
  return html`<h1 class="unseen">Now</h1><div class="room now-room">
    ${id && html`<${Run} id=${id} key=${id} />`}
    <section class="card" aria-labelledby="runs"><h2 id="runs">Runs of this page</h2>
      <${Problem} error=${known.error} />
      ${known.value?.length === 0 && html`<p class="empty">None yet. <a href=${link("run")}>Start one</a>.</p>`}
      <ul class="runs">${(known.value ?? []).map((run) => html`<li key=${run.id}>
        <a href=${link("now", run.id)} aria-current=${run.id === id ? "true" : null}>${time(run.started_at)} UTC</a>
        <${RunState} run=${run} />
        <span class="where">${run.hosts.join(", ")} · ${run.done} of ${run.total ?? "?"} cells</span></li>`)}</ul>
    </section>
  </div>`;
}

const EXITS = { passed: "pass", failed: "regression" };

function RunState({ run }) {
  if (run.state !== "ended") return html`<span class="state plain live">${run.state}</span>`;
  const tone = EXITS[run.exit_word] ?? "inconclusive";
  return html`<span class=${`state ${{ pass: "good", regression: "bad", inconclusive: "warn" }[tone]}`}>${run.exit_word}</span>`;
}

function useSeconds(going) {
  const [now, setNow] = useState(Date.now() / 1000);
  useEffect(() => {
    if (!going) return undefined;
    const timer = setInterval(() => { if (!document.hidden) setNow(Date.now() / 1000); }, 1000);
    return () => clearInterval(timer);
  }, [going]);
  return now;
}

function Run({ id }) {
  const { run, cells, output, lost, error } = useSignal(watchRun(id));
  const going = run !== null && run.state !== "ended";
  const clock = useSeconds(going);
  useEffect(() => { if (run) runs.refresh(); }, [run?.done, run?.state]);
  if (!run) return html`<section class="card"><p class="note" role="status">Looking for the run …</p>
    <${Problem} error=${error} /></section>`;
  const now = (run.ended_at ?? clock) - run.started_at;
  return html`
    ${lost && html`<p class="problem warn" role="alert">The connection is lost. The run goes on without it; trying again …</p>`}
    <section class="card wide" aria-labelledby="lanes">
      <div class="row"><h2 id="lanes">Run of ${time(run.started_at)} UTC</h2><${RunState} run=${run} /><${Stop} run=${run} /></div>
      <${Hero} run=${run} cells=${cells} now=${now} />
      ${run.refused?.length > 0 && html`<div class="problem" role="alert"><p>Refused: measuring there now would disturb both.</p>
        <${Busy} busy=${run.refused} /></div>`}
      <${Command} text=${run.command} />
      <${Lanes} cells=${[...cells.values()]} now=${now} going=${going} />
    </section>
    <section class="card wide" aria-labelledby="said"><h2 id="said">What pytest says</h2><${Output} text=${output} /></section>`;
}

function Hero({ run, cells, now }) {
  const busy = [...cells.values()].filter((cell) => cell.state === "measuring" && cell.tok_s !== null);
  const speed = busy.length ? busy.reduce((sum, cell) => sum + cell.tok_s, 0) : null;
  const tiles = [
    ["done", `${run.done} of ${run.total ?? "?"}`], ["speed now", speed === null ? null : quantity(speed, "tok/s")],
    ["time so far", duration(now)], ["time left", run.state === "ended" || run.left_s === null ? null : about(run.left_s)],
    ["red", run.red?.length ? String(run.red.length) : null],
  ];
  return html`<dl class="hero">${tiles.filter(([, value]) => value).map(([what, value]) => html`
      <div key=${what} class=${what === "red" ? "bad" : ""}><dt>${what}</dt><dd>${value}</dd></div>`)}</dl>
    <progress aria-label="cells done" max=${run.total ?? 1} value=${run.total ? run.done : 0}></progress>`;
}

function Stop({ run }) {
  const [error, setError] = useState(null);
  if (run.state === "ended") return html`${run.red?.length > 0 && html`<button type="button" onClick=${() => {
    selectOnly(run.red);
    go("run");
  }}>Select what is red</button>`}`;
  const stop = (how) => () => post(`/api/runs/${encodeURIComponent(run.id)}/stop`, { how }).catch(setError);
  return html`<span class="row">
    <button type="button" onClick=${stop("interrupt")} disabled=${run.state === "stopping"}>Stop</button>
    ${run.state === "stopping" && html`<button type="button" class="danger" onClick=${stop("terminate")}>Terminate</button>
      <small>What is finished is in the store.</small>`}
    <${Problem} error=${error} /></span>`;
}

const URGENT = ["measuring", "warming up", "in doubt", "loading", "failed", "finished", "waiting"];
const rank = (cell) => (isRed(cell.outcome) && cell.state === "finished" ? 4 : URGENT.indexOf(cell.state));

function Lanes({ cells, now, going }) {
  const [scale, setScale] = useState("run");
  const [most, setMost] = useState(FIRST);
  const sorted = [...cells].sort((a, b) => rank(a) - rank(b) || (b.since ?? 0) - (a.since ?? 0));
  const shown = sorted.slice(0, most);
  const whole = wholeRange(cells, now, going);
  if (!cells.length) return html`<p class="note" role="status">No cell yet: pytest collects, or waits for a host.</p>`;
  return html`<div class="row"><${Legend} cells=${shown} />
      <${Choice} legend="Time scale" value=${scale} onChange=${setScale} options=${[["run", "whole run"], ["cell", "each cell"]]} /></div>
    <ul class="lanes">${shown.map((cell) => html`<${CellLane} key=${cell.node_id} cell=${cell}
      now=${isOpen(cell) ? now : null} range=${scale === "run" ? whole : rangeOf([cell], now)} />`)}</ul>
    ${sorted.length > most && html`<button type="button" onClick=${() => setMost(most * 4)}>
      ${count(sorted.length - most, "more cell")}</button>`}`;
}

// Drawn again only where it has changed: the clock goes on for all, and a picture of many spans costs the measurement.
class CellLane extends Component {
  shouldComponentUpdate({ cell, now, range }) {
    const { props } = this;
    return cell !== props.cell || now !== props.now || range.some((end, place) => end !== props.range[place]);
  }

  render({ cell, now, range }) {
    return showCell(cell, now, range);
  }
}

function showCell(cell, now, range) {
  const going = !["finished", "failed", "waiting"].includes(cell.state);
  return html`<li class=${`cell-lane${going ? " going" : ""}`}>
    <div class="cell-what"><span class="name">${cell.model}[${cell.cell}]</span><span class="where">${cell.host} · ${cell.suite}</span></div>
    <div class="cell-state"><span class="state plain">${cell.state}</span> <${Mark} word=${cell.outcome} />
      ${going && cell.total > 0 && html`<span>${cell.done} of ${cell.total}</span>`}
      ${cell.tok_s !== null && cell.tok_s !== undefined && html`<strong>${quantity(cell.tok_s, "tok/s")}</strong>`}
      ${going && cell.left_s !== null && cell.left_s !== undefined && html`<span class="where">${duration(cell.left_s)} left</span>`}</div>
    <div class="cell-time"><${Timeline} cell=${cell} range=${range} now=${now} /></div>
    ${cell.note && html`<p class="cell-note">${cell.note}</p>`}
    ${cell.sentence && html`<p class="cell-note bad">${cell.sentence}</p>`}
  </li>`;
}

// It follows its end until someone scrolls up.
function Output({ text }) {
  const box = useRef(null);
  const follows = useRef(true);
  useEffect(() => { if (follows.current) box.current.scrollTop = box.current.scrollHeight; }, [text]);
  const look = ({ target }) => { follows.current = target.scrollTop + target.clientHeight > target.scrollHeight - 24; };
  return html`<pre class="output" ref=${box} tabindex="0" role="log" aria-live="off" aria-label="pytest's output" onScroll=${look}>${text}</pre>`;
}
