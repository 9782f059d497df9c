"""Workdirs as runs leave them, with made-up but consistent numbers."""

import contextlib
import csv
import json
import math
import pathlib

import numpy as np

from imgbench import writers
from imgbench.metrics import calibration
from imgbench.metrics import confusion
from imgbench.metrics import curves

_CIFAR = "airplane automobile bird cat deer dog frog horse ship truck"
_SCENES = (
  "terrier hound spaniel husky poodle collie sparrow goldfish tortoise"
  " butterfly oak cactus mushroom sunflower teapot lamp bicycle umbrella"
  " lighthouse anchor guitar hourglass kite bucket"
)
SCENES_SUBSETS = {"all": (0, 24), "dog": (0, 6), "organism": (6, 14)}
SCENES_SUBSETS["object"] = (14, 24)


def wilson(correct: int, n: int) -> tuple[float, float]:
  """The 95% score interval, so that samples look as runs do."""
  if not n:
    return 0.0, 1.0
  z, p = 1.959964, correct / n
  center = (p + z * z / (2 * n)) / (1 + z * z / n)
  half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / 4 / n / n)
  return max(0.0, center - half), min(1.0, center + half)


def accuracy(correct: int, n: int, definition: str) -> dict:
  low, high = wilson(correct, n)
  return {
    "n": n,
    "correct": correct,
    "value": correct / n if n else None,
    "ci_low": low if n else None,
    "ci_high": high if n else None,
    "ci_method": "wilson" if n else None,
    "definition": definition,
  }


def plain(value: float | None, n: int, definition: str) -> dict:
  return {
    "n": n,
    "correct": None,
    "value": value,
    "ci_low": None,
    "ci_high": None,
    "ci_method": None,
    "definition": definition,
  }


class Sample:
  """Draws one data set's predictions and adds its files to a workdir.

  Of `classes` alone there are examples; None: of all.
  """

  def __init__(self, key, names, n, skill, seed, groups=(), classes=None):
    self.key, self.names = key, list(names)
    self.subsets = dict(groups) or {"all": (0, len(names))}
    rng = np.random.default_rng(seed)
    size = len(self.names)
    occurring = np.arange(size) if classes is None else np.array(classes)
    self.label = occurring[np.arange(n) % len(occurring)].astype(np.int32)
    rng.shuffle(self.label)
    chance = np.clip(skill + rng.normal(0, 0.12, size), 0.02, 0.99)
    right = rng.random(n) < chance[self.label]
    # Classes are confused with their neighbors.
    near = (self.label + rng.choice([-1, 1, 2, 3], n)) % size
    top1 = np.where(right, self.label, near)
    others = (top1[:, None] + rng.integers(1, size, (n, 1))) % size
    self.top5 = np.stack([top1] + [(others[:, 0] + i) % size for i in range(4)])
    self.top5 = np.ascontiguousarray(self.top5.T).astype(np.int32)
    confidence = np.where(right, 1 - rng.random(n) ** 3, rng.random(n) ** 0.7)
    rest = (1 - confidence)[:, None] * np.array([[0.5, 0.2, 0.1, 0.05]])
    self.top5_prob = np.hstack([confidence[:, None], rest]).astype(np.float32)
    # Most mistakes have the label in the second place.
    second = ~right & (rng.random(n) < 0.7)
    second &= (self.top5 != self.label[:, None]).all(axis=1)
    self.top5[second, 1] = self.label[second]
    self.image_id = np.array([f"{key.partition(':')[2]}_{i}" for i in range(n)])
    self.review = None
    self.confusion = np.zeros((size, size), np.int64)
    np.add.at(self.confusion, (self.label, top1), 1)

  def keep(self, n: int) -> None:
    """Keeps the first n examples."""
    for name in ("label", "top5", "top5_prob", "image_id"):
      setattr(self, name, getattr(self, name)[:n])
    self.confusion[:] = 0
    np.add.at(self.confusion, (self.label, self.top5[:, 0]), 1)

  def add_review(self) -> None:
    """Adds codes: 3 for right predictions, 0 to 3 for the others."""
    codes = np.arange(len(self.label)) % 4
    right = self.top5[:, 0] == self.label
    self.review = np.where(right, 3, codes).astype(np.int8)

  def results(self) -> dict:
    entries = {}
    for subset, (start, stop) in self.subsets.items():
      inside = (self.label >= start) & (self.label < stop)
      n = int(inside.sum())
      hits = self.top5[inside, 0] == self.label[inside]
      top5 = (self.top5[inside] == self.label[inside, None]).any(axis=1)
      matrix = self.confusion[start:stop]
      recall = np.diagonal(matrix, start) / np.maximum(matrix.sum(1), 1)
      entries |= {
        f"{self.key}/{subset}/top1_accuracy": accuracy(
          int(hits.sum()), n, "share whose top-1 is the original label"
        ),
        f"{self.key}/{subset}/top5_accuracy": accuracy(
          int(top5.sum()), n, "share with the original label in the top 5"
        ),
        f"{self.key}/{subset}/nll": plain(
          0.731 + start / 100, n, "mean negative log-likelihood in nats"
        ),
        f"{self.key}/{subset}/macro_recall": plain(
          float(recall.mean()), n, "mean over classes of recall"
        ),
        f"{self.key}/{subset}/macro_f1": plain(
          float(recall.mean()) - 0.004, n, "mean over classes of F1"
        ),
      }
    return entries

  def class_rows(self) -> list[dict]:
    rows = []
    for index, name in enumerate(self.names):
      n = int(self.confusion[index].sum())
      predicted = int(self.confusion[:, index].sum())
      correct = int(self.confusion[index, index])
      low, high = wilson(correct, n)
      rows.append(
        {
          "dataset": self.key,
          "class_index": index,
          "class_name": name,
          "n": n,
          "predicted": predicted,
          "correct": correct,
          "precision": correct / predicted if predicted else "",
          "recall": correct / n if n else "",
          "recall_ci_low": low if n else "",
          "recall_ci_high": high if n else "",
          "f1": 2 * correct / (n + predicted) if n + predicted else "",
        }
      )
    return rows

  def pictures(self, indices) -> np.ndarray:
    """uint8 [M, 32, 32, 3]: a disc on a slope, coloured by the label."""
    y, x = np.mgrid[:32, :32] / 31
    images = []
    for i in indices:
      rng = np.random.default_rng(int(i))
      center, radius = rng.uniform(0.3, 0.7, 2), rng.uniform(0.15, 0.35)
      disc = np.hypot(y - center[0], x - center[1]) < radius
      slope = 0.25 + 0.5 * y[..., None] * rng.random(3)
      color = rng.random(3)
      picture = np.where(disc[..., None], color, slope)
      noise = rng.normal(0, 0.03, picture.shape)
      images.append(np.clip(picture + noise, 0, 1) * 255)
    return np.stack(images).astype(np.uint8)


