// Room 4: one model answers, by the same wire and the same clocks as a measurement.

import { html, useEffect, useRef, useState } from "./vendor/htm-preact.js";
import { Answer } from "./answer.js";
import { post } from "./api.js";
import { Lamps, PickModel, Sampling, firstPair, modelOf, splitPair, useHosts } from "./hosts.js";
import { ACCEPTED, Images, readImages } from "./images.js";
import { quantity } from "./report.js";
import { say, useSignal } from "./store.js";
import { EMPTY, heard, isOver, kept, read } from "./talk.js";
import { Field, Problem } from "./ui.js";

const settings = kept("try", { pair: "", system: "", sampling: {}, max_tokens: 256 });
const turns = kept("turns", [], (all) => all.every(({ answer }) => isOver(answer))); // { id, text, images, answer }
let asked = Math.max(0, ...turns.peek().map(({ id }) => id));
let stopping = null; // of the answer that is written
let atEnd = true; // who has scrolled up reads there, and stays there
window.addEventListener("scroll", () => {
  atEnd = window.innerHeight + window.scrollY > document.documentElement.scrollHeight - 60;
}, { passive: true });

const change = (id, found) => {
  turns.value = turns.peek().map((turn) => (turn.id === id ? { ...turn, answer: found(turn.answer) } : turn));
};

function contentOf({ text, images }) {
  if (!images.length) return text;
  return [...images.map((url) => ({ type: "image_url", image_url: { url } })), { type: "text", text }];
}

// What was said so far; an answer that failed is not part of it.
function listMessages(all) {
  return all.flatMap((turn, place) => {
    const user = { role: "user", content: contentOf(turn) };
    return place === all.length - 1 || !turn.answer.text ? [user] : [user, { role: "assistant", content: turn.answer.text }];
  });
}

async function send(text, images, { wait = false } = {}) {
  const id = ++asked;
  atEnd = true;
  turns.value = [...turns.peek(), { id, text, images, answer: EMPTY }];
  const { pair, ...rest } = settings.peek();
  const abort = new AbortController();
  stopping = abort;
  try {
    await read("/api/try", { ...splitPair(pair), ...rest, messages: listMessages(turns.peek()), wait }, abort.signal, (events) =>
      change(id, (answer) => events.reduce((found, { event, data }) => heard(found, event, data), answer)));
    change(id, (answer) => (isOver(answer) ? answer : { ...answer, state: "failed", message: "The stream ended too early." }));
  } catch (error) {
    change(id, (answer) => (answer.state === "stopped" ? answer : { ...answer, state: "failed", message: error.message }));
  }
  if (stopping === abort) stopping = null;
  const { state, sample } = turns.peek().find((turn) => turn.id === id)?.answer ?? {};
  say(state === "done" ? `The answer is there${sample?.decode_tok_s ? `, ${quantity(sample.decode_tok_s, "tokens a second")}` : ""}` : "No answer");
}

// The server is told, and closes the stream; where it cannot, the connection is cut.
function stop() {
  const { id, answer } = turns.peek().at(-1) ?? {};
  if (!answer || isOver(answer)) return;
  const abort = stopping;
  change(id, (found) => ({ ...found, state: "stopped" }));
  if (!answer.exchange) abort?.abort();
  else post(`/api/try/${encodeURIComponent(answer.exchange)}/stop`).catch(() => abort?.abort());
}

