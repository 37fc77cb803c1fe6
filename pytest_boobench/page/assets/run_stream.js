// One run as its events tell it. It is kept while the page is open, so that another room loses nothing.

import { follow, get } from "./api.js";
import { isRed } from "./report.js";
import { say, signal } from "./store.js";

const MOST_OUTPUT = 400_000; // characters; the beginning goes first
const followed = new Map();

// A signal of { run, cells (by node id), output, lost, error } of a run.
export function watchRun(id) {
  if (!followed.has(id)) followed.set(id, begin(id));
  return followed.get(id);
}

function begin(id) {
  const seen = signal({ run: null, cells: new Map(), output: "", lost: false, error: null });
  const put = (found) => { seen.value = { ...seen.peek(), ...found }; };
  const pending = { cells: new Map(), output: "", anew: false };
  let planned = false;
  // many events in a frame are drawn once
  const later = () => {
    if (planned) return;
    planned = true;
    const flush = () => {
      planned = false;
      const known = pending.anew ? { cells: [], output: "" } : seen.peek();
      put({
        cells: new Map([...known.cells, ...pending.cells]),
        output: (known.output + pending.output).slice(-MOST_OUTPUT),
      });
      empty(false);
    };
    requestAnimationFrame(flush);
  };
  const empty = (anew) => { // anew: what is told from here on is the whole, and not more of it
    pending.cells.clear();
    pending.output = "";
    pending.anew = anew;
  };
  const hear = {
    open: () => put({ lost: false }),
    lost: () => put({ lost: seen.peek().run?.state !== "ended" }),
    event: (name, data) => {
      if (data.replay) empty(true);
      if (name === "progress") {
        announce(seen.peek().cells.get(data.node_id), data);
        pending.cells.set(data.node_id, data);
        later();
      } else if (name === "output") {
        pending.output += data.text;
        later();
      } else {
        put({ run: { ...seen.peek().run, ...data } });
        if (name === "end") finish();
      }
    },
  };
  const start = () => get(`/api/runs/${encodeURIComponent(id)}`).then((run) => {
    const { cells, ...rest } = run;
    put({ run: rest, cells: new Map(cells.map((cell) => [cell.node_id, cell])), error: null });
    close = follow(`/api/runs/${encodeURIComponent(id)}/events`, ["progress", "output", "run", "end"], hear);
  }, (error) => {
    put({ error });
    if (error.status === 0) setTimeout(start, 2000);
    else followed.delete(id);
  });
  let close = () => {};
  const finish = () => {
    close();
    const { exit_word } = seen.peek().run;
    say(`The run has ended: ${exit_word}`);
  };
  start();
  return seen;
}

function announce(before, cell) {
  if (before?.outcome !== cell.outcome && isRed(cell.outcome)) say(`${cell.cell} on ${cell.host}: ${cell.outcome}`);
}
