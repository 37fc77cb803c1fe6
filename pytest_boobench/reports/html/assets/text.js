// Numbers and times as text, as the terminal has them.

const BLANK = "–";

// Four significant digits at most and no exponent.
function number(value) {
  return value === null || value === undefined ? BLANK : String(Number(value.toPrecision(4)));
}

function quantity(value, unit) {
  return value === null || value === undefined ? BLANK : `${number(value)} ${unit}`;
}

// A ratio of change with its sign: −17.3 %
function change(ratio) {
  if (ratio === null || !Number.isFinite(ratio)) return BLANK;
  return `${ratio < 0 ? "−" : "+"}${(Math.abs(ratio) * 100).toFixed(1)} %`;
}

// Seconds since 1970 as 2026-11-24 09:12, UTC
function time(seconds) {
  return new Date(seconds * 1000).toISOString().slice(0, 16).replace("T", " ");
}

function count(many, noun) {
  return `${many} ${noun}${many === 1 ? "" : "s"}`;
}

// A text cut to a width in pixels, at the size of a chart's labels; empty where nothing readable is left of it.
function cut(text, width) {
  const fitting = Math.floor(width / 6.5);
  if (text.length <= fitting) return text;
  return fitting < 3 ? "" : `${text.slice(0, fitting - 1)}…`;
}
