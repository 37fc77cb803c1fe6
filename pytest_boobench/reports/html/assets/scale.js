// Numbers to pixels and back, and round numbers for axes.

function linear([low, high], [from, to]) {
  const factor = (to - from) / (high - low || 1);
  return (value) => from + (value - low) * factor;
}

// The range of all values that are numbers, with some room around.
function extent(values, room = 0.08) {
  const known = values.filter((value) => value !== null && value !== undefined);
  if (!known.length) return [0, 1];
  const low = Math.min(...known);
  const high = Math.max(...known);
  const space = (high - low) * room || Math.abs(high) * room || 1;
  return [low >= 0 ? Math.max(0, low - space) : low - space, high + space];
}

// About so many round numbers inside of a range.
function ticks([low, high], about = 6) {
  const rough = (high - low) / about;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((candidate) => candidate >= rough);
  const first = Math.ceil(low / step);
  const many = Math.floor(high / step) - first + 1;
  return Array.from({ length: many }, (_, index) => Number(((first + index) * step).toPrecision(12)));
}

// Horizontal lines and labels of an axis of values.
function valueAxis(y, range, left, right) {
  return shape("g", { class: "axis" }, ...ticks(range).flatMap((value) => [
    shape("line", { x1: left, x2: right, y1: y(value), y2: y(value) }),
    shape("text", { x: left - 8, y: y(value) + 4, "text-anchor": "end" }, number(value)),
  ]));
}
