// Room 3: the report's charts on the store as it is now. The filters stand in the address.

import { html, useEffect, useState } from "./vendor/htm-preact.js";
import { get } from "./api.js";
import { Course } from "./courses.js";
import { count, isRed } from "./report.js";
import { route, setParams } from "./route.js";
import { Sessions } from "./sessions.js";
import { fetched, useSignal } from "./store.js";
import { Field, Problem } from "./ui.js";

const history = fetched((wanted) => get("/api/history", wanted));
const NAMES = ["suite", "host", "model", "cell", "metric", "last"];
const FIRST = 24; // courses that are there at once
const SHOWN = { "": "all", flagged: "with a flag", red: "red now", changed: "with a change" };

export function HistoryRoom() {
  const { params } = useSignal(route);
  const known = useSignal(history.found);
  const [most, setMost] = useState(FIRST);
  const wanted = Object.fromEntries(NAMES.map((name) => [name, params.get(name) ?? ""]));
  const mark = NAMES.map((name) => wanted[name]).join("\n");
  const load = () => history.refresh(wanted);
  useEffect(() => {
    const timer = setTimeout(load, known.value ? 300 : 0);
    return () => clearTimeout(timer);
  }, [mark]);
  const set = (name) => (event) => setParams({ ...Object.fromEntries(params), [name]: event.target.value });
  const filters = known.value?.filters;
  const courses = (known.value?.courses ?? []).filter(meets(params.get("show") ?? ""))
    .sort((one, other) => isRedNow(other) - isRedNow(one));
  const metric = (key) => {
    const found = filters?.metrics.find((one) => one.key === key);
    return { title: found?.title ?? key, unit: found?.unit ?? "", better: found?.better ?? "higher", is: found?.is ?? "" };
  };
  const report = new URLSearchParams(Object.entries(wanted).filter(([, value]) => value));
  return html`<h1 class="unseen">History</h1><div class="room">
    <section class="card" aria-labelledby="courses"><h2 id="courses">Courses</h2>
      <form class="row filters" role="search" aria-label="Filter the courses" onSubmit=${(event) => event.preventDefault()}>
        <${Pick} label="Suite" value=${wanted.suite} options=${filters?.suites} onChange=${set("suite")} />
        <${Pick} label="Host" value=${wanted.host} options=${filters?.hosts} onChange=${set("host")} />
        <${Pick} label="Model" value=${wanted.model} options=${filters?.models} onChange=${set("model")} />
        <${Field} label="Cell"><input type="search" data-first value=${wanted.cell} placeholder="pp512" autocomplete="off"
          onInput=${set("cell")} /><//>
        <${Field} label="Metric"><select value=${wanted.metric || "decode_tok_s"} onChange=${set("metric")}>
          ${(filters?.metrics ?? [metric(wanted.metric || "decode_tok_s")]).map(({ key, title, unit }) => html`
            <option key=${key} value=${key}>${title} ${unit}</option>`)}</select><//>
        <${Field} label="Runs"><select value=${wanted.last || "200"} onChange=${set("last")}>
          ${["50", "200", "1000"].map((many) => html`<option key=${many} value=${many}>the last ${many}</option>`)}</select><//>
        <${Field} label="Courses"><select value=${params.get("show") ?? ""} onChange=${set("show")}>
          ${Object.entries(SHOWN).map(([key, text]) => html`<option key=${key} value=${key}>${text}</option>`)}</select><//>
        <a class="button" href=${`/api/report?${report}`} target="_blank" rel="noopener">As a report</a>
      </form>
      <p class="note" role="status">${known.busy && !known.value ? "Reading the store …" : known.value ? count(courses.length, "course") : ""}</p>
      <${Problem} error=${known.error} />
      ${known.value && !courses.length && html`<p class="empty">Nothing measured is like that.</p>`}
    </section>
    <div class="courses">${courses.slice(0, most).map((course) => html`<${Course} key=${`${course.key} ${course.metric}`}
      course=${course} words=${metric(course.metric)} changed=${load} />`)}</div>
    ${courses.length > most && html`<button type="button" onClick=${() => setMost(most * 3)}>
      ${count(courses.length - most, "more course")}</button>`}
    <${Sessions} />
  </div>`;
}

const isRedNow = ({ points }) => isRed(points.at(-1)?.flag ?? points.at(-1)?.outcome);

const meets = (show) => (course) => {
  if (show === "flagged") return course.points.some((point) => point.flag);
  if (show === "red") return isRedNow(course);
  return show !== "changed" || course.changes.length > 0;
};

// A name of the address that the store does not know stays to be seen.
function Pick({ label, value, options = [], onChange }) {
  const names = value && !options.includes(value) ? [value, ...options] : options;
  return html`<${Field} label=${label}><select value=${value} onChange=${onChange}>
    <option value="">all</option>${names.map((name) => html`<option key=${name} value=${name}>${name}</option>`)}</select><//>`;
}
