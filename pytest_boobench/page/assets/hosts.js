// Hosts and their models, as the server sees them just now; and the choice of one.

import { html, useEffect } from "./vendor/htm-preact.js";
import { get } from "./api.js";
import { fetched, useSignal } from "./store.js";
import { Field } from "./ui.js";

export const hosts = fetched(() => get("/api/hosts").then((found) => found.hosts));
export const sampling = fetched(() => get("/api/sampling").then((found) => found.fields));

const AGAIN_MS = 1500;

export function useHosts() {
  useEffect(() => {
    hosts.refresh();
    if (!sampling.found.peek().value) sampling.refresh();
    const again = () => { if (!document.hidden) hosts.refresh(); };
    window.addEventListener("focus", again);
    return () => window.removeEventListener("focus", again);
  }, []);
  const known = useSignal(hosts.found);
  useEffect(() => { // a slow host is asked for until it has answered
    if (!known.value?.some(({ asking }) => asking) || known.busy) return undefined;
    const timer = setTimeout(hosts.refresh, AGAIN_MS);
    return () => clearTimeout(timer);
  }, [known]);
  return known;
}

// One text for a host and its model, as a select's value; no name holds a line break.
export const pairOf = (host, model) => `${host}\n${model}`;
export const splitPair = (pair) => {
  const [host, model] = pair.split("\n");
  return { host, model };
};

// The first model that can answer, or another one where there is one: of the embedded server, or of any host in reach.
export const firstPair = (found, place = 0) => {
  const able = found.filter((host) => host.reachable !== false);
  const sorted = [...able].sort((a, b) => (b.kind === "embedded") - (a.kind === "embedded"));
  const pairs = sorted.flatMap((host) => host.models.filter(({ embeds }) => embeds !== true).map(({ name }) => pairOf(host.name, name)));
  return pairs[place] ?? pairs[0] ?? "";
};

export function lampOf(host) {
  if (host.reachable === false) return ["bad", "✕", `cannot be reached${host.why ? `: ${host.why}` : ""}`];
  if (host.asking) return ["plain", "○", "has not answered yet"];
  if (host.busy) return ["warn", "◆", `busy: ${host.busy.by.join(", ")}`];
  if (host.reachable === null) return ["plain", "○", host.why ?? "not asked yet"];
  return ["good", "●", host.why ?? "ready"];
}

export const modelOf = (found, pair) => {
  const { host, model } = splitPair(pair);
  return found.find((one) => one.name === host)?.models.find((one) => one.name === model);
};

// The line below has the whole name: a select cuts it.
export function PickModel({ label, value, onChange, found, first }) {
  const { host, model } = splitPair(value);
  const chosen = modelOf(found, value);
  return html`<div><${Field} label=${label}><select data-first=${first} value=${value} onChange=${(event) => onChange(event.target.value)}>
    ${!value && html`<option value="">choose</option>`}
    ${found.map((host) => html`<optgroup key=${host.name} label=${`${host.name}, ${lampOf(host)[2].slice(0, 60)}`}
        disabled=${host.reachable === false}>
      ${host.models.map((model) => html`<option key=${model.name} value=${pairOf(host.name, model.name)}
        disabled=${model.embeds === true}>
        ${model.name} on ${host.name}${model.state === "unknown" ? "" : ` (${model.state})`}${model.embeds === true ? ", embeds only" : ""}</option>`)}
    </optgroup>`)}</select><//>
    ${chosen && html`<p class="where chosen">${[`${model} on ${host}`, chosen.state !== "unknown" && chosen.state,
      chosen.vision && "sees pictures"].filter(Boolean).join(", ")}</p>`}</div>`;
}

// What is known of the chosen host, and of those that are out of reach.
export function Lamps({ found }) {
  return html`<ul class="lamps" aria-label="Hosts">${found.map((host) => {
    const [tone, sign, text] = lampOf(host);
    return html`<li key=${host.name}><span class=${`sign ${tone}`} aria-hidden="true">${sign}</span>
      <strong>${host.name}</strong> <span class="where">${[host.kind, host.machine].filter(Boolean).join(", ")}</span>
      <span class=${tone}>${text}</span></li>`;
  })}</ul>`;
}

// The sampling fields of a suite; an empty one is left to the server.
export function Sampling({ values, onChange }) {
  const known = useSignal(sampling.found);
  const set = (name) => (event) => {
    const next = { ...values };
    if (event.target.value === "") delete next[name];
    else next[name] = Number(event.target.value);
    onChange(next);
  };
  return html`<div class="options">${(known.value ?? []).map(({ name, type, minimum, maximum, default: usual }) => html`
    <${Field} key=${name} label=${name.replaceAll("_", " ")}>
      <input type="number" step=${type === "integer" ? 1 : "any"} min=${minimum} max=${maximum} value=${values[name] ?? ""}
        placeholder=${usual ?? "server's own"} onInput=${set(name)} /><//>`)}</div>`;
}
