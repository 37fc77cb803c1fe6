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
