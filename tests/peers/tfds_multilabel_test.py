"""The code in TFDS's documentation of imagenet2012_multilabel, run as it is.

It stands in the description of the data set that comes with the package, and
needs none of the peers. As published it does not parse: it has typographic
quotes, and "is in".
"""

import importlib.util
import math
import pathlib
import re

import jax
import numpy as np
import pytest

from imgbench.metrics import counts as counts_lib
from imgbench.metrics import multilabel
from imgbench.metrics import outcomes as outcomes_lib
from tests.labels import codes

# The documented code has it as a constant.
K = 1000
FIELDS = ("correct_multi_labels", "unclear_multi_labels", "wrong_multi_labels")


def documented_code() -> str:
  folder = importlib.util.find_spec("tensorflow_datasets").origin
  page = pathlib.Path(folder).parent / "datasets/imagenet2012_multilabel"
  page = page / "README.md"
  if not page.exists():
    pytest.skip(f"tensorflow_datasets has no {page.name} of the data set")
  (code,) = re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.S)
  for typographic in "‘’":
    code = code.replace(typographic, "'")
  code = code.replace(" is in ", " in ")
  # The examples are given instead of loaded.
  return re.sub(r"^(import|ds =).*$", "", code, flags=re.M)


class Value:
  """A tensor as far as the code needs one."""

  def __init__(self, value):
    self.numpy = lambda: value


def draw_examples(rng):
  """Three images of each class; one or none of the three is problematic."""
  examples = []
  for i in range(3 * K):
    original = i % K
    others = rng.permutation(np.delete(np.arange(10), original % 10))[:3]
    labels = np.append(original, (original // 10 * 10 + others) % K)
    cuts = sorted(rng.integers(1, 5, 2))
    examples.append(
      {
        **dict(zip(FIELDS, np.split(labels, cuts), strict=True)),
        "original_label": original,
        "is_problematic": i % 7 == 0,
        "file_name": f"image_{i}",
      }
    )
  return examples


def test_documented_code_gives_the_class_mean():
  rng = np.random.default_rng(0)
  examples = draw_examples(rng)
  reviewed = [
    np.concatenate([example[field] for field in FIELDS]) for example in examples
  ]
  predicted = [int(rng.choice(labels)) for labels in reviewed]
  names = [example["file_name"] for example in examples]
  scope = {
    "ds": [{k: Value(v) for k, v in e.items()} for e in examples],
    "predictions": dict(zip(names, predicted, strict=True)),
  }
  exec(compile(documented_code(), "README.md", "exec"), scope)

  labels = np.array([example["original_label"] for example in examples])
  left_out = np.array([example["is_problematic"] for example in examples])
  counts = counts_lib.update(
    counts_lib.empty(K),
    outcomes_lib.outcomes(
      np.eye(K, dtype=np.float32)[predicted],
      labels,
      np.stack([codes.label_codes(e, K) for e in examples]),
    ),
    labels,
    np.ones(len(labels), bool),
    left_out=left_out,
  )
  counts = jax.device_get(counts)
  definition = multilabel.DEFINITIONS["tfds"]
  rates = definition.hits(counts) / definition.count(counts)
  assert definition.class_mean and 0.5 < scope["final_avg"] < 0.9
  assert math.isclose(np.mean(rates), scope["final_avg"], rel_tol=1e-12)
