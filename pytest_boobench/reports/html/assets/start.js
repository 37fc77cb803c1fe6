// The start. What only the script can draw is hidden until now; everything else was there before.

const OPENED = 3;

function start() {
  document.querySelectorAll("[data-drawn]").forEach((part) => { part.hidden = false; });
  CELLS.forEach(prepareRow);
  prepareSorting();
  const hosts = document.querySelector("#hosts .card");
  const lanes = document.querySelector("#lanes .grid");
  let isShown = () => true;
  const asked = (cell) => isShown(cell);
  const redraws = [hosts && compareHosts(hosts, asked), lanes && compareLanes(lanes, asked)].filter(Boolean);
  const showAll = prepareFilter((test) => {
    isShown = test;
    redraws.forEach((redraw) => redraw());
  });
  CELLS.filter((cell) => cell.state.tone === "bad").slice(0, OPENED).forEach((cell) => toggleCell(cell, true));
  const visit = () => {
    const place = /^#c(\d+)$/.exec(window.location.hash)?.[1];
    if (place === undefined || !CELLS[place]) return;
    if (rowOf(place).hidden) showAll();
    visitCell(CELLS[place]);
  };
  window.addEventListener("hashchange", visit);
  visit();
}

if (CELLS.length) start();
