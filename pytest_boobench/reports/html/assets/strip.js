// Charts that lie: a lane for the newest measurement and one for the baseline, over one axis of values.

const STRIP = { left: 72, right: 14, lane: 30, top: 6, axis: 22 };
const SIDES = [["now", "newest"], ["was", "baseline"]];

// lanes are { label, told, draw }: the words for who can't see or hovers, and draw(x, y), which gives shapes.
function stripFigure(caption, range, lanes, ...below) {
  const told = lanes.map((lane) => `${lane.label}: ${lane.told}`).join(". ");
  const box = element("div", { class: "strip", role: "img", "aria-label": `${caption}. ${told}` });
  return element("figure", {},
    element("figcaption", {}, caption), fit(box, (width) => drawStrip(width, range, lanes)), ...below);
}

function drawStrip(width, range, lanes) {
  const bottom = STRIP.top + lanes.length * STRIP.lane;
  const x = linear(range, [STRIP.left, width - STRIP.right]);
  const axis = ticks(range, Math.max(2, Math.floor(width / 90))).flatMap((value) => [
    shape("line", { x1: x(value), x2: x(value), y1: STRIP.top, y2: bottom }),
    shape("text", { x: x(value), y: bottom + 16, "text-anchor": "middle" }, number(value)),
  ]);
  return shape("svg", { viewBox: `0 0 ${width} ${bottom + STRIP.axis}`, "aria-hidden": "true" },
    shape("g", { class: "axis" }, ...axis),
    ...lanes.map((lane, place) => drawLane(lane, x, STRIP.top + (place + 0.5) * STRIP.lane)));
}

function drawLane({ label, told, draw }, x, y) {
  return shape("g", {},
    shape("title", {}, `${label}: ${told}`),
    shape("text", { x: STRIP.left - 10, y: y + 4, "text-anchor": "end" }, label),
    ...draw(x, y));
}
