"""Tests of the evaluation of reconstructed images against NumPy."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from imgbench import errors
from imgbench import parallel
from imgbench.data import scene_source
from imgbench.evaluators import base
from imgbench.evaluators import reconstruction
from imgbench.evaluators import splits

SPLIT = scene_source.ScenesSource(
  "validation", image_size=16, validation_examples=50
)
ORGANISMS = SPLIT.info.subsets["organism"]


@pytest.fixture(scope="module")
def examples():
  return SPLIT.load()


def predict(variables, images):
  """Darker images."""
  pixels = images.astype(jnp.float32) / 255
  return pixels * variables["params"]["scale"]


def evaluate(examples, scale=0.5, batch_size=50, name="jit", devices=1, **more):
  """Returns the evaluation of images times `scale`; `more` is the split's."""
  strategy = parallel.create_strategy(name, devices)
  compiled = reconstruction.ReconstructionPass(predict, strategy, batch_size)
  split = splits.ResidentSplit(SPLIT.info, examples, strategy)
  vars(split).update(more)
  evaluator = reconstruction.ReconstructionEvaluator(
    split, compiled_pass=compiled, abnormal=ORGANISMS
  )
  variables = {"raw": {"params": {"scale": jnp.float32(scale)}}}
  return base.run({"val": evaluator}, variables)["val"]


@pytest.mark.parametrize(
  ("batch_size", "name", "devices"),
  [(50, "jit", 1), (7, "jit", 1), (12, "jit", 4), (12, "pmap", 4)],
)
def test_errors_do_not_depend_on_batches_or_devices(
  examples, batch_size, name, devices
):
  found = evaluate(examples, 0.5, batch_size, name, devices)
  pixels = examples.image / 255
  mse = ((pixels / 2) ** 2).mean(axis=(1, 2, 3))
  mae = (pixels / 2).mean(axis=(1, 2, 3))
  got = found.reconstruction.errors
  np.testing.assert_allclose(got.mse, mse, rtol=1e-5)
  np.testing.assert_allclose(got.mae, mae, rtol=1e-5)
  np.testing.assert_allclose(got.psnr, -10 * np.log10(mse), rtol=1e-5)
  measured = found.measurements
  dogs = SPLIT.info.subsets["dog"][examples.label]
  for subset, rows in (("all", slice(None)), ("dog", dogs)):
    one = measured[subset, "mse"]
    assert one.value == pytest.approx(mse[rows].mean(), rel=1e-5)
    assert one.n == len(mse[rows])
  # Unclear labels count as shown, problematic images as neither.
  shows = (examples.label_codes[:, ORGANISMS] >= 2).any(axis=1)
  good = ~examples.left_out
  scores, positive = mse[good], shows[good]
  pairs = scores[positive][:, None] > scores[~positive]
  area = measured["all", "anomaly_roc_auc"]
  assert area.value == pytest.approx(pairs.mean(), abs=1e-3)
  assert area.n == good.sum() and area.ci_low < area.value < area.ci_high
  assert measured["abnormal", "mse"].n == positive.sum()
  shown = found.reconstruction
  assert shown.shown[0] == np.argmax(mse)
  assert len(set(shown.shown.tolist())) == 2 * reconstruction.SHOWN
  np.testing.assert_array_equal(shown.images, examples.image[shown.shown])
  np.testing.assert_allclose(shown.pictures, shown.images / 2, atol=0.51)


def test_masked_examples_are_as_if_they_were_not_there(examples):
  keep = np.arange(50) % 7 != 3
  whole = splits.ResidentSplit(
    SPLIT.info, examples, parallel.create_strategy("jit", 1)
  )

  def batches(batch_size):
    start = 0
    for batch, mask in whole.batches(batch_size):
      rows = np.minimum(np.arange(start, start + batch_size), 49)
      yield batch, mask & keep[rows]
      start += batch_size

  found = evaluate(examples, batch_size=16, batches=batches, skips_bad=True)
  some = evaluate(examples.take(keep))
  np.testing.assert_array_equal(found.rows, np.flatnonzero(keep))
  np.testing.assert_array_equal(
    found.reconstruction.errors.mse, some.reconstruction.errors.mse
  )
  np.testing.assert_array_equal(
    found.reconstruction.images, some.reconstruction.images
  )
  skipped = found.measurements["all", "skipped"]
  assert (skipped.value, skipped.n) == (50 - keep.sum(), 50)
  for key, value in some.measurements.items():
    assert found.measurements[key].value == value.value, key


def test_outputs_of_another_range_are_refused(examples):
  with pytest.raises(errors.InputError) as raised:
    evaluate(examples, 255.0)
  assert raised.value.expected == "pixels in [0, 1]"
  assert raised.value.setting.endswith(tuple(examples.image_id))


def test_what_is_undefined_says_why(examples):
  exact = evaluate(examples, 1.0).measurements
  assert exact["all", "mse"].value == 0
  assert exact["all", "psnr"].value is None
  assert exact["all", "anomaly_roc_auc"].value == 0.5
  broken = evaluate(examples, np.nan).measurements
  for name in ("mse", "mae", "psnr", "anomaly_roc_auc", "anomaly_overlap"):
    assert broken["all", name].value is None
    assert "50" in broken["all", name].definition or "not finite" in (
      broken["all", name].definition
    )


def test_a_threshold_of_one_set_is_judged_on_another(examples):
  chosen, judged = evaluate(examples), evaluate(examples.take(np.arange(30)))
  judged = dataclasses.replace(
    judged, info=dataclasses.replace(judged.info, split="other")
  )
  choice = {"other": reconstruction.Threshold("val", 0.8)}
  found = reconstruction.add_thresholds(
    {"val": chosen, "other": judged}, choice, ("", "_ema")
  )
  assert found["val"] is chosen
  new = found["other"].measurements
  threshold = new["all", "anomaly_threshold"].value
  kinds, mse = chosen.reconstruction.kinds, chosen.reconstruction.errors.mse
  flagged = mse.astype(float) > threshold
  assert flagged[kinds["abnormal"]].mean() >= 0.8
  kinds = judged.reconstruction.kinds
  assert new["all", "anomaly_recall"].correct == sum(
    flagged[:30] & kinds["abnormal"]
  )
  assert new["all", "anomaly_precision"].n == sum(
    flagged[:30] & (kinds["abnormal"] | kinds["normal"])
  )
  alone = reconstruction.add_thresholds({"other": judged}, choice, ("",))
  assert alone["other"] is judged
