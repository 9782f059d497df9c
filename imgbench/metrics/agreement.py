"""Agreement of raters who choose one of several categories; host, float64.

`votes` are integers [N, K]: of N questions for K categories. Questions with
fewer than two votes do not count. Values are at most 1, None if undefined:
without questions, and kappas also if all votes are for one category.
"""

import numpy as np

MISSING = -1


def count_votes(answers: np.ndarray, num_categories: int) -> np.ndarray:
  """Returns votes of integers [N, R] in [0, K), or MISSING, of R raters."""
  categories = range(num_categories)
  return np.stack([(answers == k).sum(axis=1) for k in categories], axis=1)


def cohen_kappa(a: np.ndarray, b: np.ndarray) -> float | None:
  """Returns Cohen's kappa of two raters on the questions that both answered.

  Args:
    a, b: integer [N], answers of each, or MISSING.

  Source: Cohen 1960.
  """
  both = (a != MISSING) & (b != MISSING)
  if not both.any():
    return None
  a, b = a[both], b[both]
  categories = np.union1d(a, b)[:, None]
  expected = np.dot(*((x == categories).mean(axis=1) for x in (a, b)))
  return _correct_for_chance((a == b).mean(), expected)


def fleiss_kappa(votes: np.ndarray) -> float | None:
  """Returns Fleiss' kappa.

  With different numbers of votes, the observed agreement is the mean over
  questions and the expected one is of all votes. Source: Fleiss 1971.
  """
  votes = votes[votes.sum(axis=1) >= 2].astype(np.float64)
  if not len(votes):
    return None
  n = votes.sum(axis=1)
  observed = ((votes * (votes - 1)).sum(axis=1) / (n * (n - 1))).mean()
  expected = ((votes.sum(axis=0) / votes.sum()) ** 2).sum()
  return _correct_for_chance(observed, expected)


def majority_shares(votes: np.ndarray) -> tuple[float | None, float | None]:
  """Returns the shares of questions with one answer, and without a majority.

  A majority is more than half of the votes of a question.
  """
  votes = votes[votes.sum(axis=1) >= 2]
  if not len(votes):
    return None, None
  most, n = votes.max(axis=1), votes.sum(axis=1)
  return float((most == n).mean()), float((2 * most <= n).mean())


def _correct_for_chance(observed: float, expected: float) -> float | None:
  one = expected >= 1
  return None if one else float((observed - expected) / (1 - expected))
