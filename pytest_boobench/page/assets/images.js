// Pictures for models that see: read here, sent as data, never by an address.

import { html } from "./vendor/htm-preact.js";
import { Refused } from "./api.js";

const MOST_BYTES = 4_000_000;
const TYPES = ["image/png", "image/jpeg", "image/webp", "image/gif"]; // those that the server takes
export const ACCEPTED = TYPES.join();

export const readImages = (files) => Promise.all([...files].map(readImage));

async function readImage(file) {
  if (!TYPES.includes(file.type)) {
    throw new Refused(0, { error: { message: `${file.name}: ${file.type || "of no known type"}, expected a PNG, JPEG, WebP or GIF picture` } });
  }
  if (file.size > MOST_BYTES) {
    throw new Refused(0, { error: { message: `${file.name}: ${(file.size / 1e6).toFixed(1)} MB, expected 4 MB at most` } });
  }
  return new Promise((done, fail) => {
    const reader = new FileReader();
    reader.onload = () => done(reader.result);
    reader.onerror = () => fail(new Refused(0, { error: { message: `${file.name}: cannot be read` } }));
    reader.readAsDataURL(file);
  });
}

export function Images({ images, onRemove }) {
  return images.length > 0 && html`<ul class="images">${images.map((url, place) => html`<li key=${place}>
    <img src=${url} alt=${`picture ${place + 1} of the prompt`} />
    ${onRemove && html`<button type="button" class="small" aria-label=${`Remove picture ${place + 1}`}
      onClick=${() => onRemove(place)}>Remove</button>`}</li>`)}</ul>`;
}
