// How the samples lie: the box is p25 to p75 with the median, the whiskers are p10 and p90, each dot is a request.

function sampleCharts(cell) {
  return Object.entries(cell.samples).map(([key, sides]) => {
    const { title, unit } = METRICS[key];
    const shown = SIDES.filter(([name]) => name in sides);
    const values = shown.flatMap(([name]) => [...sides[name].dots, ...sides[name].box.slice(1)]);
    const lanes = shown.map(([name, label]) => ({
      label,
      told: describeBox(sides[name].box, unit),
      draw: (x, y) => [drawSamples(name, sides[name], x, y)],
    }));
    return stripFigure(`${title}, ${unit}`, extent(values, 0.05), lanes,
      foldedTable(`Numbers of ${title}`, ["measurement", "values", "p10", "p25", "median", "p75", "p90"],
        () => shown.map(([name, label]) => [label, ...listBox(sides[name].box)])));
  });
}

function describeBox([many, p10, , median, , p90], unit) {
  return `median ${quantity(median, unit)}, p10 to p90 ${number(p10)} to ${number(p90)}, ${count(many, "value")}`;
}

function listBox([many, ...values]) {
  return [String(many), ...values.map(number)];
}

function drawSamples(name, { box: [, p10, p25, median, p75, p90], dots }, x, y) {
  const spreadOut = (index) => 20 * ((index * 0.618034) % 1) - 10; // so that equal values don't hide each other
  return shape("g", { class: `lane ${name}` },
    ...dots.map((value, index) => shape("circle", { cx: x(value), cy: y + spreadOut(index), r: 2.5 })),
    shape("path", { class: "whisker", d: `M${x(p10)},${y}H${x(p25)}M${x(p75)},${y}H${x(p90)}` }),
    shape("rect", { class: "box", x: x(p25), y: y - 8, width: Math.max(1, x(p75) - x(p25)), height: 16 }),
    shape("path", { class: "median", d: `M${x(median)},${y - 11}V${y + 11}` }));
}
