"""The protocol of evaluators, and the compiled pass that they share."""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
import dataclasses
import functools
from typing import Any
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

from imgbench import errors
from imgbench import parallel
from imgbench.data import source
from imgbench.evaluators import splits
from imgbench.metrics import counts as counts_lib
from imgbench.metrics import measurement
from imgbench.metrics import outcomes as outcomes_lib
from imgbench.metrics import reconstruction
from imgbench.metrics import specs

# (variables, images uint8 [B, H, W, C]) -> logits float32 [B, K]
PredictFn = Callable[[Mapping[str, Any], jax.Array], jax.Array]
# Variables of the model -> variables for a PredictFn
Fold = Callable[[Mapping[str, Any]], Mapping[str, Any]]
MetricKey = tuple[str, str]  # (subset, metric)
# Clause of definitions for `source.Info.synthetic`.
SYNTHETIC = "the images are synthetic"
_IN_FLIGHT = 4  # batches


class EvaluationStopped(Exception):
  """The run is asked to stop, so the pass was not finished."""


@dataclasses.dataclass(frozen=True)
class Reconstruction:
  """Errors of N reconstructed images, and some of the images.

  Attributes:
    errors: NumPy arrays [N].
    kinds: "normal" and "abnormal" -> bool [N]; empty: not measured.
    shown: int64 [S], which images follow.
    images: uint8 [S, H, W, C], inputs.
    pictures: uint8 [S, H, W, C], their reconstructions.
  """

  errors: reconstruction.ReconstructionErrors
  kinds: Mapping[str, np.ndarray]
  shown: np.ndarray
  images: np.ndarray
  pictures: np.ndarray


@dataclasses.dataclass(frozen=True)
class Evaluation:
  """The result of one pass over a split.

  Attributes:
    info: of the split.
    measurements: (subset, metric) -> measurement.
    outcomes: per example, NumPy arrays [N]; None: no classes are predicted.
    counts: by original class, NumPy arrays [K]; None as `outcomes`.
    probs: float32 [N, K] softmax of the logits, NaN in rows that are not
      finite; None: not kept.
    alpha: intervals cover 1 - alpha.
    allowed: bool [K], the classes that could be predicted; None: all.
    restricted: pairs of another such mask and the counts under it.
    rows: integer [N], the examples of the evaluator that were evaluated; None:
      all.
    subsets: name -> bool [K], of the measurements besides "all".
    reconstruction: None: no images are reconstructed.
  """

  info: source.Info
  measurements: Mapping[MetricKey, measurement.Measurement]
  outcomes: outcomes_lib.Outcomes | None = None
  counts: counts_lib.Counts | None = None
  probs: np.ndarray | None = None
  alpha: float = 0.05
  allowed: np.ndarray | None = None
  restricted: Sequence[tuple[np.ndarray, counts_lib.Counts]] = ()
  rows: np.ndarray | None = None
  subsets: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
  reconstruction: Reconstruction | None = None

  def select(self, examples: source.Examples) -> source.Examples:
    """Returns those of the evaluator's examples that were evaluated."""
    return examples if self.rows is None else examples.take(self.rows)

  def counts_under(self, allowed: np.ndarray) -> counts_lib.Counts:
    """Returns the counts of `restricted` under a mask bool [K].

    Raises:
      ValueError: no counts under this mask.
    """
    for mask, counts in self.restricted:
      if np.array_equal(mask, allowed):
        return counts
    raise ValueError(
      f"{self.info.key}: expected counts of predictions among the"
      f" {int(allowed.sum()):,} allowed classes, got those of"
      f" {len(self.restricted)} other masks"
    )


def describe_restriction(allowed: np.ndarray) -> str:
  """Returns the clause of definitions for a mask bool [K]."""
  return f"only the {int(allowed.sum()):,} classes of the set are predicted"


@dataclasses.dataclass(frozen=True)
class Request:
  """A request to a pass: what to measure with one set of variables.

  Attributes:
    variables: of the model.
    keep_probs: whether to keep the probabilities of all classes.
    allowed: bool [K], the classes that may be predicted; None: all.
    compared_masks: like `allowed`; the logits are counted under each too.
  """

  variables: Mapping[str, Any]
  keep_probs: bool = False
  allowed: np.ndarray | None = None
  compared_masks: Sequence[np.ndarray] = ()


@dataclasses.dataclass(frozen=True)
class Result:
  """The answer of a pass to a request, NumPy arrays; see `Evaluation`.

  Attributes:
    example_values: [N] by metric, see `specs.compute_example_values`.
  """

  counts: counts_lib.Counts
  outcomes: outcomes_lib.Outcomes
  probs: np.ndarray | None
  restricted: Sequence[tuple[np.ndarray, counts_lib.Counts]]
  rows: np.ndarray | None
  example_values: Mapping[str, np.ndarray]


