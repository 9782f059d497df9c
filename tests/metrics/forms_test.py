"""Arrays as other tools write them give the same numbers everywhere."""

import dataclasses
import inspect

import jax
import numpy as np
import pytest

from imgbench import errors
from imgbench.metrics import calibration
from imgbench.metrics import confusion
from imgbench.metrics import counts
from imgbench.metrics import curves
from imgbench.metrics import drops
from imgbench.metrics import intervals
from imgbench.metrics import outcomes
from imgbench.metrics import paired
from imgbench.metrics import ratios
from imgbench.metrics import reconstruction
from imgbench.metrics import stream
from imgbench.metrics import summary
from imgbench.metrics import topk
from tests import raising

N, K = 24, 7
_RNG = np.random.default_rng(0)


def draw(*shape):
  """Returns numbers in [0, 1) that float16 holds."""
  return (_RNG.integers(0, 256, shape) / 256).astype(np.float32)


def draw_probabilities():
  cuts = np.sort(_RNG.integers(0, 257, (N, K - 1)), axis=1) / 256
  edges = np.pad(cuts, ((0, 0), (1, 1)), constant_values=(0, 1))
  return np.diff(edges, axis=1).astype(np.float32)


def draw_flags():
  return _RNG.random(N) < 0.6


LOGITS = draw(N, K)
ARRAYS = {
  "logits": LOGITS,
  "probs": draw_probabilities(),
  "labels": np.append(np.arange(K), _RNG.integers(0, K, N - K)),
  "ranking": np.argsort(-LOGITS, axis=1, kind="stable")[:, :5],
  "predicted": LOGITS.argmax(axis=1),
  "codes": _RNG.integers(0, 4, (N, K)).astype(np.int8),
  "scores": draw(N),
  "hit": draw_flags(),
  "other_hit": draw_flags(),
  "positive": draw_flags(),
  "mask": draw_flags(),
  "left_out": draw_flags(),
  "images": draw(N, 3, 2, 1),
  "rebuilt": draw(N, 3, 2, 1),
  "matrix": _RNG.integers(0, 9, (K, K)),
  "correct": np.arange(K),
  "count": np.arange(K) + 9,
  "masks": np.tri(K, dtype=bool),
}


def update(logits, labels, codes, mask, left_out):
  found = outcomes.outcomes(logits, labels, codes)
  empty = counts.empty(K)
  return counts.update(empty, found, labels, mask, left_out=left_out)


def add_to_stream(logits, labels, codes, mask, left_out):
  whole = stream.Stream(K)
  whole.add(logits, labels, mask=mask, label_codes=codes, left_out=left_out)
  return whole.result()


def summarize(logits, labels, codes, left_out, masks, probs):
  found = outcomes.outcomes(LOGITS, ARRAYS["labels"], ARRAYS["codes"])
  every = np.ones(N, bool)
  summed = counts.update(
    counts.empty(K),
    found,
    ARRAYS["labels"],
    every,
    left_out=ARRAYS["left_out"],
  )
  rows = summary.summarize(
    *jax.device_get((summed, found)),
    labels,
    subsets={"some": masks[2]},
    label_set=summary.REVIEWED,
    left_out=left_out,
    probs=probs,
  )
  return [row.value for row in rows.values()]


