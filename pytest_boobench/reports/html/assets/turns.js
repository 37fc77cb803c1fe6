// The turns of a cell's conversations: medians of the newest measurement, and of its baseline.

// null where there are no conversations.
function turnsTable(cell) {
  const tables = SIDES.filter(([name]) => cell.turns?.[name]).map(([name, label]) => {
    const columns = Object.entries(cell.turns[name]);
    const heads = ["turn", ...columns.map(([title]) => title)];
    const rows = columns[0][1].map((_, place) => [String(place + 1), ...columns.map(([, values]) => number(values[place]))]);
    const title = `Turns of the ${label} conversations (medians)`;
    return element("figure", {}, element("figcaption", {}, title), scrolled(title, plainTable(title, heads, rows)));
  });
  return tables.length ? element("div", { class: "near turns" }, ...tables) : null;
}
