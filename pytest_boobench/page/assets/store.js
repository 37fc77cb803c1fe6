// State that outlives a room: signals, and how a component hears of them.

import { useEffect, useState } from "./vendor/htm-preact.js";
import { signal } from "./vendor/signals-core.js";

export { signal };

export function useSignal(source) {
  const [, redraw] = useState(0);
  useEffect(() => {
    let known = source.peek();
    return source.subscribe((value) => {
      if (value !== known) redraw((times) => times + 1);
      known = value;
    });
  }, [source]);
  return source.peek();
}

const same = (value) => value;
export const AS_SET = { pack: (set) => [...set], unpack: (list) => new Set(list) };

// A signal that a reload of the tab does not empty. pack makes plain JSON of its value, unpack the value of it.
export function kept(name, initial, { pack = same, unpack = same } = {}) {
  const key = `boobench-${name}`;
  let found = initial;
  try {
    const stored = JSON.parse(window.sessionStorage.getItem(key));
    if (stored !== null) found = unpack(stored);
  } catch {} // not ours, or no place to keep it: as at first
  const source = signal(found);
  let timer = null;
  const save = () => {
    try {
      window.sessionStorage.setItem(key, JSON.stringify(pack(source.peek())));
    } catch {}
  };
  source.subscribe((value) => {
    clearTimeout(timer);
    if (value !== found) timer = setTimeout(save, 200);
  });
  window.addEventListener("pagehide", save);
  return source;
}

// { value, error, busy } of what a function brings; a newer call makes an older one's answer void.
export function fetched(load) {
  const found = signal({ value: null, error: null, busy: false });
  let calls = 0;
  const refresh = async (...wanted) => {
    const call = ++calls;
    found.value = { ...found.peek(), busy: true };
    try {
      const value = await load(...wanted);
      if (call === calls) found.value = { value, error: null, busy: false };
    } catch (error) {
      if (call === calls) found.value = { value: found.peek().value, error, busy: false };
    }
  };
  return { found, refresh };
}

// Said to screen readers once; nothing is seen of it.
export const said = signal("");

export function say(text) {
  said.value = said.peek() === text ? `${text}\u00a0` : text; // the same twice is said twice
}
