"""Class weights and balanced sampling find more images of rare classes."""

import numpy as np
import pytest

from imgbench.configs import scenes
from imgbench.metrics import seeds
from imgbench.train import loop

SEEDS = range(3)
OPTIONS = {
  "plain": {},
  "weights": {"loss.class_weights": "balanced"},
  "sampling": {"data.balanced": True},
}


def find_hits(folder, seed, options):
  """Returns hits bool [N] of a run, and which images are of rare classes."""
  config = scenes.get_config()
  config.seed = seed
  config.data.options = dict(image_size=16, train_examples=12_000, imbalance=20)
  config.evaluation.every, config.evaluation.shift = "never", {}
  # The validation split has equally many images of all classes.
  config.evaluation.sets = dict(
    val=dict(type="classification", split="validation")
  )
  config.checkpoint.update(every="never", best="")
  config.logging.update(report=False, tensorboard=False)
  config.update_from_flattened_dict(options)
  loop.train_and_evaluate(config, str(folder))
  with np.load(folder / "predictions" / "scenes-validation.npz") as file:
    label, top1 = file["label"], file["top5"][:, 0]
  return top1 == label, label % 4 == 0


@pytest.mark.slow  # 9 runs of 18 s of CPU time.
def test_the_recall_of_rare_classes_rises(tmp_path):
  hits = {}
  for name, options in OPTIONS.items():
    found = [find_hits(tmp_path / f"{name}{i}", i, options) for i in SEEDS]
    hits[name] = np.stack([right for right, _ in found])
    is_rare = found[0][1]
  for name in ("weights", "sampling"):
    for kind, mask in (("rare", is_rare), ("other", ~is_rare)):
      gain = seeds.split_variance(hits[name], hits["plain"], mask=mask)
      print(
        f"{name}: recall of {kind} classes {100 * gain.value:+.1f}"
        f" [{100 * gain.ci_low:+.1f}, {100 * gain.ci_high:+.1f}] points"
      )
      if kind == "rare":
        assert gain.ci_low > 0.03
  # A model that never says a rare class looks good where they are rare.
  assert hits["plain"][:, is_rare].mean() < 0.05
