"""Tests of label errors that workers reviewed."""

import json

import numpy as np
import pytest

from imgbench import errors
from imgbench.labels import annotations
from imgbench.labels import label_errors
from tests import raising
from tests.data import shared_files

LABELS = np.array([0, 1, 2, 0, 1, 2])
IDS = [f"test_{i:05d}" for i in range(6)]


def entry(number, given, guessed, *votes):
  names = ("given", "guessed", "both", "neither")
  return {
    "id": number,
    "given_original_label": given,
    "our_guessed_label": guessed,
    "mturk": dict(zip(names, votes, strict=True)),
  }


def write(tmp_path, *entries):
  path = tmp_path / "mturk.json"
  path.write_text(json.dumps(entries))
  return path


def test_codes_by_hand(tmp_path):
  path = write(
    tmp_path,
    entry(0, 0, 1, 3, 2, 0, 0),
    entry(1, 1, 2, 1, 3, 1, 0),
    entry(2, 2, 0, 1, 1, 3, 0),
    entry(3, 0, 1, 1, 0, 0, 4),
    entry(4, 1, 0, 0, 2, 1, 2),  # No majority.
  )
  codes, left_out = label_errors.read_codes(path, IDS, LABELS, 3)
  wanted = np.full((6, 3), annotations.WRONG)
  wanted[range(6), [0, 2, 2, 0, 1, 2]] = annotations.CORRECT
  wanted[2, 0] = annotations.UNCLEAR
  assert codes.tolist() == wanted.tolist()
  assert left_out.tolist() == [False] * 3 + [True] + [False] * 2


@pytest.mark.parametrize(
  "entries",
  [
    [],
    [entry(0, 1, 2, 5, 0, 0, 0)],  # Another label than that of the image.
    [entry(6, 0, 2, 5, 0, 0, 0)],  # No such image.
    [entry(0, 0, 2, 5, 0, 0, 0)] * 2,
    [entry(0, 0, 3, 5, 0, 0, 0)],
    [entry(0, 0, 1.5, 5, 0, 0, 0)],
    [{"id": 0}],
    ["text"],
  ],
)
def test_other_files_are_refused(tmp_path, entries):
  path = write(tmp_path, *entries)
  with pytest.raises(errors.InputError, check=raising.about(str(path))):
    label_errors.read_codes(path, IDS, LABELS, 3)


@pytest.mark.parametrize(
  "name, labels, image_id, counts",
  [
    # 32 images have no majority: 18 + 4 + 32 are the published 54 errors.
    (
      "cifar10",
      "CIFAR-10.1/cifar10_test_labels.npy",
      "test_{:05d}",
      (18, 0, 4),
    ),
    ("imagenet", "imagenet/labels_val.npy", "{:08d}.JPEG", (1428, 597, 293)),
  ],
)
def test_counts_of_the_real_files(name, labels, image_id, counts):
  data = shared_files.shared_path("data")
  path = data / f"label-errors/{name}_mturk.json"
  labels = np.load(data / labels).astype(int)
  first = int(name == "imagenet")  # Its files are numbered from 1.
  ids = [image_id.format(i + first) for i in range(len(labels))]
  order = np.random.default_rng(0).permutation(len(labels))
  codes, left_out = label_errors.read_codes(
    path, np.array(ids)[order], labels[order], int(labels.max()) + 1
  )
  changed = codes.argmax(axis=1) != labels[order]
  both = (codes == annotations.UNCLEAR).sum()
  assert (changed.sum(), both, left_out.sum()) == counts
  with pytest.raises(errors.InputError, check=raising.about(str(path))):
    label_errors.read_codes(path, ids, np.roll(labels, 1), 1000)
