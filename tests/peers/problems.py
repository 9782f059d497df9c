"""Predictions on which definitions agree: no ties, no NaN, no empty class."""

import dataclasses

import numpy as np

KS = (1, 2, 3, 5)


@dataclasses.dataclass(frozen=True)
class Problem:
  """Scores of N examples for K classes.

  Attributes:
    scores: float32 [N, K], no two of a row equal.
    probs: float64 [N, K] in the same order; rows sum to 1.
    labels: int64 [N], each class among them and among the predictions.
  """

  scores: np.ndarray
  probs: np.ndarray
  labels: np.ndarray

  @property
  def num_classes(self) -> int:
    return self.scores.shape[1]

  @property
  def predicted(self) -> np.ndarray:
    return self.scores.argmax(axis=1)

  @property
  def one_hot(self) -> np.ndarray:
    return np.eye(self.num_classes, dtype=np.int64)[self.labels]


def integers() -> Problem:
  """A problem made of integers alone: every version of NumPy makes the same.

  Row i holds (a_i (j + 1) + b_i) mod 101 for j = 0 ... 6, which are different
  numbers as 101 is a prime; probabilities are their cubes over the sum.
  """
  i, j = np.arange(240)[:, None], np.arange(7)[None, :]
  a, b = 1 + (7 * i**2 + 3 * i) % 100, i**3 % 101
  weights = 1 + (a * (j + 1) + b) % 101
  cubes = weights**3
  best_first = np.argsort(-weights, axis=1)
  places = np.array([0, 0, 0, 1, 0, 2, 0, 0, 3, 6])[i[:, 0] % 10]
  return _checked(
    Problem(
      scores=(weights / 8).astype(np.float32),
      probs=cubes / cubes.sum(axis=1, keepdims=True),
      labels=best_first[i[:, 0], places],
    )
  )


def random(seed: int, size: int = 500, num_classes: int = 11) -> Problem:
  """Normal scores, the label's raised; classes of unequal size."""
  rng = np.random.default_rng(seed)
  shares = rng.dirichlet(np.full(num_classes, 3.0))
  labels = rng.choice(num_classes, size, p=shares)
  # So that no class is empty.
  labels[:num_classes] = np.arange(num_classes)
  scores = rng.normal(size=(size, num_classes))
  scores[np.arange(size), labels] += 1.5
  scores = scores.astype(np.float32)
  exps = np.exp(scores.astype(np.float64))
  probs = exps / exps.sum(axis=1, keepdims=True)
  return _checked(Problem(scores, probs, labels))


def _checked(problem: Problem) -> Problem:
  assert np.diff(np.sort(problem.scores, axis=1), axis=1).min() > 0
  classes = range(problem.num_classes)
  assert set(classes) == set(problem.labels) == set(problem.predicted)
  return problem
