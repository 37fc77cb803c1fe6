// The address: #/room/rest?filters. Each room has its own, so that a reload and a link come back to it.

import { signal } from "./store.js";

export const ROOMS = [
  { key: "run", title: "Run" },
  { key: "now", title: "Now" },
  { key: "history", title: "History" },
  { key: "try", title: "Try" },
  { key: "ab", title: "A/B" },
];

export const route = signal(read());

function read() {
  const [path, asked = ""] = window.location.hash.replace(/^#\/?/, "").split("?");
  const [room, ...rest] = path.split("/").map(decode);
  const known = ROOMS.some(({ key }) => key === room);
  return { room: known ? room : "run", rest: known ? rest.join("/") : "", params: new URLSearchParams(asked) };
}

function decode(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

window.addEventListener("hashchange", () => { route.value = read(); });

export const link = (room, rest = "") => `#/${room}${rest ? `/${encodeURIComponent(rest)}` : ""}`;

export function go(room, rest = "") {
  window.location.hash = link(room, rest);
}

// The filters of this room, put into the address without a step in the browser's history.
export function setParams(wanted) {
  const { room, rest } = route.peek();
  const asked = new URLSearchParams(Object.entries(wanted).filter(([, value]) => value)).toString();
  window.history.replaceState(null, "", `${link(room, rest)}${asked ? `?${asked}` : ""}`);
  route.value = read();
}
