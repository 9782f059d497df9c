// Every page: what is saved and what waits, and the search for classes.

import {Queue} from "./queue.js";

export const find = selector => document.querySelector(selector);
const {user, csrf} = document.body.dataset;
export const queue = user ? new Queue(user, csrf) : null;
const FOUND = 8;

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

async function search(box, list) {
  const query = box.value.trim();
  const reply = query &&
    await fetch(`/search?${new URLSearchParams({q: query})}`);
  if (query !== box.value.trim()) return;
  const found = reply?.ok ? (await reply.json()).classes.slice(0, FOUND) : [];
  list.replaceChildren(...found.map(({wnid, name, gloss}) => {
    const link = document.createElement("a");
    const about = document.createElement("span");
    link.href = `/class/${encodeURIComponent(wnid)}`;
    link.target = "_blank";
    link.textContent = name;
    about.textContent = `${wnid} ${gloss}`;
    link.append(about);
    return link;
  }));
  if (query && reply?.ok && !found.length) list.textContent = "No class";
}

if (queue) {
  const box = find("#search input");
  const list = find("#search div");
  box.addEventListener("input", () => search(box, list));
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
  queue.onChange = showSaving;
  // After the modules of the page have set what runs on answers.
  setTimeout(() => {
    if (!isSecureContext) report("Open this page over HTTPS or on localhost.");
    else queue.send();
    showSaving();
  });
}
