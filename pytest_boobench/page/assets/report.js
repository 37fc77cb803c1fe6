// The report's own functions, for modules: text and charts are the same in both.

export const { number, quantity, change, time, count, historyChart, hideTip } = globalThis;

// METRICS is a name of the scripts' scope, not of the window.
/* global METRICS */
export function nameMetric(key, words) {
  METRICS[key] = words;
}

export const BLANK = "–";

// Seconds as people say them: 0.8 s, 42 s, 3 min 20 s, 2 h 05 min
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return BLANK;
  if (seconds < 10) return `${number(Math.round(seconds * 10) / 10)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${String(whole % 60).padStart(2, "0")} s`;
  return `${Math.floor(whole / 3600)} h ${String(Math.floor(whole / 60) % 60).padStart(2, "0")} min`;
}

// The same of a guess; what takes no time to speak of is no zero.
export const about = (seconds, less = "less than", near = "about") => (seconds < 0.1 ? `${less} 0.1 s` : `${near} ${duration(seconds)}`);

// What became of a cell: sign and tone, as in the report.
export const OUTCOMES = {
  regression: { sign: "▼", tone: "bad" },
  error: { sign: "✕", tone: "bad" },
  failed: { sign: "✕", tone: "bad" },
  "not measured": { sign: "✕", tone: "bad" },
  "failed requests": { sign: "✕", tone: "bad" },
  "not comparable": { sign: "≠", tone: "warn" },
  inconclusive: { sign: "◆", tone: "warn" },
  "no baseline": { sign: "○", tone: "plain" },
  "not judged": { sign: "–", tone: "plain" },
  skipped: { sign: "⊘", tone: "plain" },
  improvement: { sign: "▲", tone: "good" },
  pass: { sign: "●", tone: "good" },
};

export const outcomeOf = (word) => ({ word, ...(OUTCOMES[word] ?? { sign: "–", tone: "plain" }) });
export const isRed = (word) => outcomeOf(word).tone === "bad";
