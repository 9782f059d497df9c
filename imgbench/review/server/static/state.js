// The state of an image, as GET /api/review gives it, and changes of it.

export const UNREVIEWED = 0;
export const WRONG = 1;
export const UNCLEAR = 2;
export const CORRECT = 3;
export const DONT_KNOW = 4;
export const BY_KEY = [UNREVIEWED, CORRECT, WRONG, UNCLEAR, DONT_KNOW];
export const IMAGE = -1; // target of votes on the image as a whole

// Returns a state of the panel in the form of those of reviewers.
export function normalize(state) {
  const {problem} = state;
  if (!problem || !("state" in problem)) return state;
  const {state: vote, votes, note} = problem;
  return {...state, asked: true, votes, note: note ?? "",
    problem: vote === CORRECT ? problem : null};
}

// Returns a state after events that the server does not have yet.
export function applyEvents(state, events) {
  const next = {...state, rows: state.rows.map(row => ({...row}))};
  for (const {kind, target, state: vote, reason, note} of events) {
    if (kind === "category") {
      const others = (next.categories ?? []).filter(name => name !== reason);
      next.categories = vote === UNREVIEWED ? others : [...others, reason];
    } else if (kind === "save") {
      next.saved = true;
    } else if (target === IMAGE) {
      next.problem = vote === CORRECT ? {reason, note} : null;
      next.note = note;
    } else {
      const row = next.rows.find(row => row.class === target);
      if (row) row.state = vote;
    }
  }
  return next;
}

// Returns whether a vote on the label suggests that no accuracy should count
// the image, and nobody said so yet.
export function suggestsProblem(state) {
  const label = state.rows.find(row => row.assigned);
  return [WRONG, UNCLEAR].includes(label?.state) && !state.problem;
}
