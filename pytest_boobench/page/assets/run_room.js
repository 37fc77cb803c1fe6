// Room 1: which cells, and how they are run. A run is pytest, and its command line is there before it starts.

import { html, useEffect, useState } from "./vendor/htm-preact.js";
import { get, post } from "./api.js";
import { about, count, isRed, time } from "./report.js";
import { go, route, setParams } from "./route.js";
import { AS_SET, fetched, kept, say, signal, useSignal } from "./store.js";
import { estimate, makeTree, openSome } from "./tree.js";
import { TreeView } from "./tree_view.js";
import { Check, Command, Field, Problem } from "./ui.js";

const collected = fetched((wanted) => get("/api/tree", wanted));
const open = kept("open", null, { pack: (set) => set && [...set], unpack: AS_SET.unpack });
const spot = kept("spot", { active: null, top: 0 });
const selected = signal(new Set());
const OPTIONS = { save_baseline: "", baseline: "", wait: "", takeover: false, confirm: "", workers: "" };
const options = kept("options", OPTIONS, {
  pack: ({ takeover, confirm, ...rest }) => rest, // a takeover is asked for anew
  unpack: (rest) => ({ ...OPTIONS, ...rest }),
});

// What was deselected stays so, whatever the filter shows meanwhile; all else is selected.
const leftOut = kept("left-out", new Set(), AS_SET);
const tree = signal(null);
collected.found.subscribe(({ value }) => {
  if (!value || tree.peek()?.value === value) return;
  const made = makeTree(value.suites);
  selected.value = new Set(made.cells.map((cell) => cell.node_id).filter((id) => !leftOut.peek().has(id)));
  open.value ??= openSome(made);
  tree.value = { ...made, value };
});

function select(next) {
  const out = new Set(leftOut.peek());
  for (const { node_id } of tree.peek().cells) {
    if (next.has(node_id)) out.delete(node_id);
    else out.add(node_id);
  }
  leftOut.value = out;
  selected.value = next;
}

// Only these cells, also where the tree is not there yet.
export async function selectOnly(ids) {
  if (!tree.peek()) await collected.refresh({});
  if (tree.peek()) select(new Set(ids));
}

export function RunRoom() {
  const { params } = useSignal(route);
  const known = useSignal(collected.found);
  const shown = useSignal(tree);
  const k = params.get("k") ?? "";
  useEffect(() => {
    const timer = setTimeout(() => collected.refresh({ k }), shown ? 400 : 0);
    return () => clearTimeout(timer);
  }, [k]);
  return html`<h1 class="unseen">Run</h1><div class="room run-room">
    <section class="card" aria-labelledby="what">
      <h2 id="what">What is measured</h2>
      <div class="row">
        <${Field} label="Filter, as pytest's -k" wide>
          <input type="search" data-first value=${k} placeholder="pp512 and not slow" autocomplete="off" spellcheck="false"
            onInput=${(event) => setParams({ k: event.target.value })} />
        <//>
        <button type="button" onClick=${() => collected.refresh({ k, refresh: "1" })}>Collect again</button>
      </div>
      <p class="note" role="status">${known.busy ? "pytest collects …" : shown ? said(shown) : ""}</p>
      <${Problem} error=${known.error} />
      ${shown && html`<${Problems} value=${shown.value} />
        ${shown.cells.length ? html`<${Selection} tree=${shown} />`
          : html`<p class="empty">No cell${k ? " fits the filter" : ": write a suite, or boobench init writes one"}.</p>`}`}
    </section>
    <${Start} k=${k} />
  </div>`;
}

const said = (shown) =>
  `${count(shown.cells.length, "cell")}, collected ${time(shown.value.collected_at)} UTC`;

function Problems({ value }) {
  return html`${value.problems?.length > 0 && html`<ul class="problem" role="alert">
      ${value.problems.map(({ file, line, message }) => html`<li key=${`${file}${line}${message}`}>
        <code>${file}${line ? `:${line}` : ""}</code> ${message}</li>`)}</ul>`}
    ${value.errors && html`<details class="problem"><summary>pytest could not collect everything</summary>
      <pre tabindex="0">${value.errors}</pre></details>`}`;
}

function Selection({ tree: shown }) {
  const isOpen = useSignal(open);
  const chosen = useSignal(selected);
  const choose = (test) => select(new Set(shown.cells.filter(test).map((cell) => cell.node_id)));
  return html`<div class="row tools-row" role="group" aria-label="Select">
      <button type="button" class="small" onClick=${() => choose(() => true)}>All</button>
      <button type="button" class="small" onClick=${() => choose(() => false)}>None</button>
      <button type="button" class="small" onClick=${() => choose((cell) => isRed(cell.last?.outcome))}>What is red</button>
      <button type="button" class="small" onClick=${() => choose((cell) => !cell.last)}>Never measured</button>
    </div>
    <${TreeView} tree=${shown} open=${isOpen} setOpen=${(next) => { open.value = next; }}
      selected=${chosen} setSelected=${select} spot=${spot} />`;
}

