// Which cells are shown; the address remembers it, so that a filtered page can be linked to.

const FIELDS = ["text", "state", "host", "model", "suite"];

// prepareFilter(changed): the form and the tiles; changed(isShown) is called whenever other cells are to be shown.
function prepareFilter(changed) {
  const form = document.getElementById("filter");
  addOptions(form);
  form.hidden = false;
  const apply = () => {
    const wanted = Object.fromEntries(FIELDS.map((name) => [name, form.elements[name].value]));
    const shown = new Set(CELLS.filter((cell) => meets(cell, wanted)));
    showCells(shown, form, wanted);
    remember(wanted);
    changed((cell) => shown.has(cell));
  };
  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.addEventListener("reset", () => setTimeout(apply)); // the fields are empty only after the event
  for (const tile of document.querySelectorAll(".tile")) {
    tile.disabled = false;
    tile.addEventListener("click", () => {
      const word = STATES[tile.dataset.state].word;
      form.elements.state.value = form.elements.state.value === word ? "" : word;
      apply();
    });
  }
  window.addEventListener("hashchange", () => { if (recall(form)) apply(); });
  recall(form);
  apply();
  return () => { form.reset(); apply(); };
}

function addOptions(form) {
  const namesOf = (field) => [...new Set(CELLS.map((cell) => cell[field]))].sort();
  const values = {
    state: STATES.map((state) => state.word).filter((word) => CELLS.some((cell) => cell.state.word === word)),
    host: namesOf("host"),
    model: namesOf("model"),
    suite: namesOf("suite"),
  };
  for (const [name, options] of Object.entries(values)) {
    form.elements[name].append(...options.map((option) => element("option", { value: option }, option)));
  }
}

function meets(cell, { text, state, host, model, suite }) {
  if ((state && cell.state.word !== state) || (host && cell.host !== host)
    || (model && cell.model !== model) || (suite && cell.suite !== suite)) return false;
  const said = [cell.name, cell.host, cell.suite, cell.state.word, ...cell.said].join(" ").toLowerCase();
  return text.toLowerCase().split(/\s+/).every((word) => said.includes(word));
}

function showCells(shown, form, wanted) {
  for (const cell of CELLS) {
    rowOf(cell.place).hidden = !shown.has(cell);
    const detail = document.getElementById(`d${cell.place}`);
    if (detail) detail.hidden = !shown.has(cell) || !isOpen(cell);
  }
  for (const tile of document.querySelectorAll(".tile")) {
    tile.setAttribute("aria-pressed", String(STATES[tile.dataset.state].word === wanted.state));
  }
  form.querySelector("output").textContent = shown.size === CELLS.length
    ? count(CELLS.length, "cell") : `${shown.size} of ${count(CELLS.length, "cell")}`;
  document.getElementById("nothing").hidden = shown.size > 0;
}

// #host=rack-1&text=pp512
function remember(wanted) {
  const asked = new URLSearchParams(Object.entries(wanted).filter(([, value]) => value)).toString();
  const known = window.location.hash.slice(1);
  if (asked || known.includes("=")) window.history.replaceState(null, "", `#${asked}`);
}

function recall(form) {
  const said = new URLSearchParams(window.location.hash.slice(1));
  const known = FIELDS.some((name) => said.has(name));
  if (known) FIELDS.forEach((name) => { form.elements[name].value = said.get(name) ?? ""; });
  return known;
}
