"""Tests of `imgbench leakage` on scenes and on pictures of several sizes."""

import csv
import pathlib
import types

from absl import flags
import numpy as np
import pytest

from imgbench import errors
from imgbench.leakage import __main__ as leakage
from imgbench.leakage import images
from imgbench.papers import program
from tests import raising
from tests.data import pipeline_test

# 12 images are in both.
TRAIN, TEST = "scenes:train[:40]", "scenes:train[28:60]"


def run(out, *args):
  """Runs the program in this process."""
  values = flags.FlagValues()
  leakage.define_flags(values)
  values(["leakage", *map(str, args)])
  output = program.Output(pathlib.Path(out))
  leakage.search_splits(values, output)
  output.close()


def read_csv(path):
  with path.open(encoding="utf-8", newline="") as file:
    return list(csv.DictReader(file))


def read_split(text):
  opened = images.open_split("--test", text, "")
  return images.read(opened, images.find_side(opened))


@pytest.fixture(scope="module")
def test_split():
  return read_split(TEST)


def test_pairs_and_accuracy_of_a_run(tmp_path, capsys, test_split):
  """30 of 32 predictions are right, all 12 copies and 18 of 20 others."""
  ids, label = test_split.examples.image_id, test_split.examples.label
  top5 = (label[:, None] + np.arange(5)) % 24
  top5[[20, 31]] = top5[[20, 31]][:, ::-1]
  order = np.random.default_rng(0).permutation(len(ids))
  path = leakage.inputs.find_predictions(tmp_path / "run", "scenes:" + TEST[7:])
  path.parent.mkdir(parents=True)
  np.savez(path, image_id=ids[order], label=label[order], top5=top5[order])
  listed = tmp_path / "known.csv"
  listed.write_text(f"test_id\n{ids[31]}\n{ids[0]}\n", encoding="utf-8")

  out = tmp_path / "out"
  run(
    out,
    *(f"--train={TRAIN}", f"--test={TEST}", f"--known={listed}"),
    f"--predictions={tmp_path / 'run'}",
  )
  pairs = read_csv(out / "pairs.csv")
  assert tuple(pairs[0]) == leakage.PAIRS
  assert [row["kind"] for row in pairs] == ["exact"] * 12
  assert {row["dataset"] for row in pairs} == {TEST}
  assert [row["test_id"] for row in pairs] == ids[:12].tolist()
  assert all(row["train_id"] == row["test_id"] for row in pairs)
  assert all(row["train_label"] == row["test_label"] for row in pairs)
  rows = read_csv(out / "accuracy.csv")
  assert tuple(rows[0]) == leakage.ACCURACY
  rows = {row["left_out"]: row for row in rows}
  counts = {
    kind: (int(row["left_out_images"]), int(row["left_out_correct"]))
    for kind, row in rows.items()
  }
  assert counts == {
    "exact": (12, 12),
    "near": (0, 0),
    "known": (2, 1),
    "all": (13, 12),
  }
  exact = rows["exact"]
  assert float(exact["accuracy"]) == 30 / 32
  assert float(exact["accuracy_without"]) == 18 / 20
  assert float(exact["inflation"]) == pytest.approx(30 / 32 - 18 / 20)
  assert (
    float(exact["inflation_ci_low"]) < 0 < float(exact["inflation_ci_high"])
  )
  assert rows["near"]["inflation"] == rows["near"]["accuracy_without"] == ""
  assert float(rows["all"]["accuracy_without"]) == pytest.approx(18 / 19, 1e-6)
  assert (out / "pairs.png").stat().st_size > 10_000
  assert "peak memory" in capsys.readouterr().out


