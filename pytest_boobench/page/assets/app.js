// The page: sign-in, five rooms, the keys of all of them.

import { html, render, useEffect, useState } from "./vendor/htm-preact.js";
import { AbRoom } from "./ab_room.js";
import { get, signIn, signedIn } from "./api.js";
import { HistoryRoom } from "./history_room.js";
import { listen, shortcuts } from "./keys.js";
import { NowRoom } from "./now_room.js";
import { ROOMS, link, route } from "./route.js";
import { RunRoom } from "./run_room.js";
import { fetched, said, useSignal } from "./store.js";
import { TryRoom } from "./try_room.js";
import { Check, Dialog, Problem } from "./ui.js";

const SHOWN = { run: RunRoom, now: NowRoom, history: HistoryRoom, try: TryRoom, ab: AbRoom };
const state = fetched(() => get("/api/state"));

function App() {
  const { room } = useSignal(route);
  const known = useSignal(state.found);
  const inside = useSignal(signedIn);
  const [helps, setHelps] = useState(false);
  useEffect(() => listen(() => setHelps(true)), []);
  useEffect(() => {
    if (inside) state.refresh();
    document.title = `${ROOMS.find(({ key }) => key === room).title} – boobench`;
  }, [room, inside]);
  const Room = SHOWN[room];
  return html`
    <a class="skip" href="#room" onClick=${skip}>Skip to the room</a>
    <header class="top">
      <p class="brand">boobench</p>
      <nav aria-label="Rooms">${ROOMS.map(({ key, title }, place) => html`
        <a key=${key} href=${link(key)} aria-current=${key === room ? "page" : null} aria-keyshortcuts=${place + 1}
          title=${`Key ${place + 1}`}>${title}</a>`)}
      </nav>
      <span class="where">${known.value?.rootdir ?? ""}</span>
      <button type="button" class="small" aria-keyshortcuts="?" onClick=${() => setHelps(true)}>Keys <kbd>?</kbd></button>
    </header>
    <main id="room" tabindex="-1">
      ${inside ? html`<${Problem} error=${known.error} /><${Room} key=${room} state=${known.value} />` : html`<${SignIn} />`}
    </main>
    <div class="unseen" role="status" aria-live="polite"><${Said} /></div>
    ${helps && html`<${Keys} onClose=${() => setHelps(false)} />`}`;
}

function skip(event) {
  event.preventDefault(); // the address is the room's
  document.getElementById("room").focus();
}

function Said() {
  return useSignal(said);
}

function SignIn() {
  const [token, setToken] = useState("");
  const [error, setError] = useState(null);
  useEffect(() => { // another tab of this browser may have signed in meanwhile
    window.addEventListener("focus", state.refresh);
    return () => window.removeEventListener("focus", state.refresh);
  }, []);
  const enter = async (event) => {
    event.preventDefault();
    await signIn(token.trim()).catch(setError);
  };
  return html`<section class="card narrow"><h1>Not signed in</h1>
    <p>Open the address that <code>boobench page</code> printed in its terminal, or put its token here.</p>
    <form class="row" onSubmit=${enter}>
      <label class="field"><span class="label">Token</span>
        <input type="password" autocomplete="off" value=${token} onInput=${(event) => setToken(event.target.value)} />
      </label>
      <button type="submit" class="main">Sign in</button>
    </form>
    <${Problem} error=${error} /></section>`;
}

function Keys({ onClose }) {
  const on = useSignal(shortcuts.on);
  return html`<${Dialog} title="Keys" onClose=${onClose}>
    <dl class="keys">${shortcuts.list.map(([keys, what]) => html`
      <div key=${what}><dt>${keys.map((key) => html`<kbd key=${key}>${key}</kbd> `)}</dt><dd>${what}</dd></div>`)}</dl>
    <${Check} label="Single keys work outside of fields" checked=${on} onChange=${shortcuts.set} />
    <p class="row"><button type="button" class="main" onClick=${onClose}>Close</button></p>
  <//>`;
}

async function start() {
  const token = /^#token=(.+)$/.exec(window.location.hash)?.[1];
  if (token !== undefined) {
    window.location.replace("#/run");
    await signIn(decodeURIComponent(token)).catch(() => {}); // used up, but the cookie may be there: /api/state tells
  }
  render(html`<${App} />`, document.getElementById("app"));
}

start();
