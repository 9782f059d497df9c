"""Predictions on every version of a fake ImageNet score as in the run."""

import numpy as np
import pytest

from imgbench import errors
from imgbench.configs import imagenet_fake
from imgbench.train import loop
from tests import raising
from tests.data import fake_folder
from tests.score import score_test
from tests.score import scoring

pytestmark = pytest.mark.slow
SETS = {
  "val,real,multilabel": "imagenet2012-validation",
  "imagenet_m": "imagenet2012_multilabel-imagenet_m",
  "v2": "imagenet_v2-matched-frequency-test",
  "a": "imagenet_a-test",
  "r": "imagenet_r-test",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
  """The predictions of a short run on each set, and its results."""
  folder = tmp_path_factory.mktemp("imagenet")
  config = imagenet_fake.get_config()
  config.data.data_dir = str(fake_folder.prepared())
  config.steps.total = "2 steps"
  config.ema.decay = 0.0
  config.logging.report = False
  for name in ("v2_threshold", "v2_top"):
    del config.evaluation.sets[name]
  config.evaluation.shift.sets = ("v2", "a", "r")
  for entry in config.evaluation.sets.values():
    entry.probabilities = True
  results = loop.train_and_evaluate(config, str(folder))
  found = {}
  for name, file in SETS.items():
    with np.load(folder / "predictions" / f"{file}.npz") as arrays:
      found[name] = dict(arrays)
  return found, results


def write(folder, run, order=None):
  """Writes a file of probabilities for each set; returns paths and flags."""
  paths, flags = [], []
  for name, arrays in run[0].items():
    path = folder / f"{name}.npz"
    rows = slice(None) if order is None else order(len(arrays["label"]))
    np.savez(path, ids=arrays["image_id"][rows], probs=arrays["probs"][rows])
    paths.append(path)
    flags.append(f"--dataset={name}")
  flags.append(f"--data_dir={fake_folder.prepared()}")
  return paths, flags


def test_every_set_has_the_results_of_the_run(run, tmp_path):
  rng = np.random.default_rng(0)
  paths, flags = write(tmp_path, run, rng.permutation)
  flags.append(
    scoring.write_config(
      tmp_path,
      "common.use_imagenet(config);"
      "config.evaluation.shift.sets = ('v2', 'a', 'r')\n"
      "  for entry in config.evaluation.sets.values():\n"
      "    entry.probabilities = True",
    )
  )
  found = scoring.run(*paths, *flags, f"--out={tmp_path / 'out'}")
  score_test.check_equal(found, run[1])
  drops = {key for key in found if key.endswith("/all/top1_accuracy.drop")}
  assert len(drops) == 3


def test_rankings_of_all_classes_are_restricted_as_scores(run, tmp_path):
  paths, flags = [], []
  for name in ("val,real,multilabel", "a"):
    arrays = run[0][name]
    # Stable: ties go to the lowest class.
    ranking = np.argsort(-arrays["probs"], axis=1, kind="stable")
    paths.append(tmp_path / f"{name}.npz")
    np.savez(paths[-1], image_id=arrays["image_id"], ranking=ranking)
    flags.append(f"--dataset={name.partition(',')[0]}")
  flags.append(f"--data_dir={fake_folder.prepared()}")
  flags.append(scoring.write_config(tmp_path))
  found = scoring.run(*paths, *flags, f"--out={tmp_path / 'out'}")
  keys = [key for key in found if key in run[1] and "accuracy" in key]
  assert "imagenet_a:test/all/top1_accuracy.drop" in keys
  score_test.check_equal(
    {key: found[key] for key in keys}, {key: run[1][key] for key in keys}
  )


def test_short_rankings_cannot_be_restricted(run, tmp_path):
  arrays = run[0]["a"]
  path = tmp_path / "a.npz"
  np.savez(path, image_id=arrays["image_id"], ranking=arrays["top5"])
  flags = [f"--data_dir={fake_folder.prepared()}", f"--out={tmp_path / 'out'}"]
  with pytest.raises(errors.InputError, check=raising.about(str(path))):
    scoring.run(path, "--dataset=a", *flags)
  found = scoring.run(
    path, "--dataset=imagenet_a:test", *flags, scoring.write_config(tmp_path)
  )
  assert found["imagenet_a:test/all/top1_accuracy"]["n"] == 200
