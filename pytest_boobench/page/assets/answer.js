// One answer: its text as text, its reasoning folded, and what was measured of it.

import { html } from "./vendor/htm-preact.js";
import { BLANK, number, quantity } from "./report.js";
import { isOver } from "./talk.js";
import { Copy } from "./ui.js";

export const MEASURED = [
  ["ttft_ms", "TTFT", "ms"], ["ttfo_ms", "first answer", "ms"], ["prefill_tok_s", "prefill", "tok/s"],
  ["decode_tok_s", "decode", "tok/s"], ["e2e_ms", "whole", "ms"], ["prompt_tokens", "prompt", "tokens"],
  ["cached_tokens", "cached", "tokens"], ["output_tokens", "output", "tokens"], ["accepted_len", "accepted a step", "tokens"],
  ["draft_accept_share", "drafts accepted", ""],
];
const ALWAYS = new Set(["ttft_ms", "prefill_tok_s", "decode_tok_s", "cached_tokens", "output_tokens", "accepted_len"]);

export function Answer({ answer, children }) {
  const { state, text, reasoning, live, sample } = answer;
  return html`<div class=${`answer ${state}`}>
    ${reasoning && html`<details class="reasoning"><summary>Reasoning${isOver(answer) || text ? "" : " …"}</summary>
      <div class="told" tabindex="0">${reasoning}</div></details>`}
    ${text && html`<div class="told">${text}</div>`}
    ${!isOver(answer) && html`<p class="note">${answer.why ? `Waiting: ${answer.why}` : live
      ? `${number(live.tokens)} tokens, ${quantity(live.tok_s, "tok/s")}` : state === "waiting" ? "Waiting …" : "Reading the prompt …"}</p>`}
    ${state === "stopped" && html`<p class="note">Stopped.</p>`}
    ${answer.message && html`<div class="problem" role="alert"><p>${answer.message}</p>
      ${answer.who.length > 0 && html`<ul>${answer.who.map((who) => html`<li key=${who}>${who}</li>`)}</ul>`}</div>`}
    ${sample && html`<${Measured} answer=${answer} />`}
    ${children}
  </div>`;
}

function Measured({ answer: { sample, finish_reason, curl, python, suite } }) {
  const rows = MEASURED.filter(([key]) => ALWAYS.has(key) || (sample[key] !== null && sample[key] !== undefined));
  const blank = (key) => sample.blanks?.[key];
  return html`<dl class="measured" aria-label="What was measured">${rows.map(([key, title, unit]) => html`
      <div key=${key}><dt>${title}</dt><dd>${sample[key] === null || sample[key] === undefined
        ? BLANK : `${number(sample[key])} ${unit}`.trim()}</dd></div>`)}</dl>
    ${rows.some(([key]) => blank(key)) && html`<ul class="blanks">${rows.filter(([key]) => blank(key)).map(([key, title]) => html`
      <li key=${key}>${title}: ${blank(key)}</li>`)}</ul>`}
    <p class="row note">${[finish_reason && `ended: ${finish_reason}`, sample.rate_source && `rates by ${sample.rate_source}`,
      sample.clock && `clock: ${sample.clock}`].filter(Boolean).join(" · ")}</p>
    ${(curl || python || suite) && html`<p class="row">${curl && html`<${Copy} text=${curl} label="Copy as curl" />`}
      ${python && html`<${Copy} text=${python} label="as Python" />`}${suite && html`<${Copy} text=${suite} label="as a suite" />`}</p>`}`;
}
