// Active time on a page: hidden time and long pauses do not count.

const IDLE_MS = 30000; // a longer pause is not counted as work
let [active, last, shown] = [0, performance.now(), !document.hidden];

// Returns the milliseconds until now.
export function measure() {
  const now = performance.now();
  if (shown) active += Math.min(now - last, IDLE_MS);
  [last, shown] = [now, !document.hidden];
  return Math.round(active);
}

for (const kind of ["keydown", "pointerdown", "visibilitychange"])
  document.addEventListener(kind, measure, {capture: true});
