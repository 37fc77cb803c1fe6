// Where the time to the first token goes: connecting (before the clock starts), waiting, the prompt, and what is left.

const PARTS = [
  ["connect", "opening the connection, before TTFT's clock starts"],
  ["queue", "queue, templating, transport"],
  ["prompt", "the server's own time for the prompt"],
  ["rest", "not told apart: medians need not add up, and some servers tell no prompt time"],
];

// null where there is no TTFT.
function splitChart(cell) {
  const bars = SIDES.filter(([name]) => name in cell.split)
    .map(([name, label]) => ({ label, parts: partsOf(cell.split[name]), ttft: cell.split[name][3] }));
  if (!bars.length) return null;
  const widest = Math.max(...bars.map(({ parts }) => parts.reduce((sum, part) => sum + (part ?? 0), 0)));
  const lanes = bars.map(({ label, parts, ttft }) => ({
    label,
    told: [...PARTS.map(([name]) => name), "TTFT"]
      .map((name, index) => `${name} ${quantity([...parts, ttft][index], "ms")}`).join(", "),
    draw: (x, y) => drawParts(parts, x, y),
  }));
  return stripFigure("Where the TTFT goes, ms (medians)", [0, widest || 1], lanes,
    element("ul", { class: "legend" }, ...PARTS.map(([name, is]) => element("li", { title: is }, partKey(name), name))),
    foldedTable("Numbers of the TTFT", ["measurement", ...PARTS.map(([name]) => `${name} ms`), "TTFT ms"],
      () => bars.map(({ label, parts, ttft }) => [label, ...parts.map(number), number(ttft)])));
}

// What is not told apart is the rest.
function partsOf([connect, queue, prompt, ttft]) {
  return [connect, queue, prompt, Math.max(0, ttft - (queue ?? 0) - (prompt ?? 0))];
}

// A part that is not known has no width.
function drawParts(parts, x, y) {
  let done = 0;
  return parts.map((part, index) => {
    const from = x(done);
    done += part ?? 0;
    const width = Math.max(0, x(done) - from);
    return shape("rect", { class: `part ${PARTS[index][0]}`, x: from, y: y - 9, width, height: 18 });
  });
}

function partKey(name) {
  return shape("svg", { class: "key", viewBox: "0 0 24 16", "aria-hidden": "true" },
    shape("rect", { class: `part ${name}`, x: 4, y: 2, width: 16, height: 12 }));
}