// What is asked of the server; null for all cells, so that the command line is short.
function asked(k) {
  const { save_baseline, baseline, wait, takeover, confirm, workers } = options.peek();
  const cells = tree.peek().cells.filter((cell) => selected.peek().has(cell.node_id));
  const all = cells.length === tree.peek().cells.length;
  return {
    node_ids: all ? null : cells.map((cell) => cell.node_id), k: all ? k : "", hosts: [],
    save_baseline: save_baseline || null, baseline: baseline || null, wait: wait || null, takeover, confirm,
    workers: workers === "" ? null : Number(workers),
  };
}

function Start({ k }) {
  const shown = useSignal(tree);
  const chosen = useSignal(selected);
  const wanted = useSignal(options);
  const [refusal, setRefusal] = useState(null); // of a start
  const [wrong, setWrong] = useState(null); // with what is chosen now
  const [command, setCommand] = useState(null);
  const error = refusal ?? wrong;
  const many = shown ? shown.cells.filter((cell) => chosen.has(cell.node_id)).length : 0;
  useEffect(() => {
    setRefusal(null);
    if (!many) return setCommand(null);
    let late = false;
    const ask = () => post("/api/runs", { ...asked(k), dry: true })
      .then((answer) => { if (!late) { setCommand(answer.command); setWrong(null); } }, (found) => { if (!late) setWrong(found); });
    const timer = setTimeout(ask, 250);
    return () => { late = true; clearTimeout(timer); };
  }, [shown, chosen, wanted, k]);
  const start = async (event) => {
    event.preventDefault();
    try {
      const run = await post("/api/runs", asked(k));
      options.value = { ...wanted, takeover: false, confirm: "" };
      say("The run has started");
      go("now", run.id);
    } catch (found) {
      setRefusal(found);
    }
  };
  const ready = many > 0 && (!wanted.takeover || wanted.confirm === "takeover");
  return html`<section class="card" aria-labelledby="how"><form onSubmit=${start}>
    <h2 id="how">How it is run</h2>
    <${Options} wanted=${wanted} />
    <p class="time" role="status">${shown ? told(shown, chosen, many) : ""}</p>
    ${command && html`<${Command} text=${command} label="The command line of this run" />`}
    <${Problem} error=${error}>${error?.answer?.busy && html`<${Busy} busy=${error.answer.busy} />`}<//>
    <button type="submit" class="main" disabled=${!ready}>Start</button>
  </form></section>`;
}

function told(shown, chosen, many) {
  if (!many) return "No cell is selected.";
  const { seconds, unknown } = estimate(shown, chosen);
  const times = unknown < many ? `, ${about(seconds)} one after another` : "";
  return `${count(many, "cell")}${times}${unknown ? `; ${unknown} of them without a history` : ""}.`;
}

export function Busy({ busy }) {
  return html`<ul>${busy.map(({ host, who }) => html`<li key=${host}><strong>${host}</strong> is used by
    ${" "}${who.length ? who.join(", ") : "another run"}.</li>`)}</ul>`;
}

function Options({ wanted }) {
  const set = (name) => (value) => { options.value = { ...options.peek(), [name]: value }; };
  const typed = (name) => (event) => set(name)(event.target.value);
  return html`<div class="options">
    <${Field} label="Save as baseline"><select value=${wanted.save_baseline} onChange=${typed("save_baseline")}>
      <option value="">no: compare</option><option value="replace">new, in place of what is there</option>
      <option value="add">add to what is there</option></select><//>
    <${Field} label="Name of the baseline"><input value=${wanted.baseline} placeholder="main" autocomplete="off"
      onInput=${typed("baseline")} /><//>
    <${Field} label="Wait for a busy host" hint="such as 10m; empty: refuse"><input value=${wanted.wait} autocomplete="off"
      onInput=${typed("wait")} /><//>
    <${Field} label="Workers" hint="hosts measured at once"><input type="number" min="1" max="64" value=${wanted.workers}
      onInput=${typed("workers")} /><//>
    <${Check} label="Take the host over, whoever uses it" checked=${wanted.takeover} onChange=${set("takeover")} />
    ${wanted.takeover && html`<${Field} label="Type takeover to confirm" hint="others' requests will disturb, and be disturbed">
      <input class="danger" value=${wanted.confirm} autocomplete="off" spellcheck="false" onInput=${typed("confirm")} /><//>`}
  </div>`;
}