# The arguments are names of ARRAYS.
FUNCTIONS = {
  "ranks": lambda logits, labels: topk.ranks(logits, labels),
  "top_k": lambda logits: topk.top_k(logits, 3),
  "finite_rows": lambda logits: topk.finite_rows(logits),
  "outcomes": lambda logits, labels, codes: outcomes.outcomes(
    logits, labels, codes
  ),
  "probabilities": lambda logits: outcomes.probabilities(logits),
  "from_ranking": lambda ranking, labels, codes: outcomes.from_ranking(
    ranking, labels, K, codes
  ),
  "update": update,
  "stream": add_to_stream,
  "summarize": summarize,
  "brier_scores": lambda probs, labels, mask: calibration.brier_scores(
    probs, labels, mask
  ),
  "brier": lambda probs, labels, mask: calibration.brier(probs, labels, mask),
  "nll_scores": lambda probs, labels, mask: calibration.nll_scores(
    probs, labels, mask
  ),
  "nll": lambda probs, labels, mask: calibration.nll(probs, labels, mask),
  "reliability": lambda scores, hit, mask: calibration.reliability(
    scores, hit, 5, mask=mask
  ),
  "equal_mass": lambda scores, hit, mask: calibration.reliability(
    scores, hit, 5, calibration.EQUAL_MASS, mask
  ),
  "classwise_ece": lambda probs, labels, mask: calibration.classwise_ece(
    probs, labels, mask=mask
  ),
  "precision_recall_curve": lambda scores, positive: (
    curves.precision_recall_curve(scores, positive)
  ),
  "roc_curve": lambda scores, positive: curves.roc_curve(scores, positive),
  "average_precision": lambda scores, positive: curves.average_precision(
    scores, positive
  ),
  "roc_auc": lambda scores, positive: curves.roc_auc(scores, positive),
  "ranking_by_class": lambda probs, labels, mask: curves.ranking_by_class(
    probs, labels, mask
  ),
  "operating_point": lambda hit, positive: curves.operating_point(
    0.5, hit, positive
  ),
  "apply_threshold": lambda scores, positive: curves.apply_threshold(
    scores, positive, 0.3
  ),
  "threshold_for_recall": lambda scores, positive: curves.threshold_for_recall(
    scores, positive, 0.5
  ),
  "threshold_for_precision": lambda scores, positive: (
    curves.threshold_for_precision(scores, positive, 0.1)
  ),
  "confusion_matrix": lambda labels, predicted: confusion.confusion_matrix(
    labels, predicted, K
  ),
  "confused_pairs": lambda labels, predicted: confusion.confused_pairs(
    labels, predicted, K, 3
  ),
  "without_prediction": lambda labels, predicted: confusion.without_prediction(
    labels, predicted, K
  ),
  "count_by_class": lambda labels, predicted: confusion.count_by_class(
    labels, predicted, K
  ),
  "from_matrix": lambda matrix: confusion.from_matrix(matrix),
  "mcnemar": lambda hit, other_hit, mask: paired.mcnemar(hit, other_hit, mask),
  "joint_counts": lambda hit, other_hit, labels, mask: paired.joint_counts(
    hit, other_hit, labels, K, mask
  ),
  "paired_difference": lambda hit, other_hit, mask: paired.paired_difference(
    hit, other_hit, mask=mask
  ),
  "paired_class_mean": lambda hit, other_hit, labels: (
    paired.paired_class_mean_difference(hit, other_hit, labels, K)
  ),
  "holm": lambda scores: paired.holm(scores),
  "clopper_pearson": lambda correct, count: intervals.clopper_pearson(
    correct, count
  ),
  "wilson": lambda correct, count: intervals.wilson(correct, count),
  "normal": lambda scores: intervals.normal(scores),
  "class_mean": lambda correct, count: intervals.class_mean(correct, count),
  "class_means": lambda correct, count, masks: intervals.class_means(
    correct, count, masks
  ),
  "drop": lambda correct, count: drops.drop(0, 9, correct, count),
  "bootstrap_drop": lambda correct, count: drops.bootstrap_drop(
    correct, count, correct[::-1], count, class_mean=True
  ),
  "error_ratio": lambda correct, count: ratios.error_ratio(
    correct, count, 3, 9
  ),
  "reconstruction_errors": lambda images, rebuilt, mask: (
    reconstruction.reconstruction_errors(
      images, rebuilt, value_range=(0, 1), mask=mask
    )
  ),
  "find_anomalies": lambda scores: reconstruction.find_anomalies(scores, 0.3),
  "detect_anomalies": lambda scores, positive: reconstruction.detect_anomalies(
    scores, positive, 0.3
  ),
  "threshold_sweep": lambda scores, positive: reconstruction.threshold_sweep(
    scores, positive
  ),
}


def swap(array):
  """Returns the array in big-endian order, as FITS and some HDF5 files."""
  return array.astype(array.dtype.newbyteorder(">"))


def freeze(array):
  array = array.copy()
  array.flags.writeable = False
  return array


