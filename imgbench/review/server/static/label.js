// The page on which an image is labeled, and that of feedback.

import {find, listen, queue, report, search, showSaving} from "./main.js";
import {BY_KEY} from "./state.js";
import {measure} from "./timer.js";
import {Tree} from "./tree.js";

const page = JSON.parse(find("#state").textContent);
const onward = page.onward ?? `/label/${page.task}`;
const form = find("#suggestion");
let chosen = null; // class: {class, wnid, name, gloss, guide}
let known = new Map(); // classes of the tree, by number
let tree;

const here = body => body.task === page.task && body.image === page.image;
const waiting = () => queue.list().find(({body}) => here(body));
const fixed = () => page.final || waiting();
let client = waiting()?.body.client; // of the write whose answer is awaited
const send = (path, body) => queue.add(path, {
  client: client = crypto.randomUUID(), task: page.task, image: page.image,
  ...body});

// Draws the class that is selected; what is being saved cannot change.
function draw() {
  showSaving();
  if (form) return;
  const {name = "No class is selected", wnid = "", gloss, guide} = chosen ?? {};
  const [title, code, about, link] = find("#chosen").children;
  title.textContent = name;
  code.textContent = wnid === name ? "" : wnid;
  about.textContent = gloss ?? "";
  link.href = `/guide/${encodeURIComponent(guide)}`;
  link.hidden = !guide;
  for (const button of document.querySelectorAll(".choice button"))
    button.disabled = fixed() || !chosen;
  for (const button of document.querySelectorAll("#found button"))
    button.ariaPressed = `${Number(button.dataset.class) === chosen?.class}`;
}

// Selects a class; false if it is selected, so that Enter confirms it.
function pick(found) {
  if (fixed()) return true;
  if (chosen?.class === found?.class) return false;
  report("");
  chosen = found && (known.get(found.class) ?? found);
  tree?.show(chosen?.class ?? null);
  draw();
  return true;
}

function undo() {
  if (document.activeElement.closest(".choice")) tree?.current.focus();
  pick(null);
}

function confirm() {
  if (page.final) location.assign(onward);
  if (!chosen || fixed()) return;
  report("");
  send("/api/label", {class: chosen.class, ms: measure(),
    external: Boolean(find("#external")?.checked)});
}

async function look() {
  await search(find("#find"), find("#found"), row => {
    const button = document.createElement("button");
    button.dataset.class = row.class;
    button.addEventListener("click", event => {
      if (!pick(row) && !event.detail) confirm(); // by key
    });
    return button;
  });
  draw();
}

// Moves from the search to its results, and among them.
function moveFound(event) {
  const box = find("#find");
  const stops = [box, ...document.querySelectorAll("#found button")];
  const place = stops.indexOf(event.target); // 0: the search
  const step = {ArrowDown: 1, ArrowUp: -1, Enter: !place}[event.key];
  if (!step) return;
  event.preventDefault();
  stops[place + Number(step)]?.focus();
}

const KEYS = {
  "/": () => find("#find").focus(), "+": () => find("#large").showModal(),
  Enter: confirm, u: undo, Escape: undo,
  g: () => find("#chosen .guide:not([hidden])")?.click(),
};

queue.onChange = draw;
queue.onReply = ({body}, reply) => {
  if (body.client === client) client = null;
  if (here(body)) location.assign(reply.next ?? onward);
};
queue.onError = ({body}, status, text) => {
  if (body.client === client) client = null;
  report(`Not saved: ${text}`);
  if (find("#onward")) find("#onward").hidden = status !== 409;
};
// Another tab sent the write of this one, and got the answer: it is the same
// the second time.
addEventListener("storage", ({oldValue, newValue}) => {
  const {path, body} = newValue === null && JSON.parse(oldValue) || {};
  if (client && body?.client === client) queue.add(path, body);
});
// The browser may show a page of a closed part again.
addEventListener("pageshow", event => event.persisted && location.reload());

if (form) {
  for (const [key, state] of BY_KEY.entries())
    KEYS[key] = () => form.querySelector(`[value="${state}"]`).click();
  KEYS.Enter = () => form.requestSubmit();
  form.addEventListener("submit", event => {
    event.preventDefault();
    const {state, problematic, note} = form.elements;
    if (!waiting()) send("/api/label/suggestion", {note: note.value,
      state: Number(state.value) || null, problematic: problematic.value});
  });
  form.querySelector("button").disabled = false;
} else {
  find("#find").addEventListener("input", look);
  find("#lookup").addEventListener("keydown", moveFound);
  fetch("/api/classes").then(reply => reply.json()).then(all => {
    const list = nodes => nodes.flatMap(node => [node, ...list(node.children)]);
    known = new Map(list(all.tree).map(node => [node.class, node]));
    known.delete(null);
    tree = new Tree(find("#tree"), all.tree, pick);
    chosen ??= known.get(waiting()?.body.class ?? page.chosen) ?? null;
    tree.show(chosen?.class ?? null);
    if (document.activeElement === document.body)
      tree.current.focus({preventScroll: true});
    draw();
  }).catch(() => report("The classes did not load. Reload the page."));
}
listen(KEYS);
draw();
