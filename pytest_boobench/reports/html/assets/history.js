// The course of one metric of a cell over its runs: one step a run, since runs come in bursts and with gaps.
// The plot is a slider for the keyboard and for screen readers: its value is the run that is looked at.

const HISTORY = { top: 40, right: 14, bottom: 44, left: 58, height: 290 };

function historyChart(cell, key) {
  const points = pointsOf(cell, key);
  const view = { from: 0, to: points.length - 1, at: points.length - 1 };
  const plot = element("div", {
    class: "plot", tabindex: "0", role: "slider", "aria-orientation": "horizontal",
    "aria-label": `${METRICS[key].title} of ${cell.name} on ${cell.host}, run by run`, "aria-valuemin": 1,
  });
  const seen = element("span", { class: "seen" });
  const draw = () => {
    describeRun(plot, points, view, key);
    seen.textContent = view.to - view.from + 1 < points.length
      ? `runs ${view.from + 1} to ${view.to + 1} of ${points.length}` : count(points.length, "run");
    return drawHistory(plot, points, view, cell, key);
  };
  const redraw = () => plot.replaceChildren(draw(plot.clientWidth));
  listen(plot, points, view, key, redraw);
  const zoom = (factor) => () => { zoomBy(view, points.length, factor); redraw(); };
  const tools = element("span", { class: "tools" },
    button("+", zoom(0.5), { "aria-label": "zoom in" }),
    button("−", zoom(2), { "aria-label": "zoom out" }),
    button("all", zoom(Infinity), { "aria-label": "show all runs" }));
  return element("figure", { class: "history" },
    element("figcaption", {},
      element("strong", {}, METRICS[key].title), element("span", {}, METRICS[key].is), seen, tools),
    fit(plot, draw),
    historyLegend(points, cell.metrics[key].changes),
    foldedTable("Numbers of this chart", historyHeads(key), () => points.map(historyRow).reverse()));
}

function drawHistory(plot, points, view, cell, key) {
  const width = plot.clientWidth;
  const shown = points.slice(view.from, view.to + 1);
  const range = extent(shown.flatMap((point) => [point.value, point.low, point.high, point.level, point.limit]));
  const right = width - HISTORY.right;
  const step = (right - HISTORY.left) / shown.length;
  const x = (place) => HISTORY.left + (place - view.from + 0.5) * step;
  const y = linear(range, [HISTORY.height - HISTORY.bottom, HISTORY.top]);
  plot.toPlace = (clientX) => {
    const inside = (clientX - plot.getBoundingClientRect().left - HISTORY.left) / step;
    return Math.min(view.to, Math.max(view.from, view.from + Math.floor(inside)));
  };
  plot.toX = x;
  return shape("svg", { viewBox: `0 0 ${width} ${HISTORY.height}`, "aria-hidden": "true" },
    valueAxis(y, range, HISTORY.left, right),
    shape("text", { class: "label", x: 4, y: 14 }, METRICS[key].unit),
    drawRunAxis(shown, x, step),
    ...drawLimits(shown, x, y, step, METRICS[key].better),
    drawBand(shown, x, y),
    drawChanges(cell.metrics[key].changes, view, x, y, step),
    drawBuilds(points, view, x, step, right),
    drawLine(shown, x, y),
    shape("g", { class: "points" }, ...shown.map((point) => drawPoint(point, x, y))),
    shape("line", { class: "cursor", y1: HISTORY.top, y2: HISTORY.height - HISTORY.bottom, visibility: "hidden" }),
    shape("rect", {
      class: "brush", y: HISTORY.top, height: HISTORY.height - HISTORY.top - HISTORY.bottom, visibility: "hidden",
    }));
}

// Dates below, or hours where all is of one day, as many as there is room for; a tick wherever the commit changes.
function drawRunAxis(shown, x, step) {
  const bottom = HISTORY.height - HISTORY.bottom;
  const days = new Set(shown.map((point) => time(point.at).slice(0, 10)));
  const label = (point) => (days.size > 1 ? time(point.at).slice(0, 10) : time(point.at).slice(11));
  const every = Math.ceil(86 / step);
  const hasRoom = (index) => index === 0 || index * step + 60 < shown.length * step;
  const dates = shown.filter((_, index) => index % every === 0 && hasRoom(index));
  const commits = shown.filter((point, index) => index > 0 && point.commit !== shown[index - 1].commit);
  return shape("g", { class: "axis" },
    ...dates.map((point) =>
      shape("text", { x: Math.max(x(point.place) - 14, HISTORY.left), y: bottom + 30 }, label(point))),
    ...commits.map((point) =>
      shape("path", { class: "commit", d: `M${x(point.place) - step / 2},${bottom + 3}v9` })));
}