def spread(array):
  """Returns the array as every second row of another, backwards."""
  wide = np.zeros((2 * len(array), *array.shape[1:]), array.dtype)
  wide[::2] = array[::-1]
  return wide[::2][::-1]


def read_mapped(array, folder):
  """Returns a memory map of a big-endian Fortran array."""
  path = folder / f"{len(list(folder.iterdir()))}.npy"
  np.save(path, np.asfortranarray(swap(array)))
  return np.load(path, mmap_mode="r")


def convert(kinds, dtype):
  """Returns a form of another type for arrays of some kinds."""
  return lambda array: (
    array.astype(dtype) if array.dtype.kind in kinds else array
  )


FORMS = {
  "big_endian": swap,
  "fortran": np.asfortranarray,
  "read_only": freeze,
  "strided": spread,
  "list": lambda array: array.tolist(),
  "bool_as_uint8": convert("b", np.uint8),
  "bool_as_int8": convert("b", np.int8),
  # MATLAB: everything is a float64, in Fortran order.
  "matlab": lambda array: np.asfortranarray(array.astype(np.float64)),
  **{
    f"floats_{dtype}": convert("f", dtype)
    for dtype in ("f2", ">f8", "longdouble")
  },
  **{
    f"integers_{dtype}": convert("iu", dtype)
    for dtype in ("i1", "u1", ">i2", "u2", "i4", "u4", ">i8", "u8")
  },
}


def flatten(result):
  """Returns the leaves of results, which may be dataclasses."""
  result = jax.device_get(result)
  if dataclasses.is_dataclass(result):
    result = [getattr(result, f.name) for f in dataclasses.fields(result)]
  if isinstance(result, list | tuple):
    return [leaf for part in result for leaf in flatten(part)]
  return [result]


def call(name, form=lambda array: array):
  function = FUNCTIONS[name]
  names = inspect.signature(function).parameters
  return flatten(function(**{n: form(ARRAYS[n]) for n in names}))


def check_same(found, expected):
  assert len(found) == len(expected)
  for a, b in zip(found, expected, strict=True):
    if b is None or isinstance(b, str):
      assert a == b
    else:
      # Whole arrays of float64 and float32 are summed in different precision.
      np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
      assert np.shape(a) == np.shape(b)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_fault_20_forms_of_arrays(name, tmp_path):
  expected = call(name)
  forms = {**FORMS, "mapped": lambda array: read_mapped(array, tmp_path)}
  for form, change in forms.items():
    if form == "list" and name in ("summarize", "bootstrap_drop"):
      continue  # Their arrays are indexed above.
    try:
      found = call(name, change)
    except Exception as error:
      error.add_note(f"form {form}")
      raise
    check_same(found, expected)


@pytest.mark.parametrize("form", ["column", "row"])
@pytest.mark.parametrize(
  "name",
  [
    name
    for name, function in FUNCTIONS.items()
    if {"labels", "predicted", "hit", "positive", "mask"}
    & {*inspect.signature(function).parameters}
  ],
)
def test_fault_20_columns_and_rows_are_refused(name, form):
  """Labels [N, 1] would broadcast to [N, N]."""
  names = {"labels", "predicted", "hit", "positive", "mask"}
  for wrong in names & {*inspect.signature(FUNCTIONS[name]).parameters}:
    shape = (-1, 1) if form == "column" else (1, -1)
    array = ARRAYS[wrong].reshape(shape)
    arrays = {
      other: array if other == wrong else ARRAYS[other]
      for other in inspect.signature(FUNCTIONS[name]).parameters
    }
    with pytest.raises(errors.InputError) as raised:
      FUNCTIONS[name](**arrays)
    assert raised.value.given == list(array.shape)
    assert "ravel" in raised.value.fix


def test_fault_20_a_column_of_numbers_is_refused():
  about = raising.about("values", given=[3, 1])
  with pytest.raises(errors.InputError, check=about):
    intervals.normal(np.zeros((3, 1)))


def test_fault_20_a_matrix_of_shares_is_refused():
  about = raising.about("matrix", given="float64")
  with pytest.raises(errors.InputError, check=about):
    confusion.from_matrix(np.full((2, 2), 0.25))
