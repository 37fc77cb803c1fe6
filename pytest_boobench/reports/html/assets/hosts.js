// Hosts side by side: the same cell on several hosts, as a table with bars.

// Gives back what draws it anew, after other cells are shown.
function compareHosts(section, isShown) {
  const cells = DATA.hosts.flatMap((group) => group.cells.map((place) => CELLS[place]));
  const keys = Object.keys(METRICS).filter((key) => cells.some((cell) => newestValue(cell, key) !== null));
  const options = keys.map((key) => element("option", { value: key }, `${METRICS[key].title}, ${METRICS[key].unit}`));
  const select = element("select", {}, ...options);
  const place = element("div", {});
  const draw = () => place.replaceChildren(hostsTable(select.value, isShown));
  select.addEventListener("change", draw);
  section.replaceChildren(element("label", {}, "Metric ", select), place);
  return draw;
}

function hostsTable(key, isShown) {
  const groups = DATA.hosts
    .map((group) => ({ name: group.name, cells: group.cells.map((place) => CELLS[place]).filter(isShown) }))
    .filter((group) => group.cells.some((cell) => newestValue(cell, key) !== null));
  if (!groups.length) return element("p", { class: "note" }, "No cell is like that.");
  const hosts = [...new Set(groups.flatMap((group) => group.cells.map((cell) => cell.host)))].sort();
  const rows = groups.map((group) => {
    const of = new Map(group.cells.map((cell) => [cell.host, newestValue(cell, key)]));
    const values = hosts.map((host) => of.get(host) ?? null);
    return [group.name, ...values.map((value) => hostEntry(value, values, METRICS[key].better))];
  });
  const title = `${METRICS[key].title}, ${METRICS[key].unit}, by host`;
  return scrolled("Hosts side by side", plainTable(title, ["cell", ...hosts], rows));
}

// A number with its bar, and how far it is from the best of its row.
function hostEntry(value, values, better) {
  if (value === null) return BLANK;
  const known = values.filter((other) => other !== null);
  const most = Math.max(...known);
  const best = better === "higher" ? most : Math.min(...known);
  const note = known.length < 2 ? "" : value === best ? "best" : change(value / best - 1);
  const bar = shape("svg", { class: "bar", viewBox: "0 0 100 6", preserveAspectRatio: "none", "aria-hidden": "true" },
    shape("rect", { width: (100 * value) / (most || 1), height: 6 }));
  return element("span", { class: value === best ? "entry best" : "entry" },
    number(value), " ", element("small", {}, note), bar);
}