def test_inflation_by_hand():
  """Of 100 images 20 leak: 18 of these are right, and 56 of the others."""
  correct = np.repeat([True, False, True, False], [18, 2, 56, 24])
  left_out = np.arange(100) < 20
  found = leakage.measure_inflation(correct, left_out)
  assert found["accuracy"] == 0.74 and found["accuracy_without"] == 0.7
  assert found["inflation"] == pytest.approx(0.04)
  # Newcombe (1998), method 10: from Wilson's bounds of both shares.
  z = 1.959963984540054

  def bounds(k, n):
    p, root = k / n, z * np.sqrt(z**2 + 4 * k * (1 - k / n))
    return p, *((2 * k + z**2 + s * root) / (2 * (n + z**2)) for s in (-1, 1))

  (a, a_low, a_high), (b, b_low, b_high) = bounds(18, 20), bounds(56, 80)
  low = a - b - np.hypot(a - a_low, b_high - b)
  high = a - b + np.hypot(a_high - a, b - b_low)
  assert found["inflation_ci_low"] == pytest.approx(0.2 * low, abs=1e-6)
  assert found["inflation_ci_high"] == pytest.approx(0.2 * high, abs=1e-6)
  for mask in (np.zeros(100, bool), np.ones(100, bool)):
    found = leakage.measure_inflation(correct, mask)
    assert found["inflation"] is None and found["accuracy_without"] is None


def test_predictions_without_an_image_are_refused(tmp_path, test_split):
  path = tmp_path / "some.npz"
  ids = test_split.examples.image_id
  np.savez(path, image_id=ids[1:], top5=np.tile(np.arange(5), (31, 1)))
  with pytest.raises(errors.InputError, check=raising.about(str(path))):
    leakage.read_correct(str(path), test_split)
  about = raising.about("--predictions")
  with pytest.raises(errors.InputError, check=about):
    leakage.read_correct(str(tmp_path), test_split)


def test_predictions_that_are_no_numbers_are_wrong(tmp_path, test_split):
  path = tmp_path / "logits.npz"
  logits = 2.5 * np.eye(24, dtype=np.float32)[test_split.examples.label]
  logits[3] = np.roll(logits[3], 1)
  logits[5, 0] = np.nan
  np.savez(path, image_id=test_split.examples.image_id, logits=logits)
  _, correct = leakage.read_correct(str(path), test_split)
  assert np.flatnonzero(~correct).tolist() == [3, 5]
  np.savez(path, logits=logits)
  with pytest.raises(errors.InputError, check=raising.about(str(path))):
    leakage.read_correct(str(path), test_split)


def test_neighbors_have_the_most_similar_logits(test_split):
  """A model whose logits are mean colors finds copies of the same picture."""

  def iterate(batch):
    yield types.SimpleNamespace(logits=batch.mean((1, 2)).astype(np.float32))

  model = types.SimpleNamespace(image_shape=(48, 48, 3), iterate=iterate)
  found = leakage.find_neighbors(test_split, read_split(TRAIN), model)
  nearest = dict(zip(found.test.tolist(), found.train.tolist(), strict=True))
  assert len(nearest) == len(test_split)
  assert all(nearest[i] == 28 + i for i in range(12))
  copies = found.test < 12
  assert set(found.test[:12].tolist()) == set(range(12))
  np.testing.assert_allclose(found.similarity[copies], 1, atol=1e-3)


def test_pictures_of_several_sizes(tmp_path):
  pipeline_test.write(tmp_path / "data")
  out = tmp_path / "out"
  flags_given = (f"--data_dir={tmp_path / 'data'}", "--train=tiny:train")
  run(out, *flags_given, "--test=tiny:train[:20]")
  exact = [r for r in read_csv(out / "pairs.csv") if r["kind"] == "exact"]
  pairs = {(row["test_id"], row["train_id"]) for row in exact}
  assert {(f"{i}.png", f"{i}.png") for i in range(20)} <= pairs
  assert (out / "pairs.png").exists()


@pytest.mark.parametrize(
  ("flag", "text"),
  [("--train", "scenes"), ("--test", ":train"), ("--test", "scenes:trian")],
)
def test_bad_splits_are_refused(flag, text):
  with pytest.raises(errors.InputError, check=raising.about(flag)):
    images.open_split(flag, text, "")


def test_a_similarity_out_of_range_is_refused_before_the_search(tmp_path):
  about = raising.about("--similarity", given=2.0)
  with pytest.raises(errors.InputError, check=about):
    run(tmp_path, f"--train={TRAIN}", f"--test={TEST}", "--similarity=2")


def test_a_missing_data_set_names_its_flag(tmp_path):
  with pytest.raises(errors.InputError, check=raising.about("--data_dir")):
    images.open_split("--test", "cifar10:test", str(tmp_path / "absent"))
