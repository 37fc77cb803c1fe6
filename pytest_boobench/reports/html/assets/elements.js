// Elements made of parts. A string is always text: nothing that a host or a user wrote can become markup.

const SVG = "http://www.w3.org/2000/svg";

function element(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

function shape(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

function button(label, onClick, attributes = {}) {
  const made = element("button", { type: "button", ...attributes }, label);
  made.addEventListener("click", onClick);
  return made;
}

// A table that is built when it is looked at: the numbers behind a chart.
function foldedTable(title, heads, listRows) {
  const fold = element("details", { class: "numbers" }, element("summary", {}, title));
  fold.addEventListener("toggle", () => {
    if (fold.open && !fold.querySelector("table")) fold.append(scrolled(title, plainTable(title, heads, listRows())));
  });
  return fold;
}

function plainTable(title, heads, rows) {
  const head = element("tr", {}, ...heads.map((name) => element("th", { scope: "col" }, name)));
  const lines = rows.map(([first, ...others]) =>
    element("tr", {}, element("th", { scope: "row" }, first), ...others.map((value) => element("td", {}, value))));
  const caption = element("caption", { class: "unseen" }, title);
  return element("table", {}, caption, element("thead", {}, head), element("tbody", {}, ...lines));
}

// Wide content scrolls by itself, by keyboard too.
function scrolled(title, content) {
  return element("div", { class: "scroll", role: "group", "aria-label": title, tabindex: "0" }, content);
}

// Draws into a box as soon as it stands in the page, and whenever its width changes; draw(width) returns the drawing.
function fit(box, draw) {
  let drawn = 0;
  const redraw = () => {
    const width = Math.floor(box.clientWidth);
    if (width > 0 && width !== drawn) box.replaceChildren(draw((drawn = width)));
  };
  queueMicrotask(redraw); // before a page is printed there is no other time
  new ResizeObserver(redraw).observe(box);
  return box;
}

// Calls back once, when the element is about to be seen, or the page is about to be printed.
function whenSeen(target, callback) {
  const observer = new IntersectionObserver((entries) => {
    if (entries.some((entry) => entry.isIntersecting)) start();
  }, { rootMargin: "300px" });
  const start = () => {
    observer.disconnect();
    window.removeEventListener("beforeprint", start);
    callback();
  };
  observer.observe(target);
  window.addEventListener("beforeprint", start);
}
