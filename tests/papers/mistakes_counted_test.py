import json
import pathlib

import numpy as np
import pytest

from imgbench import errors
from imgbench.papers import records
from imgbench.papers.mistakes import counted as tables
from imgbench.papers.mistakes import reviewed as mistakes
from tests import raising
from tests.papers import mistakes_files

FINE, OOV = mistakes_files.FINE, mistakes_files.OOV
SPURIOUS = mistakes_files.SPURIOUS
name = mistakes_files.name


def reviewed(folder, model="net") -> mistakes.ModelMistakes:
  entries = mistakes_files.ENTRIES if model == "net" else mistakes_files.OTHERS
  path = folder / f"{model}_mistakes.json"
  path.write_text(json.dumps(entries))
  return mistakes.read(model, path)


@pytest.fixture
def net(tmp_path):
  return reviewed(tmp_path)


@pytest.fixture
def images():
  return tables.Images(mistakes_files.dataset(mistakes_files.LABELS))


def test_the_table_adds_up(net):
  counts = tables.count_mistakes(net.mistakes, mistakes.CATEGORIES)
  assert counts[OOV, "Borderline"] == counts[OOV, "all"] == 2
  assert counts[OOV, "Minor"] == counts["Non-prototypical", "all"] == 0
  assert counts[OOV, tables.MINOR_OR_BORDERLINE] == 2
  assert counts["all", tables.MINOR_OR_BORDERLINE] == 3
  assert counts["all", "Major"] == counts[SPURIOUS, "Major"] == 1
  assert counts["all", "all"] == 4
  assert len(counts) == (len(mistakes.CATEGORIES) + 1) * 5


def test_shares_are_of_the_mistakes_of_the_subset(net, images):
  by_subset = images.split_by_subset(net.mistakes)
  rows = tables.compute_shares("net", by_subset, mistakes.CATEGORIES)
  found = {key[2:]: share for key, share in rows.items()}
  half = found["organism", "mistakes.fine_grained_error_with_oov.all"]
  assert (half.n, half.correct, half.value) == (4, 2, 0.5)
  assert 0 < half.ci_low < 0.5 < half.ci_high < 1
  nothing = found["object", "mistakes.all.all"]
  assert (nothing.n, nothing.value) == (0, None)
  assert {key[1] for key in rows} == {"imagenet-annotatedval20k-0"}


def test_names_of_metrics():
  kinds = tables.count_mistakes([], mistakes.CATEGORIES)
  names = {tables.name_metric(*kind) for kind in kinds}
  assert len(names) == len(kinds)
  assert "mistakes.non_prototypical.minor_or_borderline" in names
  assert (
    tables.name_metric("all", "all", "a-b") == "repeated_mistakes.a-b.all.all"
  )


def test_without_a_data_set_there_is_no_subset(net):
  images = tables.Images(None)
  images.check(net)
  assert list(images.split_by_subset(net.mistakes)) == ["all"]


def test_pairs_and_repeated_mistakes(net, images):
  images.check(net)
  assert images.count_pairs(net.mistakes) == ((0, 1, 2), (0, 2, 1), (0, 3, 1))
  ranking = np.array([[1, 0], [0, 1], [5, 1], [2, 0], [9, 3]], np.int16)
  mine = records.RankedPredictions(
    "mine", images.dataset.name, ranking, pathlib.Path("a")
  )
  again = images.find_repeated(net.mistakes, mine)
  assert [m.image for m in again] == [name(1), name(4)]
  rows = tables.compute_repeated_shares(
    "mine",
    "net",
    images.split_by_subset(net.mistakes),
    images.split_by_subset(again),
    mistakes.CATEGORIES,
  )
  found = {key[2:]: share for key, share in rows.items()}
  prefix = "repeated_mistakes.net"
  assert found["all", f"{prefix}.fine_grained_error_with_oov.all"].value == 1
  assert found["all", f"{prefix}.all.all"].value == 0.5
  assert found["all", f"{prefix}.fine_grained_error.major"].value is None


def test_predictions_that_are_right_are_no_mistakes(net):
  dataset = mistakes_files.dataset({1: 0, 2: 1, 4: 0, 9: 0})
  check = raising.about(f"{net.path}: {name(2)}", given=1)
  with pytest.raises(errors.InputError, check=check):
    tables.Images(dataset).check(net)
  dataset = mistakes_files.dataset({1: 0, 2: 0, 4: 0})
  check = raising.about(str(net.path), given=name(9))
  with pytest.raises(errors.InputError, check=check):
    tables.Images(dataset).check(net)


def test_overlap(tmp_path, net):
  other = reviewed(tmp_path, "other")
  assert tables.find_overlaps([net, other]) == [("net", "other", 3, 2, 1, 1)]
  assert not tables.find_overlaps([net])
