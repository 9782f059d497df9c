// Accuracies that follow the reviews: asks for changes, and shows them.

import {find} from "./main.js";

const WAIT_MS = 2000;

async function update() {
  const place = find("#live");
  const query = new URLSearchParams(location.search);
  query.set("known", place.dataset.version);
  const reply = await fetch(`/api/metrics?${query}`);
  if (!reply.ok) throw new Error();
  const {version} = await reply.json();
  if (version === place.dataset.version) return;
  const page = await fetch(location.href);
  if (!page.ok) throw new Error();
  const parsed = new DOMParser().parseFromString(await page.text(), "text/html");
  const rows = root => [...root.querySelectorAll("#models tbody tr")];
  const before = new Map(
    rows(document).map(row => [row.cells[0].textContent, row]));
  for (const row of rows(parsed)) {
    const old = before.get(row.cells[0].textContent);
    for (const [index, cell] of [...row.cells].entries()) {
      const was = old?.cells[index]?.querySelector("b")?.textContent;
      const is = cell.querySelector("b")?.textContent;
      if (old && was !== is) cell.classList.add("changed");
    }
  }
  find("#models tbody").replaceWith(parsed.querySelector("#models tbody"));
  place.dataset.version = parsed.querySelector("#live").dataset.version;
}

async function watch() {
  try {
    if (!document.hidden) await update();
    find("#live").textContent = "Follows the reviews";
  } catch {
    find("#live").textContent = "No answer. Numbers may be old.";
  }
  setTimeout(watch, WAIT_MS);
}

watch();
