// Two sessions side by side: what each cell was and is, and what else differs.

import { html, useEffect, useState } from "./vendor/htm-preact.js";
import { get } from "./api.js";
import { percent } from "./courses.js";
import { BLANK, count, number, time } from "./report.js";
import { route, setParams } from "./route.js";
import { fetched, useSignal } from "./store.js";
import { Field, Mark, Problem, Table } from "./ui.js";

const sessions = fetched(() => get("/api/sessions", { last: 50 }).then((found) => found.sessions));
const compared = fetched((a, b) => get("/api/compare", { a, b }));

export function Sessions() {
  const { params } = useSignal(route);
  const known = useSignal(sessions.found);
  const found = useSignal(compared.found);
  const [all, setAll] = useState(false);
  const [a, b] = [params.get("a") ?? "", params.get("b") ?? ""];
  useEffect(() => { sessions.refresh(); }, []);
  useEffect(() => { if (a && b) compared.refresh(a, b); }, [a, b]);
  const set = (name) => (event) => setParams({ ...Object.fromEntries(params), [name]: event.target.value });
  const listed = known.value ?? [];
  const older = [...new Set([a, b])].filter((session) => session && !listed.some((one) => one.session === session));
  const options = [...listed.map((one) => [one.session, told(one)]), ...older.map((session) => [session, session.slice(0, 8)])]
    .map(([session, text]) => html`<option key=${session} value=${session}>${text}</option>`);
  const rows = found.value?.rows ?? [];
  const shown = all ? rows : rows.filter((row) => row.outcome !== "pass");
  return html`<section class="card" aria-labelledby="two"><h2 id="two">Two sessions</h2>
    <${Problem} error=${known.error} />
    <div class="row">
      <${Field} label="Was"><select value=${a} onChange=${set("a")}><option value="">choose</option>${options}</select><//>
      <${Field} label="Is now"><select value=${b} onChange=${set("b")}><option value="">choose</option>${options}</select><//>
    </div>
    ${a && b && html`<${Problem} error=${found.error} />
      ${found.value && html`
        ${found.value.changes.length > 0 && html`<${Table} caption="What else differs" heads=${["", "was", "now"]}
          rows=${found.value.changes.map((one) => [one.what, one.what, one.was ?? BLANK, one.now ?? BLANK])} />`}
        <p class="row note" role="status">${count(rows.length, "number")} compared, ${all ? "all shown" : `${rows.length - shown.length} that passed left out`}
          ${" "}<button type="button" class="small" onClick=${() => setAll(!all)}>
          ${all ? "Only what differs" : "Show all"}</button></p>
        <${Table} caption="Cells of both sessions" heads=${["cell", "metric", "was", "now", "change", "interval", "verdict"]}
          rows=${shown.map((row) => [`${row.node_id} ${row.metric}`, row.node_id, `${row.title} ${row.unit}`, number(row.was),
            number(row.now), percent(row.change), row.low === null ? BLANK : `${percent(row.low)} to ${percent(row.high)}`,
            html`<${Mark} word=${row.outcome} />`])} />`}`}
  </section>`;
}

function told({ session, started_at, cells, regressions, improvements, errors }) {
  const marks = [[regressions, "regression"], [improvements, "improvement"], [errors, "error"]].filter(([many]) => many)
    .map(([many, word]) => count(many, word));
  return [`${time(started_at)}: ${count(cells, "cell")}`, ...marks, session.slice(0, 8)].join(", ");
}
