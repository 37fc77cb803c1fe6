// The tree of suites, hosts, models and cells as plain data: what is shown of it, and what is selected.

import { isRed } from "./report.js";

// Nodes in order; each knows its parent and the cells below it as a range of `cells`.
export function makeTree(suites) {
  const nodes = [];
  const cells = [];
  const roots = [];
  const add = (parent, kind, name, found, fill) => {
    const node = {
      place: nodes.length, parent, kind, name, level: (parent?.level ?? 0) + 1, index: 0, siblings: null,
      from: cells.length, to: 0,
      id: parent ? `${parent.id}\n${name}` : name, ...found,
    };
    nodes.push(node);
    fill(node);
    node.to = cells.length;
    if (node.to === node.from) return; // nothing of it is selected by the filter
    node.siblings = parent ? parent.below ??= [] : roots;
    node.index = node.siblings.push(node);
  };
  const addCell = (model) => (cell) => add(model, "cell", cell.id, { cell }, () => cells.push(cell));
  for (const suite of suites) {
    add(null, "suite", suite.name, { told: suite.description, path: suite.path }, (top) =>
      suite.hosts.forEach((host) => add(top, "host", host.name, { server: host.kind }, (one) =>
        host.models.forEach((model) => add(one, "model", model.name, {}, (last) =>
          model.cells.filter((cell) => cell.selected).forEach(addCell(last)))))));
  }
  return { nodes: nodes.filter((node) => node.to > node.from), cells };
}

// Lines of the nodes whose ancestors are all open.
export function listLines(tree, open) {
  const lines = [];
  let hidden = 0; // below a closed node of this level
  for (const node of tree.nodes) {
    if (hidden && node.level > hidden) continue;
    hidden = node.kind !== "cell" && !open.has(node.id) ? node.level : 0;
    lines.push(node);
  }
  return lines;
}

export function openSome(tree) {
  const open = new Set(tree.nodes.filter((node) => node.level === 1).map((node) => node.id));
  if (tree.cells.length <= 200) tree.nodes.forEach((node) => node.kind !== "cell" && open.add(node.id));
  return open;
}

// How many of each node's cells are selected, in one pass.
export function countSelected(tree, selected) {
  const before = new Uint32Array(tree.cells.length + 1);
  tree.cells.forEach((cell, place) => { before[place + 1] = before[place] + (selected.has(cell.node_id) ? 1 : 0); });
  return ({ from, to }) => before[to] - before[from];
}

export function countRed(tree) {
  const before = new Uint32Array(tree.cells.length + 1);
  tree.cells.forEach((cell, place) => { before[place + 1] = before[place] + (isRed(cell.last?.outcome) ? 1 : 0); });
  return ({ from, to }) => before[to] - before[from];
}

export const checkOf = (many, { from, to }) => (many === 0 ? "false" : many === to - from ? "true" : "mixed");

// The selection after a click on a node: all of it, or, where all of it was selected, none.
export function toggled(tree, selected, node) {
  const below = tree.cells.slice(node.from, node.to).map((cell) => cell.node_id);
  const next = new Set(selected);
  const all = below.every((id) => next.has(id));
  below.forEach((id) => (all ? next.delete(id) : next.add(id)));
  return next;
}

// { seconds, unknown } of the selected cells, one after another.
export function estimate(tree, selected) {
  const asked = tree.cells.filter((cell) => selected.has(cell.node_id));
  const known = asked.filter((cell) => cell.estimate_s !== null && cell.estimate_s !== undefined);
  return { seconds: known.reduce((sum, cell) => sum + cell.estimate_s, 0), unknown: asked.length - known.length };
}

// Where a key leads from a line: { to } another line, { open } or { close } this one, or null.
export function keyed(key, lines, at, open, page) {
  const node = lines[at];
  const move = (place) => ({ to: Math.min(lines.length - 1, Math.max(0, place)) });
  const parent = () => (node.parent ? move(lines.indexOf(node.parent)) : null);
  const isOpen = open.has(node.id);
  switch (key) {
    case "ArrowDown": return move(at + 1);
    case "ArrowUp": return move(at - 1);
    case "Home": return move(0);
    case "End": return move(lines.length - 1);
    case "PageDown": return move(at + page);
    case "PageUp": return move(at - page);
    case "ArrowRight": return node.kind === "cell" ? null : isOpen ? move(at + 1) : { open: node.id };
    case "ArrowLeft": return node.kind !== "cell" && isOpen ? { close: node.id } : parent();
    case "Enter": return node.kind === "cell" ? { check: node } : isOpen ? { close: node.id } : { open: node.id };
    case " ": return { check: node };
    default: return null;
  }
}

// The next line, from here on and around, whose name begins with a letter.
export function startingWith(letter, lines, at) {
  const wanted = letter.toLowerCase();
  const around = [...lines.slice(at + 1), ...lines.slice(0, at + 1)];
  const found = around.find((node) => node.name.toLowerCase().startsWith(wanted));
  return found ? lines.indexOf(found) : at;
}
