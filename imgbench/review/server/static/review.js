// Pages with rows to vote on: an image, the images of a class, the panel, and
// the history, whose only change is undo. Rows are groups of radio buttons.

import {find, listen, queue, report, showSaving} from "./main.js";
import * as states from "./state.js";
import {measure} from "./timer.js";

const page = JSON.parse(find("#state").textContent);
const images = new Map(page.images_shown.map(
  state => [state.image, states.normalize(state)]));
const only = page.grid ? null : page.images_shown[0]?.image;
const rows = [...document.querySelectorAll("[role=radiogroup]")];
const dialog = find("#problem");
const draft = `imgbench:${document.body.dataset.user}:draft:${only}`;
let current = 0;
let goal = ""; // where to go when all is saved
let declined = false;

const imageOf = row => row.dataset.image;
const classOf = row => Number(row.dataset.class);

function view(image) {
  const waiting = queue.list()
    .filter(({body}) => body.image === image)
    .flatMap(({body}) => body.events);
  return states.applyEvents(images.get(image), waiting);
}

function read(row) {
  const seen = view(imageOf(row)).rows;
  return seen.find(found => found.class === classOf(row)) ?? {};
}

// Draws states; rows that the server no longer lists keep theirs.
function draw() {
  for (const row of rows) {
    const {state, votes} = read(row);
    if (state === undefined) continue;
    if (votes) row.querySelector(".votes").textContent = describe(votes);
    row.dataset.state = state;
    row.querySelector(`[value="${state}"]`).checked = true;
    if (row.querySelector("input:focus")) row.querySelector(":checked").focus();
  }
  if (only && dialog) drawProblem(view(only));
  showSaving();
}

// Returns the votes of others in words: [state, reason] each.
function describe(votes) {
  const names = ["", "wrong", "unclear", "correct", "don’t know"];
  return `Votes: ${votes.map(([state, reason]) =>
    reason || names[state]).join(", ")}`;
}

function drawProblem(state) {
  const {reason, note} = state.problem ?? {};
  const said = state.problem ? `Problematic: ${reason}` : state.asked
    ? "Reviewers disagree whether the image is problematic" : "";
  find("#problem-shown").textContent =
    [said, note ?? state.note, state.votes && describe(state.votes)]
      .filter(Boolean).join(". ");
  find("#proposal").hidden = declined || !states.suggestsProblem(state);
  for (const box of document.querySelectorAll("[name=category]"))
    box.checked = (state.categories ?? []).includes(box.value);
}

// Queues one action: events of one or more images, [image, event].
function act(changes) {
  if (!changes.length || goal) return;
  const ms = measure();
  report("");
  const action = changes.length > 1 ? crypto.randomUUID() : null;
  const grouped = Map.groupBy(changes, ([image]) => image);
  for (const [image, pairs] of grouped) {
    const events = pairs.map(([, event]) => ({
      client: crypto.randomUUID(), kind: page.kind, reason: "", note: "",
      ms, ...event,
    }));
    queue.add("/api/events", {
      campaign: page.campaign, image, action, events});
  }
  draw();
}

const change = (row, state) => [imageOf(row), {target: classOf(row), state}];

function vote(row, state) {
  if (row && read(row).state !== state) act([change(row, state)]);
}

function setAll(chosen, state) {
  act(chosen.filter(row => read(row).state !== state)
    .map(row => change(row, state)));
}

function undo() {
  if (goal) return;
  report("");
  if (!queue.takeBack())
    queue.add("/api/undo", {
      client: crypto.randomUUID(), campaign: page.campaign});
  draw();
}

function select(index, options) {
  if (!rows.length) return;
  current = Math.min(Math.max(index, 0), rows.length - 1);
  rows[current].querySelector(":checked").focus(options);
}

// Moves by rows; among the images of a class, up and down are lines.
function move(step) {
  const top = index => rows[index].offsetTop;
  let index = current + step;
  if (page.grid && Math.abs(step) > 1) {
    index = current;
    const sign = Math.sign(step);
    const left = rows[current].offsetLeft;
    while (rows[index + sign] && (top(index) === top(current) ||
        rows[index].offsetLeft !== left)) index += sign;
  }
  select(index);
}

function leave(url) {
  if (!url || goal) return;
  goal = url;
  follow();
}

function follow() {
  if (goal && !queue.list().length) location.assign(goal);
}

function save() {
  if (!only) return;
  if (page.kind === "vote" && !rows.some(row => row.inert))
    act([[only, {kind: "save", target: states.IMAGE, state: 0}]]);
  leave(page.onward);
}

const reviewUrl = image => image && `/review/${page.campaign}/${image}`;

function showName() {
  const name = images.get(only)?.name;
  const place = find("#name");
  if (place) place.textContent = place.textContent ? "" :
    name ?? "File names are hidden in this campaign";
}

