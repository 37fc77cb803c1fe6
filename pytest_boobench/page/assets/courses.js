// A course of the history as the report's chart takes it, and what can be done to its baseline.

import { html, useState } from "./vendor/htm-preact.js";
import { post } from "./api.js";
import { BLANK, change, count, historyChart, nameMetric, outcomeOf, quantity, time } from "./report.js";
import { route, setParams } from "./route.js";
import { say, useSignal } from "./store.js";
import { Copy, Dialog, Drawn, Field, Mark, Problem } from "./ui.js";

// What stands on the chart: a point a run, with the baseline's level as it was then.
function toChart(course) {
  const points = course.points.map((point, place) => {
    const { sign, tone } = outcomeOf(point.flag ?? point.outcome);
    return {
      place, at: point.at, value: point.value, low: point.low, high: point.high, build: point.engine_build,
      commit: point.git_commit?.slice(0, 10) ?? null, machine: point.machine ?? null, session: point.session,
      reason: point.reason ?? null, saved: point.baselines?.[0] ?? null,
      level: point.level ?? null, limit: point.limit ?? null, state: { word: point.flag ?? point.outcome, sign, tone },
    };
  });
  const drawn = course.changes.filter(({ first, before }) => first !== undefined && before !== undefined);
  return {
    name: course.cell, host: course.host, points,
    metrics: { [course.metric]: { changes: drawn.map(({ first, last, before, after }) => [first, last, before, after]) } },
  };
}

export function drawCourse(course, words) {
  nameMetric(course.metric, words);
  return historyChart(toChart(course), course.metric);
}

export function Course({ course, words, changed }) {
  const [asks, setAsks] = useState(null);
  const newest = course.points.at(-1);
  const flags = course.points.filter((point) => point.flag).length;
  return html`<section class="card course" aria-label=${`${course.model}[${course.cell}] on ${course.host}`}>
    <div class="row"><h3>${course.model}[${course.cell}]</h3><${Mark} word=${newest?.flag ?? newest?.outcome} />
      <span class="where">${course.host} · ${course.suite}</span></div>
    <p class="note">${newest ? `newest ${quantity(newest.value, course.unit)}, ` : ""}${count(course.points.length, "run")}${
      flags ? `, ${flags} flagged` : ""}; ${course.baseline
      ? `baseline ${course.baseline.name}: ${quantity(course.baseline.level, course.unit)}${course.baseline.limit === null ? ""
      : `, limit ${quantity(course.baseline.limit, course.unit)}`}` : "no baseline"}</p>
    ${course.points.length > 0 && html`<${Drawn} mark=${course} draw=${() => drawCourse(course, words)} />`}
    ${course.changes.length > 0 && html`<ul class="changes-said">${course.changes.map((one) => html`
      <li key=${one.at}>${one.sentence}</li>`)}</ul>`}
    <${Saves} points=${course.points} />
    <div class="row"><button type="button" class="small" onClick=${() => setAsks("set")}>Set a baseline …</button>
      ${course.baseline && html`<button type="button" class="small" onClick=${() => setAsks("clear")}>
        Take the baseline out of force …</button>`}
      <${Runs} course=${course} /></div>
    ${asks && html`<${Ask} what=${asks} course=${course} onClose=${() => setAsks(null)} changed=${changed} />`}
  </section>`;
}

// What was a baseline, why, and why no more.
function Saves({ points }) {
  const saves = points.flatMap((point) => point.saves.map((save) => ({ ...save, point }))).sort((one, other) => other.saved_at - one.saved_at);
  if (!saves.length) return null;
  return html`<details class="saves"><summary>${count(saves.length, "baseline")} of this course</summary><ul>${saves.map((save) => html`
    <li key=${`${save.name} ${save.saved_at} ${save.point.measurement}`}>${save.name}: the run of ${time(save.point.at)}, set ${time(save.saved_at)}${
      save.reason ? `, because: ${save.reason}` : ""}; ${save.ended_at === null ? "in force" : `${save.ended_reason === null
      ? "replaced" : "taken out of force"} ${time(save.ended_at)}${save.ended_reason ? `, because: ${save.ended_reason}` : ""}`}</li>`)}</ul></details>`;
}

// Each run with its flag and its command line.
function Runs({ course }) {
  const [open, setOpen] = useState(false);
  const { params } = useSignal(route);
  const compare = (place) => setParams({ ...Object.fromEntries(params), a: course.points[place - 1].session, b: course.points[place].session });
  return html`<button type="button" class="small" aria-expanded=${open} onClick=${() => setOpen(!open)}>Runs and flags</button>
    ${open && html`<ol class="points" reversed>${[...course.points.entries()].reverse().map(([place, point]) => html`<li key=${point.measurement}>
      <span>${time(point.at)}</span> <strong>${quantity(point.value, course.unit)}</strong> <${Mark} word=${point.flag ?? point.outcome} />
      <span class="where">${[point.engine_build, point.git_commit?.slice(0, 10), point.session.slice(0, 8)].filter(Boolean).join(" · ")}${
        point.baselines?.length ? ` · saved as ${point.baselines.join(", ")}` : ""}</span>
      ${point.reason && html`<span class="cell-note"> ${point.reason}</span>`}
      ${point.command && html`<${Copy} text=${point.command} label="Copy the server's command" />`}
      ${place > 0 && course.points[place - 1].session !== point.session && html`<button type="button" class="small"
        onClick=${() => compare(place)}>Compare with the run before</button>`}</li>`)}</ol>`}`;
}

function Ask({ what, course, onClose, changed }) {
  const known = course.points.filter((point) => point.value !== null);
  const [measurement, setMeasurement] = useState(String(known.at(-1)?.measurement ?? ""));
  const [name, setName] = useState(course.baseline?.name ?? "main");
  const [reason, setReason] = useState("");
  const [error, setError] = useState(null);
  const sets = what === "set";
  const send = async (event) => {
    event.preventDefault();
    try {
      const chosen = known.find((point) => String(point.measurement) === measurement);
      await (sets ? post("/api/baselines", { measurement: chosen.measurement, name, reason })
        : post("/api/baselines/clear", { name, key: course.key, reason }));
      say(sets ? `Baseline ${name} is set` : `Baseline ${name} is out of force`);
      onClose();
      changed();
    } catch (found) {
      setError(found);
    }
  };
  return html`<${Dialog} title=${sets ? "Set a baseline" : "Take the baseline out of force"} onClose=${onClose}>
    <form onSubmit=${send}><p>${course.model}[${course.cell}] on ${course.host}</p>
      ${sets && html`<${Field} label="Measurement"><select value=${measurement} onChange=${(event) => setMeasurement(event.target.value)}>
        ${[...known].reverse().map((point) => html`<option key=${point.measurement} value=${String(point.measurement)}>
          ${time(point.at)}: ${quantity(point.value, course.unit)}${point.flag ? `, ${point.flag}` : ""}</option>`)}</select><//>`}
      <${Field} label="Name"><input required value=${name} readonly=${!sets} onInput=${(event) => setName(event.target.value)} /><//>
      <${Field} label="Reason" hint="it is kept with the baseline"><textarea required rows="2" value=${reason}
        onInput=${(event) => setReason(event.target.value)}></textarea><//>
      <${Problem} error=${error} />
      <p class="row"><button type="submit" class="main" disabled=${!reason.trim() || (sets && !measurement)}>
        ${sets ? "Set it" : "Take it out of force"}</button><button type="button" onClick=${onClose}>Cancel</button></p></form>
  <//>`;
}

export const percent = (ratio) => (ratio === null || ratio === undefined ? BLANK : change(ratio));
