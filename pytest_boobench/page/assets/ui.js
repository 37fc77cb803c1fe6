// Small parts that all rooms use. Texts are always text nodes: nothing that a host or a model wrote becomes markup.

import { html, useEffect, useRef, useState } from "./vendor/htm-preact.js";
import { outcomeOf } from "./report.js";
import { say } from "./store.js";

let ids = 0;
const newId = () => `f${++ids}`;
export const useId = () => useState(newId)[0];

// A label and its field; `hint` is read with it.
export function Field({ label, hint, children, wide }) {
  return html`<label class=${`field${wide ? " wide" : ""}`}>
    <span class="label">${label}</span>${children}${hint && html`<small>${hint}</small>`}
  </label>`;
}

export function Check({ label, checked, onChange, disabled }) {
  return html`<label class="check">
    <input type="checkbox" checked=${checked} disabled=${disabled} onChange=${(event) => onChange(event.target.checked)} />
    <span>${label}</span>
  </label>`;
}

export function Choice({ legend, options, value, onChange }) {
  const name = useId();
  return html`<fieldset class="choice"><legend class="unseen">${legend}</legend>
    ${options.map(([key, text]) => html`<label key=${key}>
      <input type="radio" name=${name} value=${key} checked=${key === value} onChange=${() => onChange(key)} />
      <span>${text}</span>
    </label>`)}
  </fieldset>`;
}

export function Problem({ error, children }) {
  if (!error) return null;
  return html`<div class="problem" role="alert"><p>${error.message}</p>${children}</div>`;
}

export function Mark({ word }) {
  if (!word) return null;
  const { sign, tone } = outcomeOf(word);
  return html`<span class=${`state ${tone}`}><span class="sign" aria-hidden="true">${sign}</span> ${word}</span>`;
}

export function Copy({ text, label = "Copy" }) {
  const [done, setDone] = useState("");
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
      setDone("Copied");
      say("Copied");
    } catch {
      setDone("Select the text and copy it by hand");
    }
    setTimeout(() => setDone(""), 2000);
  };
  return html`<button type="button" class="small" onClick=${copy}>${done || label}</button>`;
}

// A line that is typed elsewhere, as it is.
export function Command({ text, label = "Command line" }) {
  return html`<div class="command" role="group" aria-label=${label}>
    <code tabindex="0">${text}</code><${Copy} text=${text} />
  </div>`;
}

// The browser's own dialog: focus stays inside, Escape closes.
export function Dialog({ title, onClose, children }) {
  const box = useRef(null);
  const id = useId();
  useEffect(() => {
    const dialog = box.current;
    const before = document.activeElement;
    dialog.showModal();
    return () => { dialog.close(); before?.focus?.(); };
  }, []);
  return html`<dialog ref=${box} aria-labelledby=${id} onCancel=${(event) => { event.preventDefault(); onClose(); }}>
    <h2 id=${id}>${title}</h2>${children}
  </dialog>`;
}

// A chart that is drawn by other hands: made again when `mark` changes, and only when it is about to be seen.
export function Drawn({ draw, mark, label }) {
  const box = useRef(null);
  useEffect(() => {
    box.current.replaceChildren();
    const observer = new IntersectionObserver((entries) => {
      if (!entries.some((entry) => entry.isIntersecting)) return;
      observer.disconnect();
      box.current?.replaceChildren(draw());
    }, { rootMargin: "300px" });
    observer.observe(box.current);
    return () => observer.disconnect();
  }, [mark]);
  return html`<div class="drawn" ref=${box} data-label=${label}></div>`;
}

export function Facts({ rows }) {
  const known = rows.filter(([, value]) => value !== null && value !== undefined && value !== "");
  return html`<dl class="facts">${known.map(([what, value]) =>
    html`<div key=${what}><dt>${what}</dt><dd>${value}</dd></div>`)}</dl>`;
}

// A table that scrolls by itself, by keyboard too.
export function Table({ caption, heads, rows }) {
  return html`<div class="scroll" role="group" aria-label=${caption} tabindex="0"><table class="plain-table">
    <caption class="unseen">${caption}</caption>
    <thead><tr>${heads.map((head) => html`<th scope="col" key=${head}>${head}</th>`)}</tr></thead>
    <tbody>${rows.map(([key, first, ...others]) => html`<tr key=${key}>
      <th scope="row">${first}</th>${others.map((value) => html`<td>${value}</td>`)}</tr>`)}</tbody>
  </table></div>`;
}
