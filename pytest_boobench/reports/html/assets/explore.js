// Looking around in a history chart: hover and arrow keys go from run to run, a drag or + and − zoom.

function listen(plot, points, view, key, redraw) {
  let pressedX = null;
  const look = (place, pointer) => {
    view.at = place;
    describeRun(plot, points, view, key);
    moveCursor(plot, plot.toX(place));
    const box = plot.getBoundingClientRect();
    const { clientX, clientY } = pointer ?? { clientX: box.left + plot.toX(place), clientY: box.top };
    showTip(`${time(points[place].at)} UTC`, pointFacts(points[place], key), clientX, clientY);
  };
  const leave = () => { moveCursor(plot, null); hideTip(); };
  plot.addEventListener("pointerdown", (event) => { pressedX = event.button === 0 ? event.clientX : null; });
  plot.addEventListener("pointermove", (event) => {
    look(plot.toPlace(event.clientX), event);
    if (pressedX !== null && event.buttons & 1) moveBrush(plot, pressedX, event.clientX);
  });
  plot.addEventListener("pointerup", (event) => {
    if (pressedX !== null && Math.abs(event.clientX - pressedX) > 8) {
      const [from, to] = [plot.toPlace(pressedX), plot.toPlace(event.clientX)].sort((a, b) => a - b);
      Object.assign(view, { from, to });
      leave();
      redraw();
    }
    pressedX = null;
  });
  plot.addEventListener("pointerleave", leave);
  plot.addEventListener("blur", leave);
  plot.addEventListener("dblclick", () => { zoomBy(view, points.length, Infinity); redraw(); });
  plot.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !act(event.key, view, points.length)) return;
    event.preventDefault();
    redraw();
    if (event.key === "Escape") leave();
    else look(view.at);
  });
}

// What a key does to the view; false where it does nothing.
function act(key, view, many) {
  const arrows = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1 };
  const moves = { ...arrows, PageDown: -10, PageUp: 10, Home: -many, End: many };
  const zooms = { "+": 0.5, "=": 0.5, "-": 2, "0": Infinity, Escape: Infinity };
  if (key in moves) moveBy(view, many, moves[key]);
  else if (key in zooms) zoomBy(view, many, zooms[key]);
  else return false;
  return true;
}

// To another run; the view follows where it is out of sight.
function moveBy(view, many, by) {
  view.at = Math.min(many - 1, Math.max(0, view.at + by));
  const shift = Math.min(0, view.at - view.from) + Math.max(0, view.at - view.to);
  view.from += shift;
  view.to += shift;
}

// So many times as many runs, around the one that is looked at; three at least.
function zoomBy(view, many, factor) {
  const span = Math.min(many, Math.max(3, Math.round((view.to - view.from + 1) * factor)));
  view.from = Math.min(many - span, Math.max(0, Math.round(view.at - (span - 1) / 2)));
  view.to = view.from + span - 1;
}

function moveCursor(plot, x) {
  const cursor = plot.querySelector(".cursor");
  cursor.setAttribute("visibility", x === null ? "hidden" : "visible");
  if (x !== null) ["x1", "x2"].forEach((end) => cursor.setAttribute(end, x));
  else plot.querySelector(".brush").setAttribute("visibility", "hidden");
}

function moveBrush(plot, fromX, toX) {
  const brush = plot.querySelector(".brush");
  brush.setAttribute("x", Math.min(fromX, toX) - plot.getBoundingClientRect().left);
  brush.setAttribute("width", Math.abs(toX - fromX));
  brush.setAttribute("visibility", "visible");
}

// What a screen reader says of the run that is looked at.
function describeRun(plot, points, view, key) {
  const point = points[view.at];
  const facts = pointFacts(point, key).filter(([, value]) => value).map(([what, value]) => `${what} ${value}`);
  plot.setAttribute("aria-valuemax", points.length);
  plot.setAttribute("aria-valuenow", view.at + 1);
  plot.setAttribute("aria-valuetext", `${time(point.at)}: ${facts.join(", ")}`);
}

function pointFacts(point, key) {
  const { title, unit } = METRICS[key];
  const difference = point.value !== null && point.level ? change(point.value / point.level - 1) : null;
  return [
    [title, quantity(point.value, unit)],
    ["p10 to p90", point.low === null ? null : `${number(point.low)} to ${number(point.high)}`],
    ["baseline", point.level === null ? null : `${quantity(point.level, unit)} (${difference})`],
    ["red beyond", point.limit === null ? null : quantity(point.limit, unit)],
    ["verdict", point.state.word],
    ["why", point.reason],
    ["engine", point.build],
    ["commit", point.commit],
    ["from", point.machine],
    ["saved as", point.saved && `baseline ${point.saved}`],
  ];
}

const historyHeads = (key) => {
  const { title, unit } = METRICS[key];
  const numbers = [`${title} ${unit}`, "p10", "p90", "baseline"];
  return ["measured, UTC", ...numbers, "verdict", "engine", "commit", "session", "note"];
};

function historyRow(point) {
  const note = [point.saved && `saved as baseline ${point.saved}`, point.reason].filter(Boolean).join("; ");
  return [time(point.at), number(point.value), number(point.low), number(point.high), number(point.level),
    point.state.word, point.build ?? BLANK, point.commit ?? BLANK, point.session ?? BLANK, note];
}

// What the chart's signs are, as far as they occur.
function historyLegend(points, changes) {
  const some = (test) => points.some(test);
  const entries = [
    ["line", "median of a run", true],
    ["band", "its p10 to p90", some((point) => point.low !== null)],
    ["level", "baseline", some((point) => point.level !== null)],
    ["limit", "limit, red beyond it", some((point) => point.limit !== null)],
    ["changes", "change of the course", changes.length],
    ["builds", "new engine build", some((point) => point.build !== points[0].build)],
    ["commit", "new commit", some((point) => point.commit !== points[0].commit)],
    ["saved", "saved as baseline", some((point) => point.saved)],
  ];
  return element("ul", { class: "legend" }, ...entries.filter(([, , occurs]) => occurs).map(([name, label]) =>
    element("li", {}, legendKey(name), label)));
}

function legendKey(name) {
  const lines = { band: "M12,2V14", builds: "M12,1V15", commit: "M12,4v9", changes: "M6,3L18,12" };
  const mark = name === "saved" ? shape("circle", { class: name, cx: 12, cy: 8, r: 6 })
    : shape("path", { class: name === "commit" ? "commit" : name, d: lines[name] ?? "M1,8H23" });
  return shape("svg", { class: "key", viewBox: "0 0 24 16", "aria-hidden": "true" },
    name in lines && name !== "commit" ? shape("g", { class: name }, mark) : mark);
}