function openProblem(reason = "") {
  if (!dialog || goal) return;
  const kept = JSON.parse(localStorage.getItem(draft) ?? "null");
  const state = view(only);
  const problem = kept ?? state.problem ?? {reason, note: state.note ?? ""};
  const form = dialog.querySelector("form");
  form.elements.reason.value = reason || problem.reason;
  form.elements.note.value = problem.note;
  dialog.showModal();
  (form.querySelector(":checked") ?? form.elements.reason[0]).focus();
}

function closeProblem() {
  localStorage.removeItem(draft);
  dialog.close();
  select(current);
}

function zoom(change) {
  const picture = find("#picture");
  if (!picture) return;
  const width = picture.getBoundingClientRect().width;
  picture.classList.toggle("fit", !change);
  picture.style.width = change ? `${Math.round(width * change)}px` : "";
}

const KEYS = {
  ArrowUp: () => move(page.grid ? -2 : -1), k: () => move(-1),
  ArrowDown: () => move(page.grid ? 2 : 1), j: () => move(1),
  ArrowLeft: () => page.grid ? move(-1) : leave(reviewUrl(page.previous)),
  ArrowRight: () => page.grid ? move(1) : leave(reviewUrl(page.next)),
  a: () => setAll(rows.filter(row => !read(row).state), states.WRONG),
  l: () => setAll(rows.filter(row => read(row).assigned), states.CORRECT),
  p: () => openProblem(find("#proposal")?.hidden ? "" : page.reasons[0]),
  n: showName,
  g: () => rows[current]?.querySelector(".guide")?.click(),
  "/": () => find("#search input").focus(),
  z: undo,
  Enter: save,
  "?": () => find("#keys").showModal(),
  "+": () => zoom(1.5), "-": () => zoom(1 / 1.5), f: () => zoom(0),
};
for (const [key, state] of states.BY_KEY.entries())
  KEYS[key] = () => vote(rows[current], state);

function receive(entry, reply) {
  const {image, state} = reply;
  if (state && images.has(image ?? state.image))
    images.set(state.image, states.normalize(state));
  if (entry.path === "/api/undo") {
    if (!image) report("There is nothing to undo");
    else if (image !== only) leave(page.grid || !only ? location.href : reviewUrl(image));
  }
  draw();
  follow();
}

function fail(entry, status, text) {
  if (status === 409) {
    report("Another reviewer has this image now: " +
      "your last changes on it were not saved. Go on with the next one.");
    for (const row of rows)
      if (imageOf(row) === entry.body.image) row.inert = true;
  } else {
    report(`Not saved: ${text}`);
  }
  goal = "";
  draw();
}

listen(KEYS, [..."jk+-", "ArrowUp", "ArrowDown", "ArrowLeft", "ArrowRight"]);
addEventListener("keydown", ({key, target}) => {
  if (key === "Escape" && target.type === "search") select(current);
});
for (const [index, row] of rows.entries()) {
  row.addEventListener("change", event => {
    current = index;
    vote(row, Number(event.target.value));
  });
  row.addEventListener("focusin", () => current = index);
}
for (const box of document.querySelectorAll("[name=category]"))
  box.addEventListener("change", () => act([[only, {
    kind: "category", target: states.IMAGE, reason: box.value,
    state: box.checked ? states.CORRECT : states.UNREVIEWED}]]));
find("#decline")?.addEventListener("click", () => {
  declined = true;
  draw();
  select(current);
});
if (dialog) {
  const form = dialog.querySelector("form");
  const problem = () => ({
    reason: form.elements.reason.value, note: form.elements.note.value});
  form.addEventListener("input", () =>
    localStorage.setItem(draft, JSON.stringify(problem())));
  dialog.addEventListener("cancel", closeProblem);
  form.addEventListener("submit", event => {
    event.preventDefault();
    const {reason, note} = problem();
    // A note alone abstains; the panel has to say no.
    const no = page.kind === "panel" ? states.WRONG :
      note ? states.DONT_KNOW : states.UNREVIEWED;
    closeProblem();
    act([[only, {target: states.IMAGE, state: reason ? states.CORRECT : no,
      reason, note}]]);
  });
  dialog.addEventListener("keydown", event => {
    if (event.target.type !== "radio") return;
    const choice = form.querySelector(`[data-digit="${CSS.escape(event.key)}"]`);
    choice?.focus();
    choice?.click();
  });
}
queue.onChange = draw;
queue.onReply = receive;
queue.onError = fail;
draw();
const open = rows.findIndex(row => !read(row).state);
select(Math.max(0, open), {preventScroll: true});
if (dialog && localStorage.getItem(draft)) openProblem();
