import collections
import json
import pathlib

import pytest

from imgbench import errors
from imgbench.labels import classes
from imgbench.papers.mistakes import counted
from imgbench.papers.mistakes import reviewed as mistakes
from tests.data import shared_files
from tests.papers import mistakes_files

FINE, OOV = mistakes_files.FINE, mistakes_files.OOV
name, entry = mistakes_files.name, mistakes_files.entry


def write(folder, content) -> pathlib.Path:
  path = folder / "net_mistakes.json"
  text = content if isinstance(content, str) else json.dumps(content)
  path.write_text(text)
  return path


def reviewed(folder, content=None, model="net") -> mistakes.ModelMistakes:
  return mistakes.read(model, write(folder, content or mistakes_files.ENTRIES))


def test_both_spellings_are_one_category(tmp_path):
  read = reviewed(tmp_path)
  assert [m.image for m in read.mistakes] == [name(n) for n in (1, 2, 4, 9)]
  assert [m.category for m in read.mistakes] == [
    OOV,
    FINE,
    OOV,
    mistakes_files.SPURIOUS,
  ]
  assert not mistakes.new_categories([read])


def test_a_new_category_has_its_own_name(tmp_path):
  read = reviewed(tmp_path, {name(1): entry(1, "Camera error", "Major")})
  assert mistakes.new_categories([read]) == ["Camera error"]


@pytest.mark.parametrize(
  ("content", "words"),
  [
    ("[]", "expected a dict, got a list"),
    ("{}", "expected mistakes by image, got none"),
    ("{", "expected a JSON file"),
    ('{"a": 1, "a": 2}', "'a' stands there twice"),
    ({"val_1.JPEG": entry(1, FINE, "Major")}, "got 'val_1.JPEG'"),
    ({name(1): {}}, r"top_prediction \(a number\)"),
    ({name(1): [1]}, r"got \[1\]"),
    ({name(1): entry(1.0, FINE, "Major")}, "top_prediction': 1.0"),
    ({name(1): entry(True, FINE, "Major")}, "top_prediction': True"),
    ({name(1): entry(1, None, "Major")}, "category': None"),
    ({name(1): entry(1000, FINE, "Major")}, r"\[0, 1000\), got 1000"),
    ({name(1): entry(-1, FINE, "Major")}, "got -1"),
    ({name(1): entry(1, FINE, "Severe")}, "Major, Minor, .* got 'Severe'"),
  ],
)
def test_mistakes_that_are_refused(tmp_path, content, words):
  path = write(tmp_path, content)
  with pytest.raises(errors.InputError, match=words) as error:
    mistakes.read("net", path)
  assert str(path) in str(error.value)


def test_confusions(tmp_path):
  wnids = classes.imagenet_classes().wnids
  entries = [[wnids[3], wnids[1], 1], [wnids[4], wnids[9], 5]]
  path = write(tmp_path, entries)
  assert mistakes.read_confusions(path) == ((4, 9, 5), (1, 3, 1))


@pytest.mark.parametrize(
  ("content", "words"),
  [
    ({}, "expected a list, got a dict"),
    ([["n01440764", "n01443537"]], "entry 0: expected .WordNet id"),
    ([["n01440764", "n01443537", 0]], "a number above 0"),
    ([["n01440764", "n01443537", 1.0]], "a number above 0"),
    ([[1, "n01443537", 1]], "WordNet id"),
    (["n01440764"], "got 'n01440764'"),
    ([["n01440764", "n00000001", 1]], "got 'n00000001'"),
    ([["n01440764", "n01440764", 1]], "each pair of two classes"),
    (
      [["n01440764", "n01443537", 1], ["n01443537", "n01440764", 1]],
      "entry 1: expected each pair once",
    ),
  ],
)
def test_confusions_that_are_refused(tmp_path, content, words):
  path = write(tmp_path, content)
  with pytest.raises(errors.InputError, match=words) as error:
    mistakes.read_confusions(path)
  assert str(path) in str(error.value)


def test_a_clone_is_found(tmp_path):
  folder = tmp_path / "metadata"
  with pytest.raises(errors.InputError, match="google-research/imagenet-mist"):
    mistakes.find(tmp_path)
  folder.mkdir()
  for model in ("vit3b", "greedy_soups"):
    (folder / f"{model}_mistakes.json").touch()
  with pytest.raises(errors.InputError, match="class_confusion_wnids.json"):
    mistakes.find(tmp_path)
  (folder / "class_confusion_wnids.json").touch()
  paths, confusions = mistakes.find(tmp_path)
  assert list(paths) == ["greedy_soups", "vit3b"]
  assert confusions == folder / "class_confusion_wnids.json"


def published(what: str) -> pathlib.Path:
  return shared_files.shared_path(
    "data", "imagenet", "published", f"imagenet_mistakes_{what}.json"
  )


@pytest.mark.parametrize(
  ("model", "total", "major", "of_category"),
  [
    ("vit3b", 378, 154, (241, 54, 1, 30, 52)),
    ("greedy_soups", 249, 89, (172, 26, 0, 19, 32)),
  ],
)
def test_the_real_mistakes(model, total, major, of_category):
  read = mistakes.read(model, published(f"{model}_mistakes"))
  counts = counted.count_mistakes(read.mistakes, mistakes.CATEGORIES)
  assert counts["all", "all"] == total
  assert counts["all", "Major"] == major
  assert (
    tuple(counts[name, "all"] for name in mistakes.CATEGORIES) == of_category
  )
  assert not mistakes.new_categories([read])


def test_the_real_confusions_are_of_predictions_with_accepted_labels():
  pairs = mistakes.read_confusions(published("class_confusion_wnids"))
  assert (len(pairs), sum(pair.count for pair in pairs)) == (481, 545)
  assert pairs[0].count == 5
  sets = json.loads(
    shared_files.shared_path(
      "data", "imagenet", "eth_multilabel_3937.json"
    ).read_text()
  )
  read = mistakes.read("vit3b", published("vit3b_mistakes"))
  made = collections.Counter(
    tuple(sorted((mistake.prediction, label)))
    for mistake in read.mistakes
    for label in set(sets.get(mistake.image, ()))
  )
  there = collections.Counter({(p.first, p.second): p.count for p in pairs})
  # 331 of the 378 images have their sets in the shared file.
  assert made.total() == 485
  assert (made & there).total() == 484