// The baseline's level as it was then, and how far from it the gate turns red.
function drawLimits(shown, x, y, step, better) {
  const edge = better === "higher" ? HISTORY.height - HISTORY.bottom : HISTORY.top;
  const levels = steps(shown, "level", x, y, step);
  const limits = steps(shown, "limit", x, y, step);
  const zones = limits.map(({ left, right, at }) => shape("rect", {
    class: "zone", x: left, width: right - left, y: Math.min(at, edge), height: Math.abs(edge - at),
  }));
  const line = (name) => ({ left, right, at }) => shape("path", { class: name, d: `M${left},${at}H${right}` });
  return [...zones, ...limits.map(line("limit")), ...levels.map(line("level"))];
}

function steps(shown, name, x, y, step) {
  const found = [];
  for (const point of shown) {
    const value = point[name];
    if (value === null) continue;
    const newest = found.at(-1);
    const left = x(point.place) - step / 2;
    if (newest && newest.value === value && Math.abs(newest.right - left) < 0.5) newest.right = left + step;
    else found.push({ value, left, right: left + step, at: y(value) });
  }
  return found;
}

// From the p10 to the p90 of each run's samples.
function drawBand(shown, x, y) {
  const bars = shown.filter((point) => point.low !== null && point.high !== null);
  return shape("g", { class: "band" }, ...bars.map((point) =>
    shape("path", { d: `M${x(point.place)},${y(point.low)}V${y(point.high)}` })));
}

function drawLine(shown, x, y) {
  const known = shown.filter((point) => point.value !== null);
  const path = known.map((point, index) =>
    `${index ? "L" : "M"}${x(point.place).toFixed(1)},${y(point.value).toFixed(1)}`);
  return shape("path", { class: "line", d: path.join("") });
}

// A change of the course: an arrow from the level before to the level after, a slide over all its runs.
function drawChanges(changes, view, x, y, step) {
  const seen = changes.filter(([first, last]) => last >= view.from && first <= view.to);
  return shape("g", { class: "changes" }, ...seen.flatMap(([first, last, before, after]) => {
    const [from, to] = first === last ? [x(first) - step / 2, x(first) - step / 2] : [x(first), x(last)];
    const label = change(after / before - 1);
    return [
      shape("path", { d: `M${from},${y(before)}L${to},${y(after)}` }),
      shape("circle", { cx: to, cy: y(after), r: 3 }),
      shape("text", { x: to - 6, y: (y(before) + y(after)) / 2 + 4, "text-anchor": "end" }, label),
    ];
  }));
}

// A line wherever the engine's build changes, with the build's name above.
function drawBuilds(points, view, x, step, right) {
  const known = points.filter((point) => point.build !== null);
  const starts = known.filter((point, index) => index === 0 || point.build !== known[index - 1].build);
  const before = starts.filter((point) => point.place < view.from).at(-1);
  const inside = starts.filter((point) => point.place >= view.from && point.place <= view.to);
  const marks = [...(before ? [{ build: before.build, at: HISTORY.left, old: true }] : []),
    ...inside.map((point) => ({ build: point.build, at: x(point.place) - step / 2, old: point === known[0] }))];
  return shape("g", { class: "builds" }, ...marks.flatMap(({ build, at, old }, index) => [
    old ? null : shape("path", { d: `M${at},${HISTORY.top - 14}V${HISTORY.height - HISTORY.bottom}` }),
    shape("text", { x: at + 4, y: HISTORY.top - 8 }, cut(build, (marks[index + 1]?.at ?? right) - at - 6)),
  ]));
}

const SIGNS = {
  "▼": "M-5,-4H5L0,5Z", "▲": "M-5,4H5L0,-5Z", "◆": "M0,-6L6,0L0,6L-6,0Z", "✕": "M-4,-4L4,4M4,-4L-4,4",
  "≠": "M-4,-4H4V4H-4Z",
};
const DOT = "M-3.5,0a3.5,3.5 0 1,0 7,0a3.5,3.5 0 1,0 -7,0";

// What could not be measured stands below all numbers.
function drawPoint(point, x, y) {
  const height = point.value === null ? HISTORY.height - HISTORY.bottom - 8 : y(point.value);
  const sign = point.value === null ? "✕" : point.state.sign;
  const hollow = "○–✕".includes(sign) || (point.reason !== null && point.state.tone !== "bad");
  return shape("g", { transform: `translate(${x(point.place).toFixed(1)},${height.toFixed(1)})` },
    point.saved ? shape("circle", { class: "saved", r: 8 }) : null,
    shape("path", { class: `${point.state.tone}${hollow ? " hollow" : ""}`, d: SIGNS[sign] ?? DOT }));
}
