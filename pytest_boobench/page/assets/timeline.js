// When each lane waited, loaded, read the prompt, reasoned and wrote: bars over the time of the run, or of the cell.

import { html } from "./vendor/htm-preact.js";
import { duration } from "./report.js";

export const KINDS = ["waiting", "loading", "warm-up", "prefill", "reasoning", "decode", "measuring", "idle"];
const WIDE = 1000; // units of the drawing, whatever its width in pixels
const TALL = 8;

export const spansOf = (cell) => (cell.lanes ?? []).flatMap((lane) => lane.spans);

// [from, to] in seconds since the run began.
export function rangeOf(cells, now) {
  const spans = cells.flatMap(spansOf);
  if (!spans.length) return [0, Math.max(1, now)];
  const from = spans.reduce((least, span) => Math.min(least, span.from_s), Infinity);
  const to = spans.reduce((most, span) => Math.max(most, span.to_s ?? now), 0);
  return [from, Math.max(to, from + 0.001)];
}

// Whether one of its spans still grows.
export const isOpen = (cell) => spansOf(cell).some((span) => span.to_s === null);

// Of the whole run. While it goes on its end moves by steps, so that not every second moves every bar.
export function wholeRange(cells, now, going) {
  const end = Math.max(1, rangeOf(cells, now)[1]);
  const step = Math.max(5, 10 ** Math.floor(Math.log10(end)) / 5);
  return [0, going ? Math.ceil(end / step) * step : end];
}

export function Timeline({ cell, range, now }) {
  const lanes = cell.lanes ?? [];
  if (!lanes.length) return html`<span class="note">no times yet</span>`;
  const [from, to] = range;
  const x = (second) => Math.min(WIDE, Math.max(0, ((second - from) / (to - from)) * WIDE));
  const high = lanes.length * (TALL + 2);
  return html`<svg class="timeline" role="img" aria-label=${tell(lanes, now)} viewBox=${`0 0 ${WIDE} ${high}`}
      preserveAspectRatio="none" style=${{ height: `${high * (lanes.length > 8 ? 1 : 1.5)}px` }}>
    ${lanes.map(({ lane, spans }, row) => spans.map((span) => {
      const [left, right] = [x(span.from_s), x(span.to_s ?? now)];
      return html`<rect key=${`${lane}-${span.from_s}-${span.kind}`} class=${`span ${span.kind}`} x=${left}
        width=${Math.max(1.2, right - left)} y=${row * (TALL + 2)} height=${TALL} />`;
    }))}
  </svg>`;
}

// The same in words: seconds of each kind, all lanes together.
export function tell(lanes, now) {
  const total = new Map();
  for (const { kind, from_s, to_s } of lanes.flatMap((lane) => lane.spans)) {
    total.set(kind, (total.get(kind) ?? 0) + (to_s ?? now) - from_s);
  }
  const parts = KINDS.filter((kind) => total.has(kind)).map((kind) => `${kind} ${duration(total.get(kind))}`);
  return `${lanes.length} ${lanes.length === 1 ? "lane" : "lanes"}: ${parts.join(", ") || "nothing yet"}`;
}

export function Legend({ cells }) {
  const seen = new Set(cells.flatMap(spansOf).map(({ kind }) => kind));
  const kinds = KINDS.filter((kind) => seen.has(kind));
  return html`<ul class="legend">${kinds.map((kind) => html`<li key=${kind}>
    <svg class="key" viewBox="0 0 24 16" aria-hidden="true"><rect class=${`span ${kind}`} x="2" y="3" width="20" height="10" /></svg>
    ${kind}</li>`)}</ul>`;
}
