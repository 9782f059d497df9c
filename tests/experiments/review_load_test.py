"""Tests of the load on a review server, small."""

import json

from experiments import review_load
from tests.train import processes


def test_counters_are_those_of_a_recompute(tmp_path):
  out = tmp_path / "load.json"
  # Of 2,000 images every class has one that counts.
  sizes = {"users": 2, "images": 2_000, "pairs": 8_000, "models": 3}
  bounds = {"requests": 60, "pause_ms": 1, "seconds": 100}
  flags = [f"--{name}={size}" for name, size in (sizes | bounds).items()]
  run = processes.run_python(
    "-m", "experiments.review_load", f"--out={out}", *flags
  )
  assert run.returncode in (0, 3), run.stderr  # 3: slower than the limits
  content = json.loads(out.read_text())
  assert content["counters_equal"] is True
  assert {name: content[name] for name in sizes} == sizes
  assert content["environment"]["processor"]
  rows = {row["request"]: row for row in content["rows"]}
  writes = {"votes": 2, "category": 1, "save": 1}
  saved = rows["POST /api/events (save)"]["n"]
  for kind, times in writes.items():
    assert rows[f"POST /api/events ({kind})"]["n"] == times * saved
  assert 60 <= sum(row["n"] for row in rows.values()) < 100
  last = run.stdout.splitlines()[-1]
  assert last.startswith(f"counters of {sizes['models']} models equal")


def test_each_class_of_an_image_is_predicted(tmp_path):
  class Values:
    images, pairs, models = 300, 1_200, 8

  found, content = review_load.make_content(tmp_path, Values)
  pairs = {
    (i, int(k)) for _, top1 in found.models.values() for i, k in enumerate(top1)
  } | set(enumerate(found.labels.tolist()))
  assert len(pairs) <= Values.pairs and len(pairs) > 0.8 * Values.pairs
  names = set(found.names)
  assert content["initial_annots"].keys() == names
  assert len(list(tmp_path.iterdir())) == Values.images
