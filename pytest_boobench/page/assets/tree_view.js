// The tree as it is seen: only the lines in view are elements, so that 10,000 cells scroll as ten do.
// The tree has the focus, and names the line that is active: a line out of view needs no element for it.

import { html, useEffect, useMemo, useRef, useState } from "./vendor/htm-preact.js";
import { about, quantity } from "./report.js";
import { checkOf, countRed, countSelected, keyed, listLines, startingWith, toggled } from "./tree.js";
import { Mark } from "./ui.js";

const BEYOND = 8;
const lineHeight = () => (window.matchMedia("(max-width: 720px)").matches ? 52 : 34);

export function TreeView({ tree, open, setOpen, selected, setSelected, spot }) {
  const box = useRef(null);
  const [view, setView] = useState({ top: 0, height: 600 });
  const [active, name] = useState(spot.peek().active);
  const setActive = (id) => {
    name(id);
    spot.value = { ...spot.peek(), active: id };
  };
  const lines = useMemo(() => listLines(tree, open), [tree, open]);
  const many = useMemo(() => countSelected(tree, selected), [tree, selected]);
  const red = useMemo(() => countRed(tree), [tree]);
  const tall = lineHeight();
  const at = Math.max(0, lines.findIndex((node) => node.id === active));
  useEffect(() => {
    box.current.scrollTop = spot.peek().top;
    const look = () => setView({ top: box.current.scrollTop, height: box.current.clientHeight });
    const observer = new ResizeObserver(look);
    observer.observe(box.current);
    return () => observer.disconnect();
  }, []);
  const scroll = ({ target }) => {
    spot.value = { ...spot.peek(), top: target.scrollTop };
    setView({ top: target.scrollTop, height: target.clientHeight });
  };
  const check = (node) => setSelected(toggled(tree, selected, node));
  const turn = (id, wanted) => {
    const next = new Set(open);
    if (wanted) next.add(id);
    else next.delete(id);
    setOpen(next);
  };
  const show = (place) => {
    setActive(lines[place].id);
    const { scrollTop, clientHeight } = box.current;
    const top = place * tall;
    if (top < scrollTop) box.current.scrollTop = top;
    else if (top + tall > scrollTop + clientHeight) box.current.scrollTop = top + tall - clientHeight;
  };
  const press = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !lines.length) return;
    if (event.key === "*") setOpen(new Set(tree.nodes.filter((node) => node.kind !== "cell").map((node) => node.id)));
    else {
      const done = keyed(event.key, lines, at, open, Math.max(1, Math.floor(view.height / tall) - 1));
      if (done === null && !/^[a-z]$/i.test(event.key)) return;
      if (done === null) show(startingWith(event.key, lines, at));
      else if ("to" in done) show(done.to);
      else if (done.check) check(done.check);
      else turn(done.open ?? done.close, "open" in done);
    }
    event.preventDefault();
  };
  const first = Math.max(0, Math.floor(view.top / tall) - BEYOND);
  const last = Math.min(lines.length, Math.ceil((view.top + view.height) / tall) + BEYOND);
  const shown = lines.slice(first, last).map((node, index) => [node, first + index]);
  if (lines.length && (at < first || at >= last)) shown.push([lines[at], at]); // the active line always has its element
  return html`<div class="tree" role="tree" tabindex="0" aria-label="Suites, hosts, models and cells"
      aria-multiselectable="true" aria-activedescendant=${lines.length ? `line${lines[at].place}` : null} ref=${box}
      onKeyDown=${press} onScroll=${scroll}>
    <div class="tree-all" role="none" style=${{ height: `${lines.length * tall}px` }}>
      ${shown.map(([node, place]) => html`<${Line} key=${node.id} node=${node} top=${place * tall} tall=${tall}
        isOpen=${open.has(node.id)} isActive=${place === at} checked=${checkOf(many(node), node)} many=${many(node)}
        red=${red(node)} onCheck=${() => { setActive(node.id); check(node); }}
        onTurn=${() => { setActive(node.id); turn(node.id, !open.has(node.id)); }} />`)}
    </div>
  </div>`;
}

const CHECKED = { true: "☑", false: "☐", mixed: "▣" };

function Line({ node, top, tall, isOpen, isActive, checked, many, red, onCheck, onTurn }) {
  const isCell = node.kind === "cell";
  return html`<div class=${`line ${node.kind}${isActive ? " active" : ""}`} role="treeitem" id=${`line${node.place}`}
      aria-level=${node.level} aria-checked=${checked} aria-expanded=${isCell ? null : String(isOpen)}
      aria-setsize=${node.siblings.length} aria-posinset=${node.index}
      style=${{ transform: `translateY(${top}px)`, height: `${tall}px`, paddingLeft: `${node.level * 1.1 - 0.9}rem` }}>
    <span class="turn" aria-hidden="true" onClick=${isCell ? onCheck : onTurn}>${isCell ? "" : isOpen ? "▾" : "▸"}</span>
    <span class="box" aria-hidden="true" onClick=${onCheck}>${CHECKED[checked]}</span>
    <span class="title" onClick=${isCell ? onCheck : onTurn}>
      <span class="name">${node.name}</span>${!isCell && html`<span class="where"> ${describe(node)}</span>`}
    </span>
    ${isCell ? html`<${Last} cell=${node.cell} />` : html`<span class="counts">
      ${red > 0 && html`<span class="state bad"><span class="sign" aria-hidden="true">▼</span> ${red} red</span>`}
      <span>${many} of ${node.to - node.from}</span></span>`}
  </div>`;
}

const describe = (node) => (node.kind === "suite" ? node.path : node.kind === "host" ? node.server ?? "" : "model");

function Last({ cell }) {
  const { last } = cell;
  const marks = cell.marks ?? [];
  return html`<span class="counts">
    <span>${marks.map((mark) => html`<span class="tag" key=${mark}>${mark}</span> `)}</span>
    <span>${last && html`<${Mark} word=${last.outcome} />`}</span>
    <span class="speed">${last ? quantity(last.decode_tok_s, "tok/s") : ""}</span>
    <span class="about" title=${cell.estimate_s ? "how long it will take, from its history" : null}>
      ${cell.estimate_s ? about(cell.estimate_s, "<", "~") : ""}</span>
  </span>`;
}
