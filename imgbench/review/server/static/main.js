// Every page: what is saved and what waits, keys, and the search for classes.

import {Queue} from "./queue.js";

export const find = selector => document.querySelector(selector);
const {user, csrf} = document.body.dataset;
export const queue = user ? new Queue(user, csrf) : null;
const FOUND = 8;
const SMALL = 64; // pixels; smaller images show their pixels

let failure = "";

// Shows one line, until the next one replaces it.
export function report(text) {
  failure = text;
  showSaving();
}

export function showSaving() {
  const place = find("#saving");
  const waiting = queue.list().length;
  const changes = waiting === 1 ? "1 change" : `${waiting} changes`;
  const text = queue.stopped || failure ||
    (queue.away && waiting ? `No answer. ${changes} will be sent again.`
      : waiting ? `Saving ${changes}` : "All changes are saved");
  const bad = queue.stopped || failure || (queue.away && waiting);
  if (place.textContent !== text) place.textContent = text;
  place.className = bad ? "bad" : waiting ? "waiting" : "good";
}

// Lists the classes that a box asks for, in elements that `create` returns.
export async function search(box, list, create, most) {
  const query = box.value.trim();
  const reply = query &&
    await fetch(`/search?${new URLSearchParams({q: query})}`);
  if (query !== box.value.trim()) return;
  const found = reply?.ok ? (await reply.json()).classes.slice(0, most) : [];
  const inside = list.contains(document.activeElement);
  list.replaceChildren(...found.map(row => {
    const [item, about] = [create(row), document.createElement("span")];
    about.textContent = `${row.wnid} ${row.gloss}`;
    item.append(row.name, about);
    return item;
  }));
  if (query && reply?.ok && !found.length) list.textContent = "No class";
  if (inside) (list.firstElementChild ?? box).focus();
}

// Runs the functions of keys, but not while the user types, and those of
// buttons with a key. A key that is held counts once, but for `repeated`.
export function listen(keys, repeated = []) {
  addEventListener("keydown", event => {
    const {key, target} = event;
    const typing = target.closest(
      "textarea, select, dialog, input:not([type=radio], [type=checkbox])");
    const button = key === "Enter" && target.closest("a, button, summary");
    if (typing || button || event.ctrlKey || event.metaKey || event.altKey ||
        event.isComposing || event.defaultPrevented ||
        !Object.hasOwn(keys, key)) return;
    event.preventDefault();
    if (!event.repeat || repeated.includes(key)) keys[key]();
  });
  for (const button of document.querySelectorAll("[data-key]"))
    button.addEventListener("click", () => keys[button.dataset.key]());
}

if (find("#search")) {
  const box = find("#search input");
  const list = find("#search div");
  const link = ({wnid}) => Object.assign(document.createElement("a"), {
    href: `/class/${encodeURIComponent(wnid)}`, target: "_blank"});
  box.addEventListener("input", () => search(box, list, link, FOUND));
  find("#search").addEventListener("submit", event => {
    event.preventDefault();
    list.querySelector("a")?.click();
  });
  find("#search").addEventListener("keydown", event => {
    if (event.key !== "Escape") return;
    box.value = "";
    list.replaceChildren();
    box.blur();
  });
}
if (queue) {
  queue.onChange = showSaving;
  queue.onError = (entry, status, text) => report(`Not saved: ${text}`);
  // After the modules of the page have set what runs on answers.
  setTimeout(() => {
    if (!isSecureContext) report("Open this page over HTTPS or on localhost.");
    else queue.send();
    showSaving();
  });
}
for (const image of document.images)
  image.decode().then(() => {
    const {naturalWidth: width, naturalHeight: height} = image;
    image.classList.toggle("small", Math.min(width, height) < SMALL);
  }, () => {});