def records(steps: int, splits, seed: int = 0) -> list[dict]:
  """Returns the log of a run: train values often, evaluations rarely."""
  rng = np.random.default_rng(seed)
  lines = []
  for step in range(steps // 100, steps + 1, steps // 100):
    part = step / steps
    accuracy_now = 0.94 - 0.75 * math.exp(-4 * part)
    line = {
      "step": step,
      "epoch": round(10 * part, 3),
      "train/loss": 0.4 + 1.9 * math.exp(-4 * part) + rng.normal(0, 0.04),
      "train/top1_accuracy": accuracy_now + rng.normal(0, 0.015),
      "train/learning_rate": 0.4 * min(part / 0.2, (1 - part) / 0.8 + 1e-3),
      "train/images_per_s": 4100 + rng.normal(0, 90),
      "time/train_s": 114.2 * part,
    }
    if step % (steps // 10) == 0:
      for i, split in enumerate(splits):
        drop = 0.03 + 0.06 * i
        line[f"{split}/top1_accuracy"] = accuracy_now - drop
        line[f"{split}/nll"] = 0.5 + 1.6 * math.exp(-4 * part) + drop
    lines.append(line)
  return lines


def write(workdir: pathlib.Path, samples, command, **extra) -> pathlib.Path:
  """Writes all files of a finished run; `extra` goes to environment.json."""
  workdir.mkdir(parents=True, exist_ok=True)
  dump = lambda name, value: (workdir / name).write_text(json.dumps(value))
  name = samples[0].key.partition(":")[0]
  dump(
    "config.json",
    {
      "data": {"name": name, "train_split": "train"},
      "model": {"name": "fast_convnet", "widths": [48, 96], "dtype": "auto"},
      "optim": {"name": "muon", "learning_rate": 0.02},
      "global_batch_size": 500,
    },
  )
  dump(
    "environment.json",
    {
      "commit": "3f9c1d2ab4e7",
      "command": command,
      "started_at": "2025-01-31T10:20:30+00:00",
      "versions": {"jax": "0.10.2", "flax": "0.12.8"},
      "platform": "cpu",
      "device_kind": "cpu",
      "num_devices": 1,
      "processor": "Example CPU 2.0 GHz",
      **extra,
    },
  )
  dump(
    "status.json",
    {"state": "done", "step": 1000, "times": {"train_s": 114.2, "eval_s": 9.0}},
  )
  splits = [sample.key.partition(":")[2] for sample in samples]
  lines = records(1000, splits)
  (workdir / "metrics.jsonl").write_text(
    "".join(json.dumps(line) + "\n" for line in lines)
  )
  results = {}
  for sample in samples:
    results |= sample.results()
  dump("results.json", results)
  dump("warnings.json", [])
  write_arrays(workdir, samples)
  return workdir


def write_arrays(workdir: pathlib.Path, samples) -> None:
  with (workdir / "per_class.csv").open("w", newline="") as file:
    rows = [row for sample in samples for row in sample.class_rows()]
    table = csv.DictWriter(file, list(rows[0]))
    table.writeheader()
    table.writerows(rows)
  arrays = {}
  (workdir / "predictions").mkdir(exist_ok=True)
  for sample in samples:
    key = writers.make_file_key(sample.key)
    arrays[key] = sample.confusion
    arrays[f"{key}.class_names"] = np.array(sample.names)
    np.savez_compressed(
      workdir / "predictions" / f"{key}.npz",
      image_id=sample.image_id,
      label=sample.label,
      top5=sample.top5,
      top5_prob=sample.top5_prob,
      **({} if sample.review is None else {"review": sample.review}),
    )
  np.savez_compressed(workdir / "confusion.npz", **arrays)


def write_probabilities(workdir: pathlib.Path, samples) -> None:
  """Adds calibration.json and curves.json, which older runs lack."""
  bins, of_classes = {}, {}
  for sample in samples:
    top1, confidence = sample.top5[:, 0], sample.top5_prob[:, 0]
    found = calibration.reliability(confidence, top1 == sample.label)
    bins[sample.key] = {
      "binning": "equal_width",
      "edges": found.edges.tolist(),
      "count": found.count.tolist(),
      "confidence": confusion.none_for_nan(found.confidence),
      "accuracy": confusion.none_for_nan(found.accuracy),
      "ece": calibration.ece(found),
    }
    of_classes[sample.key] = [
      _curve(sample, k) for k in range(min(8, len(sample.names)))
    ]
  for name, value in (("calibration", bins), ("curves", of_classes)):
    (workdir / f"{name}.json").write_text(json.dumps(value))


def _curve(sample, k) -> dict:
  scores = np.where(sample.top5 == k, sample.top5_prob, 0).sum(axis=1)
  positive = sample.label == k
  curve = curves.precision_recall_curve(scores, positive)
  return {
    "class_index": k,
    "class_name": sample.names[k],
    "average_precision": curves.average_precision(scores, positive),
    "positives": curve.positives,
    "recall": curve.recall.tolist(),
    "precision": curve.precision.tolist(),
  }


@contextlib.contextmanager
def _results(workdir: pathlib.Path):
  """The content of results.json, written again when the block ends."""
  path = workdir / "results.json"
  results = json.loads(path.read_text())
  yield results
  path.write_text(json.dumps(results))


def add_label_sets(results: dict, sample: Sample) -> None:
  """Adds multi-label accuracies and shares of unreviewed predictions."""
  for subset in sample.subsets:
    top1 = results[f"{sample.key}/{subset}/top1_accuracy"]
    entry = plain(
      min(1.0, top1["value"] + 0.06),
      top1["n"] - 31,
      "TFDS's multi-label accuracy: mean over original classes of the share"
      " whose top-1 is correct or unclear, without problematic images",
    )
    entry |= {
      "ci_low": entry["value"] - 0.021,
      "ci_high": min(1.0, entry["value"] + 0.019),
      "ci_method": "stratified bootstrap",
    }
    name = f"{sample.key}/{subset}/multilabel_accuracy.tfds"
    results[name] = entry
    for bound, value in (
      ("unreviewed", 0.0123),
      ("bound_low", entry["value"]),
      ("bound_high", entry["value"] + 0.0123),
    ):
      results[f"{name}.{bound}"] = plain(value, entry["n"], bound)


def lookup(samples):
  """The `image_lookup` of these samples."""
  by_key = {sample.key: sample for sample in samples}
  return lambda key, indices: by_key[key].pictures(indices)


def cifar(workdir: pathlib.Path):
  """10 classes, one split."""
  samples = [Sample("cifar10:test", _CIFAR.split(), 2000, 0.86, 1)]
  command = "python -m imgbench.main --config=configs/cifar10_fast.py:long"
  return write(workdir, samples, f"{command} --workdir=runs/x"), samples


def scenes(workdir: pathlib.Path):
  """24 classes, subsets, two splits, synthetic, with warnings."""
  samples = [
    Sample(key, _SCENES.split(), 2400, skill, seed, SCENES_SUBSETS)
    for key, skill, seed in (
      ("scenes:validation", 0.78, 2),
      ("scenes:v2", 0.68, 3),
    )
  ]
  write(
    workdir,
    samples,
    "python -m imgbench.main --config=configs/scenes.py --workdir=runs/demo",
    synthetic=[sample.key for sample in samples],
  )
  write_probabilities(workdir, samples)
  with _results(workdir) as results:
    for sample in samples:
      add_label_sets(results, sample)
  (workdir / "warnings.json").write_text(
    json.dumps(
      [
        {
          "name": "few_examples_per_class",
          "dataset": "scenes:v2",
          "subset": "dog",
          "value": 7,
          "threshold": 10,
          "message": "class husky has 7 examples; its recall is uncertain",
        }
      ]
    )
  )
  return workdir, samples
