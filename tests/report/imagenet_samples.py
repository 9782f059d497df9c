"""Workdirs of runs on ImageNet, its label sets and its shifted versions."""

import json
import pathlib

import numpy as np

from imgbench.metrics import drops
from tests.report import samples

_KINDS = ("common", "sea-going", "greater", "lesser", "spotted", "northern")
_THINGS = (
  "warbler",
  "terrier",
  "setter",
  "beetle",
  "cabinet",
  "lathe",
  "skiff",
)
NAMES = [
  f"{_KINDS[i % 6]} {_THINGS[i // 6 % 7]}, variety number {i}"
  for i in range(1000)
]
SUBSETS = {
  "all": (0, 1000),
  "dog": (151, 269),
  "organism": (0, 410),
  "object": (410, 1000),
  "organism_not_dog": (269, 410),
}
# Name -> split, examples, skill, the classes that occur.
FAMILY = {
  "imagenet2012": ("validation", 10000, 0.76, None),
  "imagenet2012_multilabel": ("validation", 5000, 0.76, None),
  "imagenet2012_real": ("validation", 10000, 0.76, None),
  "imagenet_v2-matched-frequency": ("test", 10000, 0.63, None),
  "imagenet_v2-threshold-0.7": ("test", 10000, 0.72, None),
  "imagenet_v2-topimages": ("test", 10000, 0.78, None),
  "imagenet_a": ("test", 7500, 0.08, range(0, 1000, 5)),
  "imagenet_r": ("test", 6000, 0.36, range(160, 360)),
}
BASE = "imagenet2012"
SHIFTED = tuple(FAMILY)[3:]


def alone(workdir: pathlib.Path):
  """1,000 classes with long names, one split."""
  drawn = [samples.Sample("imagenet2012:validation", NAMES, 10000, 0.74, 4)]
  command = ["imgbench", "--config=configs/resnet50.py", "--workdir=runs/y"]
  return samples.write(workdir, drawn, command), drawn


def family(
  workdir: pathlib.Path, names=tuple(FAMILY), variants=("", "+ema"), share=1.0
):
  """A base set, label sets and shifted versions.

  Args:
    workdir: of the run.
    names: of FAMILY, the base set among them.
    variants: what is appended to the names, one for each set of parameters.
    share: of the examples.
  """
  drawn, results = {}, {}
  for better, variant in enumerate(variants):
    for name in names:
      split, n, skill, classes = FAMILY[name]
      # The same images and predictions; of multilabel the first half.
      same = name.startswith(BASE)
      size = FAMILY[BASE][1] if same else n
      drawn[name + variant] = sample = samples.Sample(
        f"{name}{variant}:{split}",
        NAMES,
        int(share * size),
        skill + 0.01 * better,
        0 if same else list(FAMILY).index(name),
        SUBSETS,
        classes,
      )
      if same:
        sample.keep(int(share * n))
      if name == "imagenet2012_multilabel":
        sample.add_review()
      results |= sample.results()
      if name == "imagenet2012_multilabel":
        samples.add_label_sets(results, sample)
      if name == "imagenet2012_real":
        add_real(results, sample)
      if name in SHIFTED:
        add_drops(results, drawn[BASE + variant], sample)
  drawn = list(drawn.values())
  command = "imgbench --config=configs/imagenet_resnet50.py --workdir=runs/z"
  samples.write(workdir, drawn, command)
  (workdir / "results.json").write_text(json.dumps(results))
  add_shift(workdir, {name: FAMILY[name][0] for name in names}, BASE)
  return workdir, drawn


def add_shift(workdir: pathlib.Path, splits: dict, base: str) -> None:
  """Adds section evaluation to config.json; aliases are names."""
  path = workdir / "config.json"
  config = json.loads(path.read_text())
  config["evaluation"] = {
    "sets": {
      name: {"name": name, "split": split} for name, split in splits.items()
    },
    "shift": {"base": base, "sets": [name for name in splits if name != base]},
  }
  path.write_text(json.dumps(config))


def add_real(results: dict, sample: samples.Sample) -> None:
  """Adds accuracies against ReaL's labels."""
  for subset in sample.subsets:
    top1 = results[f"{sample.key}/{subset}/top1_accuracy"]
    n = int(0.97 * top1["n"])
    results[f"{sample.key}/{subset}/real_accuracy"] = samples.accuracy(
      round(n * min(1, top1["value"] + 0.07)), n, "share of ReaL labels"
    )


def add_drops(
  results: dict, base: samples.Sample, shifted: samples.Sample
) -> None:
  """Adds drops of top-k accuracy over the classes that `shifted` has."""
  for subset, (start, stop) in shifted.subsets.items():
    classes = np.intersect1d(np.unique(shifted.label), range(start, stop))
    for k in (1, 5):
      (hits_a, n_a), (hits_b, n_b) = (
        (int(right.sum()), len(right))
        for right in (_right(sample, classes, k) for sample in (base, shifted))
      )
      metric = f"top{k}_accuracy"
      text = f"{metric} on the base set {base.key}"
      entry = samples.plain(
        None, n_a + n_b, f"{text} minus {metric} on {shifted.key}"
      )
      if n_b:
        value, low, high = map(float, drops.drop(hits_a, n_a, hits_b, n_b))
        entry |= {"value": value, "ci_low": low, "ci_high": high}
        entry["ci_method"] = drops.NEWCOMBE
      name = f"{shifted.key}/{subset}/{metric}"
      results[f"{name}.base"] = samples.accuracy(hits_a, n_a, text)
      results[f"{name}.drop"] = entry


def _right(sample: samples.Sample, classes, k: int) -> np.ndarray:
  """bool, of the examples of these classes."""
  inside = np.isin(sample.label, classes)
  label = sample.label[inside, None]
  return (sample.top5[inside, :k] == label).any(axis=1)
