// The page's JSON, read back: cells, and a cell's points. reports/html/data.py writes it.

const DATA = JSON.parse(document.getElementById("data").textContent);
const METRICS = DATA.metrics;
const STATES = DATA.states;

const textAt = (place) => (place < 0 ? null : DATA.texts[place]);

const CELLS = DATA.cells.map((cell, place) => ({
  ...cell,
  place,
  rank: cell.state,
  state: STATES[cell.state],
  name: textAt(cell.name),
  suite: textAt(cell.suite),
  host: textAt(cell.host),
  model: textAt(cell.model),
  facts: cell.facts.map(([what, value]) => [textAt(what), textAt(value)]),
}));

// The first metric is the decisive one.
const mainMetric = (cell) => Object.keys(cell.metrics)[0];

function newestValue(cell, key) {
  return cell.metrics[key]?.values.at(-1) ?? null;
}

// What is known of each measurement of a cell, oldest first, with one metric's numbers.
function pointsOf(cell, key) {
  const { runs, after, builds, states, reasons, saved } = cell.points;
  const metric = cell.metrics[key];
  const [ahead, build, state, level, allowed] = [runs, builds, states, metric.level, metric.allowed]
    .map((steps) => spread(steps, after.length));
  return ahead.map((_, place) => DATA.runs[ahead[place] + place]).map((run, place) => ({
    place,
    at: run.at + after[place],
    commit: textAt(run.commit),
    machine: textAt(run.machine),
    session: textAt(run.session),
    build: textAt(build[place]),
    state: STATES[state[place]],
    reason: place in reasons ? textAt(reasons[place]) : null,
    saved: saved[place] ?? null,
    value: metric.values[place],
    low: metric.low?.[place] ?? null,
    high: metric.high?.[place] ?? null,
    level: level[place],
    limit: limitOf(level[place], allowed[place], METRICS[key].better),
  }));
}

// Where the gate turns red.
function limitOf(level, allowed, better) {
  if (level === null || allowed === null) return null;
  return level * (better === "higher" ? 1 - allowed : 1 + allowed);
}

// [[from which place on, value], …] as one value a place.
function spread(steps, length) {
  const values = new Array(length).fill(null);
  steps.forEach(([from, value], step) => values.fill(value, from, steps[step + 1]?.[0] ?? length));
  return values;
}
