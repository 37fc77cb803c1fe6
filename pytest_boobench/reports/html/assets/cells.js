// The table of cells: each row opens to its charts, shows its course in small, and can be sorted.

const rowOf = (place) => document.getElementById(`c${place}`);

function prepareRow(cell) {
  const row = rowOf(cell.place);
  const head = row.querySelector("th");
  const states = { "aria-expanded": "false", "aria-controls": `d${cell.place}` };
  const opener = button("", () => toggleCell(cell), { class: "opener", ...states });
  opener.append(...head.childNodes);
  head.replaceChildren(opener);
  row.querySelector("td.course")?.append(sparkline(cell)); // where nothing was measured, the reason is in its place
}

function sparkline(cell) {
  const key = mainMetric(cell);
  if (!key) return "";
  const points = pointsOf(cell, key);
  const known = points.filter((point) => point.value !== null);
  if (known.length < 2) return "";
  const x = linear([0, points.length - 1], [4, 116]);
  const y = linear(extent(points.flatMap((point) => [point.value, point.level])), [26, 2]);
  const newest = known.at(-1);
  const levels = steps(points, "level", x, y, x(1) - x(0)).map(({ left, right, at }) =>
    shape("path", { class: "level", d: `M${Math.max(4, left)},${at}H${Math.min(116, right)}` }));
  return shape("svg", { class: "spark", viewBox: "0 0 120 28", "aria-hidden": "true" },
    ...levels,
    drawLine(points, x, y),
    shape("circle", { class: cell.state.tone, cx: x(newest.place), cy: y(newest.value), r: 3 }));
}

function toggleCell(cell, open = !isOpen(cell)) {
  const row = rowOf(cell.place);
  const old = document.getElementById(`d${cell.place}`);
  row.querySelector(".opener").setAttribute("aria-expanded", String(open));
  if (open && !old) row.after(detailRow(cell, document.querySelectorAll("#table thead th").length));
  else if (old) old.hidden = !open;
}

function isOpen(cell) {
  return rowOf(cell.place).querySelector(".opener").getAttribute("aria-expanded") === "true";
}

function detailRow(cell, columns) {
  const keys = Object.keys(cell.metrics);
  const charts = element("div", { class: "history-place" });
  const show = (key) => charts.replaceChildren(historyChart(cell, key));
  const inside = element("div", { class: "detail" },
    element("div", { class: "said" }, ...cell.said.map((text) => element("p", {}, text))),
    keys.length > 1 ? metricChoice(cell, keys, show) : null, charts,
    element("div", { class: "near" }, ...sampleCharts(cell), splitChart(cell)), turnsTable(cell),
    element("dl", { class: "facts" }, ...cell.facts.map(([what, value]) =>
      element("div", {}, element("dt", {}, what), element("dd", {}, value)))));
  if (keys.length) show(keys[0]);
  return element("tr", { class: "detail-row", id: `d${cell.place}` }, element("td", { colspan: columns }, inside));
}

function metricChoice(cell, keys, show) {
  const choices = keys.map((key, index) => {
    const radio = element("input", { type: "radio", name: `metric${cell.place}`, value: key, checked: index === 0 });
    radio.addEventListener("change", () => show(key));
    return element("label", {}, radio, element("span", {}, METRICS[key].title));
  });
  return element("fieldset", { class: "choice" },
    element("legend", { class: "unseen" }, "Metric of the chart"), ...choices);
}

// Opens a cell, scrolls there and gives it the focus.
function visitCell(cell) {
  toggleCell(cell, true);
  const row = rowOf(cell.place);
  row.scrollIntoView({ block: "start" });
  row.querySelector(".opener").focus({ preventScroll: true });
}

function prepareSorting() {
  for (const head of document.querySelectorAll("#table th[data-sort]")) {
    const sorter = button("", () => sortBy(head), { class: "sorter" });
    sorter.append(...head.childNodes);
    head.replaceChildren(sorter);
  }
}

// By the column, the other way round on a second click; cells without a number come last.
function sortBy(head) {
  const turned = head.getAttribute("aria-sort") === "ascending";
  document.querySelectorAll("#table th[aria-sort]").forEach((other) => other.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", turned ? "descending" : "ascending");
  const by = head.dataset.sort;
  const value = (cell) => (by === "state" ? cell.place : by === "name" ? cell.name : newestValue(cell, by));
  const known = CELLS.filter((cell) => value(cell) !== null);
  known.sort((a, b) => (value(a) < value(b) ? -1 : value(a) > value(b) ? 1 : a.place - b.place) * (turned ? -1 : 1));
  const body = document.querySelector("#table tbody");
  for (const cell of [...known, ...CELLS.filter((other) => value(other) === null)]) {
    body.append(...[rowOf(cell.place), document.getElementById(`d${cell.place}`)].filter(Boolean));
  }
}
