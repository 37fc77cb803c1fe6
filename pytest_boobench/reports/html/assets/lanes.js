// Concurrency: what more lanes bring together and cost each, one line a host.

const CURVES = 6;
const DASHES = [null, "7 3", "2 3"];

// Gives back what hides the cards of which no cell is shown.
function compareLanes(section, isShown) {
  const groups = DATA.lanes.map(({ name, lines }) => {
    const card = element("div", { class: "card" }, element("h3", {}, name));
    const cells = lines.map((places) => places.map((place) => CELLS[place]));
    whenSeen(card, () => card.append(...lanesCharts(name, cells)));
    return { card, cells: cells.flat() };
  });
  const none = element("p", { class: "note" }, "No cell is like that.");
  section.replaceChildren(...groups.map(({ card }) => card), none);
  return () => {
    groups.forEach(({ card, cells }) => { card.hidden = !cells.some(isShown); });
    none.hidden = groups.some(({ card }) => !card.hidden);
  };
}

function lanesCharts(name, lines) {
  const time = lines[0][0].metrics.ttft_ms ? "ttft_ms" : "e2e_ms";
  const keys = ["total_tok_s", time].filter((key) => lines.flat().some((cell) => newestValue(cell, key) !== null));
  const heads = ["host", "lanes", ...keys.map((key) => `${METRICS[key].title} ${METRICS[key].unit}`)];
  const row = (cell) => [cell.host, String(cell.lanes), ...keys.map((key) => number(newestValue(cell, key)))];
  return [
    ...keys.map((key) => curvesFigure(key, lines)),
    element("ul", { class: "legend" },
      ...lines.map(([cell], index) => element("li", {}, curveKey(index), cell.host))),
    foldedTable(`Numbers of ${name}`, heads, () => lines.flat().map(row)),
  ];
}

function curvesFigure(key, hosts) {
  const lines = hosts.map((line) => line.filter((cell) => newestValue(cell, key) !== null));
  const caption = `${METRICS[key].title}, ${METRICS[key].unit}, by lanes`;
  const told = lines.filter((line) => line.length).map((line) =>
    `${line[0].host}: ${line.map((cell) => `${number(newestValue(cell, key))} at ${cell.lanes}`).join(", ")}`);
  const box = element("div", { class: "strip", role: "img", "aria-label": `${caption}. ${told.join(". ")}` });
  return element("figure", {},
    element("figcaption", {}, caption), fit(box, (width) => drawCurves(width, lines, key)));
}

// Lanes double from step to step, as grids are written; values begin at zero.
function drawCurves(width, lines, key) {
  const cells = lines.flat();
  const lanes = [...new Set(cells.map((cell) => cell.lanes))].sort((a, b) => a - b);
  const range = [0, extent(cells.map((cell) => newestValue(cell, key)))[1]];
  const x = linear([Math.log2(lanes[0]), Math.log2(lanes.at(-1))], [74, width - 20]);
  const y = linear(range, [150, 12]);
  const at = (cell) => [x(Math.log2(cell.lanes)), y(newestValue(cell, key))];
  const labels = lanes.map((many) =>
    shape("text", { x: x(Math.log2(many)), y: 170, "text-anchor": "middle" }, String(many)));
  return shape("svg", { viewBox: `0 0 ${width} 180`, "aria-hidden": "true" },
    valueAxis(y, range, 58, width - 8),
    shape("g", { class: "axis" }, ...labels),
    ...lines.map((line, index) => drawCurve(line, at, index, key)));
}

function drawCurve(cells, at, index, key) {
  const path = cells.map((cell, place) => `${place ? "L" : "M"}${at(cell).join(",")}`).join("");
  const dots = cells.map((cell) => {
    const told = `${cell.host}, ${count(cell.lanes, "lane")}: ${quantity(newestValue(cell, key), METRICS[key].unit)}`;
    return shape("circle", { cx: at(cell)[0], cy: at(cell)[1], r: 4 }, shape("title", {}, told));
  });
  return shape("g", { class: `curve curve${index % CURVES}` },
    shape("path", { d: path, "stroke-dasharray": dashOf(index) }), ...dots);
}

// Beyond six hosts the colours come again, with another dash.
function dashOf(index) {
  return DASHES[Math.floor(index / CURVES) % DASHES.length];
}

function curveKey(index) {
  const line = shape("path", { d: "M1,8H23", "stroke-dasharray": dashOf(index) });
  return shape("svg", { class: "key", viewBox: "0 0 24 16", "aria-hidden": "true" },
    shape("g", { class: `curve curve${index % CURVES}` }, line, shape("circle", { cx: 12, cy: 8, r: 4 })));
}