class Evaluator(Protocol):
  """Evaluates a model on one split through a pass that others may share."""

  info: source.Info
  examples: source.Examples
  parameters: str  # "raw", or "ema": their moving average
  # indices [n] -> [n, H, W, C]; None without images
  images: Callable[[np.ndarray], np.ndarray] | None
  split: splits.Split
  compiled_pass: "CompiledPass"

  def build_request(self, variables: Mapping[str, Any]) -> Request:
    """Returns the request to the pass."""

  def summarize(self, result: Result) -> Evaluation:
    """Returns the evaluation from the result of the pass."""


def run(
  evaluators: Mapping[str, Evaluator],
  variables: Mapping[str, Mapping[str, Any]],
  should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, Evaluation]:
  """Returns evaluations by alias.

  Evaluators of the same split, such as those of raw and of averaged
  parameters, share one pass: each image is decoded and moved once.

  Args:
    evaluators: by alias.
    variables: of the model, by `Evaluator.parameters`.
    should_stop: called before each batch.

  Raises:
    EvaluationStopped: as soon as `should_stop` is true.
  """
  shared: dict[tuple[int, int], dict[str, Evaluator]] = {}
  for alias, evaluator in evaluators.items():
    place = id(evaluator.compiled_pass), id(evaluator.split)
    shared.setdefault(place, {})[alias] = evaluator
  found = {}
  for together in shared.values():
    requests = [
      e.build_request(variables[e.parameters]) for e in together.values()
    ]
    first = next(iter(together.values()))
    results = first.compiled_pass(first.split, requests, should_stop)
    for (alias, evaluator), result in zip(
      together.items(), results, strict=True
    ):
      found[alias] = evaluator.summarize(result)
  return {alias: found[alias] for alias in evaluators}


class CompiledPass:
  """Passes over a split: every example exactly once.

  The step is compiled once per batch shape and shared by all splits.

  Attributes:
    ranked: see the argument.

  Args:
    predict_fn: of the model.
    strategy: devices and shardings.
    batch_size: rounded up to a multiple of the devices.
    num_classes: K.
    ks: top-k hits are counted for each k.
    fold: applied to the variables of each request, once per pass.
    ranked: 0, or the number k of classes that `predict_fn` ranks instead of
      logits: int32 [B, k], the best first; see `outcomes.from_ranking`.
  """

  def __init__(
    self,
    predict_fn: PredictFn,
    strategy: parallel.Strategy,
    batch_size: int,
    num_classes: int,
    ks: Sequence[int] = (1, outcomes_lib.TOP),
    fold: Fold = lambda variables: variables,
    ranked: int = 0,
  ):
    if batch_size < 1:
      raise errors.InputError("evaluation.batch_size", "at least 1", batch_size)
    self._batch_size = strategy.round_up(batch_size)
    self._strategy = strategy
    self._fold = fold
    self.ranked = ranked
    known = ranked if 0 < ranked < num_classes else outcomes_lib.TOP
    set_ks = [k for k in (1, outcomes_lib.TOP) if k <= known]
    # Wrong k are rejected here, before data are read.
    self._empty = lambda: counts_lib.empty(num_classes, ks, set_ks)
    self._empty()
    view = strategy.view
    measure, restrict = outcomes_lib.outcomes, _restrict
    if ranked:
      measure, restrict = _measure_ranking(num_classes), _restrict_ranking

    def eval_step(keep_probs, variables, batch, mask, masks, counts):
      logits = predict_fn(variables, batch.image)
      under = [restrict(logits, allowed) for allowed in masks]
      outcomes_of = view.by_rows(measure)
      outcomes = [
        outcomes_of(scores, batch.label, batch.label_codes) for scores in under
      ]
      of_batch = tuple(
        counts_lib.update(
          self._empty(),
          one,
          batch.label,
          mask,
          left_out=batch.left_out,
          in_imagenet_m=batch.in_imagenet_m,
        )
        for one in outcomes
      )
      counts = tuple(map(counts_lib.merge, counts, view.sum(of_batch)))
      probs = outcomes_lib.probabilities(under[0]) if keep_probs else None
      values = {}
      if not ranked:
        values = specs.compute_example_values(under[0], batch.label)
      return counts, outcomes[0], (probs, values)

    self._eval_steps = {
      keep_probs: strategy.spread(
        functools.partial(eval_step, keep_probs),
        (parallel.STATE, *[parallel.BATCH] * 2, *[parallel.REPLICATED] * 2),
        (parallel.REPLICATED, parallel.BATCH, parallel.BATCH),
        donate=(4,),
      )
      for keep_probs in (False, True)
    }

  def eval_step(self, keep_probs: bool = False) -> Callable:
    """Returns the compiled step of one batch, for benchmarks.

    Returns:
      (variables, batch, mask, masks, counts) -> (counts, outcomes, others),
      with one of `masks` and of `counts` for each mask of classes; the memory
      of `counts` is reused. Others are what is kept of examples besides: probs
      and values of metrics.
    """
    return self._eval_steps[keep_probs]

  def empty_counts(self) -> counts_lib.Counts:
    """Returns counts of no example, to which `eval_step` adds."""
    return self._empty()

  def __call__(
    self,
    split: splits.Split,
    requests: Sequence[Request],
    should_stop: Callable[[], bool] = lambda: False,
  ) -> list[Result]:
    """Returns a result for each request, all from the same batches.

    Args:
      split: N examples.
      requests: one or more.
      should_stop: called before each batch.

    Raises:
      EvaluationStopped: as soon as `should_stop` is true.
    """
    measuring = [self._begin(request) for request in requests]
    batches = split.batches(self._batch_size)
    try:
      for batch, mask in batches:
        if should_stop():
          raise EvaluationStopped
        for one in measuring:
          one.add(batch, mask)
    finally:
      batches.close()
    return [one.result(split) for one in measuring]

  def _begin(self, request: Request) -> "_Measuring":
    masks = (request.allowed, *request.compared_masks)
    return _Measuring(
      dataclasses.replace(request, variables=self._fold(request.variables)),
      self._eval_steps[request.keep_probs],
      self._strategy.replicate(masks),
      self._strategy.replicate(tuple(self._empty() for _ in masks)),
      self._strategy.fetch_rows,
    )


