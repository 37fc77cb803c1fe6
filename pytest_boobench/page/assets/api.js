// The server's answers. Every change carries a header of its own and JSON; an error has the server's sentence.

import { signal } from "./store.js";

export const signedIn = signal(true);

export class Refused extends Error {
  constructor(status, answer) {
    super(answer?.error?.message ?? `the server answered with status ${status}`);
    this.status = status;
    this.where = answer?.error?.where ?? null;
    this.answer = answer ?? {};
  }
}

export function get(path, wanted = {}) {
  const asked = new URLSearchParams(Object.entries(wanted).filter(([, value]) => value !== "" && value !== null));
  return ask(asked.size ? `${path}?${asked}` : path, {});
}

export const post = (path, body = {}) => ask(path, change(body));

const change = (body, signal) => ({
  method: "POST",
  headers: { "Content-Type": "application/json", "X-Boobench": "page" },
  body: JSON.stringify(body),
  signal,
});

async function ask(path, init) {
  const response = await reach(path, init);
  return response.status === 204 ? null : response.json();
}

async function reach(path, init) {
  let response;
  try {
    response = await fetch(path, { credentials: "same-origin", ...init });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, { error: { message: "boobench page cannot be reached: is its terminal still open?" } });
  }
  if (response.status === 401 && path !== "/api/login") signedIn.value = false;
  else if (response.ok) signedIn.value = true; // another tab may have signed in: the cookie is the browser's
  if (!response.ok) throw new Refused(response.status, await response.json().catch(() => null));
  return response;
}

// The token stands in the fragment, which no server and no log sees, and leaves the address at once.
export async function signIn(token) {
  await post("/api/login", { token });
  signedIn.value = true;
}

// Yields { event, data } of a POST's answer as they arrive.
export async function* stream(path, body, abort) {
  const response = await reach(path, change(body, abort));
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const parts = (rest + value).replaceAll("\r\n", "\n").split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      const found = readEvent(part);
      if (found) yield found;
    }
  }
}

function readEvent(text) {
  const lines = text.split("\n");
  const field = (name) => lines.filter((line) => line.startsWith(`${name}:`))
    .map((line) => line.slice(name.length + 1).replace(/^ /, ""));
  const data = field("data").join("\n");
  return data ? { event: field("event")[0] ?? "message", data: JSON.parse(data) } : null;
}

const AGAIN_MS = 2000;

// Events of an address, until closed: { open(), lost(), event(name, data) }. Gives back what closes it. A connection that
// broke is made anew and goes on after the last event that was heard; a tab that nobody looks at has none.
export function follow(path, names, heard) {
  let source = null;
  let timer = null;
  let last = "";
  const drop = () => {
    clearTimeout(timer);
    source?.close();
    source = null;
  };
  const open = () => {
    drop();
    source = new EventSource(last ? `${path}?after=${last}` : path);
    source.onopen = heard.open;
    source.onerror = () => {
      drop();
      heard.lost();
      timer = setTimeout(tryAgain, AGAIN_MS);
    };
    for (const name of names) {
      source.addEventListener(name, (event) => {
        last = event.lastEventId || last;
        heard.event(name, JSON.parse(event.data));
      });
    }
  };
  // a stream does not tell why it was refused; an answer does, and shows the way in where the cookie is not known any more
  const tryAgain = () => get("/api/runs").then(open, () => { timer = setTimeout(tryAgain, AGAIN_MS); });
  const look = () => (document.hidden ? drop() : open());
  document.addEventListener("visibilitychange", look);
  if (!document.hidden) open();
  return () => {
    document.removeEventListener("visibilitychange", look);
    drop();
  };
}