export function TryRoom() {
  const known = useHosts();
  const found = known.value ?? [];
  const wanted = useSignal(settings);
  const all = useSignal(turns);
  const set = (name) => (value) => { settings.value = { ...settings.peek(), [name]: value }; };
  useEffect(() => { if (!wanted.pair && found.length) set("pair")(firstPair(found)); }, [known.value]);
  useEffect(() => {
    if (atEnd && all.length && !isOver(all.at(-1).answer)) window.scrollTo(0, document.documentElement.scrollHeight);
  }, [all]);
  const chosen = modelOf(found, wanted.pair);
  return html`<h1 class="unseen">Try</h1><div class="room split">
    <section class="card settings" aria-labelledby="whom"><h2 id="whom">Who answers</h2>
      <${Problem} error=${known.error} />
      <${PickModel} label="Host and model" value=${wanted.pair} onChange=${set("pair")} found=${found} />
      <${Lamps} found=${found} />
      <${Field} label="System prompt"><textarea rows="3" value=${wanted.system}
        onInput=${(event) => set("system")(event.target.value)}></textarea><//>
      <${Field} label="Most tokens of an answer"><input type="number" min="1" step="1" value=${wanted.max_tokens}
        onInput=${(event) => set("max_tokens")(Number(event.target.value))} /><//>
      <details open=${window.innerWidth > 1000}><summary>Sampling</summary>
        <${Sampling} values=${wanted.sampling} onChange=${set("sampling")} /></details>
    </section>
    <section class="card talk" aria-labelledby="said"><div class="row"><h2 id="said">What is said</h2>
        <button type="button" class="small" disabled=${!all.length} onClick=${() => { stop(); turns.value = []; }}>Begin anew</button></div>
      ${all.length === 0 && html`<p class="empty">Each answer comes with its times, which are those that a sample would hold.
        Nothing is asked while a measurement runs on the host.</p>`}
      <ol class="turns">${all.map((turn, place) => html`<${Turn} key=${turn.id} turn=${turn} place=${place} />`)}</ol>
      <${Composer} ready=${Boolean(wanted.pair)} sees=${chosen?.vision ?? null} busy=${all.length > 0 && !isOver(all.at(-1).answer)} />
    </section>
  </div>`;
}

// Everything after an edited turn is forgotten, and the turn asked again.
function again(place, text, options) {
  const { images } = turns.peek()[place];
  turns.value = turns.peek().slice(0, place);
  send(text, images, options);
}

function Turn({ turn, place }) {
  const [edited, setEdited] = useState(null);
  const over = isOver(turn.answer);
  const resend = (event) => {
    event.preventDefault();
    setEdited(null);
    again(place, edited);
  };
  return html`<li class="turn">
    <div class="asked">${edited === null ? html`<div class="told">${turn.text}</div><${Images} images=${turn.images} />
        <button type="button" class="small" disabled=${!over} onClick=${() => setEdited(turn.text)}>Edit</button>`
      : html`<form onSubmit=${resend}><${Field} label="Edit the prompt"><textarea rows="3" value=${edited}
          onInput=${(event) => setEdited(event.target.value)}></textarea><//>
        <p class="row"><button type="submit" class="main">Ask again</button>
          <button type="button" onClick=${() => setEdited(null)}>Cancel</button></p></form>`}</div>
    <${Answer} answer=${turn.answer}>
      ${over && html`<p class="row"><button type="button" class="small" onClick=${() => again(place, turn.text)}>Ask again</button>
        ${turn.answer.state === "refused" && html`<button type="button" class="small"
          onClick=${() => again(place, turn.text, { wait: true })}>Ask when the host is free</button>`}</p>`}
    <//></li>`;
}

function Composer({ ready, sees, busy }) {
  const [text, setText] = useState("");
  const [images, setImages] = useState([]);
  const [error, setError] = useState(null);
  const box = useRef(null);
  const able = ready && !busy && text.trim() !== "";
  const submit = (event) => {
    event.preventDefault();
    if (!able) return;
    send(text, images);
    setText("");
    setImages([]);
    box.current.focus();
  };
  const press = (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) submit(event);
    if (event.key === "Escape") stop();
  };
  const add = (event) => readImages(event.target.files).then((found) => { setImages([...images, ...found]); setError(null); }, setError);
  return html`<form class="composer" onSubmit=${submit}>
    <${Field} label="Prompt" wide><textarea data-first rows="3" ref=${box} value=${text} onKeyDown=${press}
      onInput=${(event) => setText(event.target.value)}></textarea><//>
    ${sees !== false && html`<${Field} label="Images" hint=${sees === null ? "the host does not say whether this model sees" : null}><input type="file" accept=${ACCEPTED} multiple onChange=${add} /><//>
      <${Images} images=${images} onRemove=${(place) => setImages(images.filter((_, at) => at !== place))} />`}
    <${Problem} error=${error} />
    <p class="row"><button type="submit" class="main" disabled=${!able}>Send</button>
      <button type="button" disabled=${!busy} onClick=${stop}>Stop</button></p>
  </form>`;
}