class _Measuring:
  """The state of one request during a pass.

  Args:
    request: to measure.
    eval_step: compiled.
    masks: of the request, on the devices, that of the evaluation first.
    counts: empty counts, for each of the masks.
    fetch_rows: of the strategy.
  """

  def __init__(self, request: Request, eval_step, masks, counts, fetch_rows):
    self._request = request
    self._eval_step = eval_step
    self._masks = masks
    self._counts = counts
    self._fetch_rows = fetch_rows
    self._kept: list[Any] = []

  def add(self, batch, mask) -> None:
    """Measures a batch."""
    self._counts, *of_batch = self._eval_step(
      self._request.variables, batch, mask, self._masks, self._counts
    )
    self._kept.append((*of_batch, mask))
    limit_dispatch(self._kept)

  def result(self, split: splits.Split) -> Result:
    """Fetches the result.

    Raises:
      RuntimeError: examples are missing.
      InputError: no example of the split is whole.
    """
    counts, *others = jax.device_get(self._counts)
    kept = self._fetch_rows(self._kept)
    outcomes, (probs, values), mask = jax.tree.map(
      lambda *parts: np.concatenate(parts), *kept
    )
    rows, num_examples = np.flatnonzero(mask), len(split.examples)
    wanted = len(rows) if split.skips_bad else num_examples
    seen = int(counts.count.sum())
    if seen != wanted or len(rows) != wanted or len(mask) < num_examples:
      raise RuntimeError(
        f"counted {seen} of {wanted} examples; the label of"
        f" {counts.outside} is not a class"
      )
    expected = "at least one example that is whole"
    errors.check(seen > 0, split.info.key, expected, seen)
    outcomes, probs, values = jax.tree.map(
      lambda x: x[rows], (outcomes, probs, values)
    )
    compared = zip(self._request.compared_masks, others, strict=True)
    return Result(
      counts,
      outcomes,
      probs,
      tuple(compared),
      rows if seen < num_examples else None,
      values,
    )


def limit_dispatch(results: Sequence[Any]) -> None:
  """Blocks until all but the last results of batches are computed.

  XLA's CPU devices can wait for each other forever if more than 32 steps are
  dispatched: one that waits for a place holds a thread that a collective of an
  earlier step needs.
  """
  if len(results) > _IN_FLIGHT:
    jax.block_until_ready(results[-1 - _IN_FLIGHT])


def _restrict(logits: jax.Array, allowed: jax.Array | None) -> jax.Array:
  """Returns logits [B, K], -inf where a mask bool [K] is false."""
  if allowed is None:
    return logits
  return jnp.where(allowed[None, :], logits, -jnp.inf)


def _measure_ranking(num_classes: int) -> Callable:
  """Returns `outcomes.from_ranking` with the arguments of `outcomes`."""
  return lambda ranking, labels, label_codes: outcomes_lib.from_ranking(
    ranking, labels, num_classes, label_codes
  )


def _restrict_ranking(
  ranking: jax.Array, allowed: jax.Array | None
) -> jax.Array:
  """Returns a ranking [B, k] of the classes that a mask bool [K] allows."""
  if allowed is None:
    return ranking
  kept = (ranking >= 0) & allowed[jnp.maximum(ranking, 0)]
  order = jnp.argsort(~kept, axis=1, stable=True)
  kept, ranking = (jnp.take_along_axis(x, order, 1) for x in (kept, ranking))
  return jnp.where(kept, ranking, outcomes_lib.NO_PREDICTION)
