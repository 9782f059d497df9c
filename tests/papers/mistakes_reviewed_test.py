import collections
import json
import pathlib

import pytest

from imgbench import errors
from imgbench.labels import classes
from imgbench.papers.mistakes import counted
from imgbench.papers.mistakes import reviewed as mistakes
from tests import raising
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
  assert not mistakes.find_new_categories([read])


def test_a_new_category_has_its_own_name(tmp_path):
  read = reviewed(tmp_path, {name(1): entry(1, "Camera error", "Major")})
  assert mistakes.find_new_categories([read]) == ["Camera error"]


@pytest.mark.parametrize(
  ("content", "setting", "given"),
  [
    ("[]", "", "a list"),
    ("{}", "", "none"),
    ("{", "", None),
    ('{"a": 1, "a": 2}', ", 'a'", None),
    (
      {"val_1.JPEG": entry(1, FINE, "Major")},
      ": file_name",
      "'val_1.JPEG'",
    ),
    *(
      ({name(1): fields}, f": {name(1)}", repr(fields))
      for fields in (
        {},
        [1],
        entry(1.0, FINE, "Major"),
        entry(True, FINE, "Major"),
        entry(1, None, "Major"),
      )
    ),
    (
      {name(1): entry(1000, FINE, "Major")},
      f": {name(1)}: top_prediction",
      1000,
    ),
    ({name(1): entry(-1, FINE, "Major")}, f": {name(1)}: top_prediction", -1),
    (
      {name(1): entry(1, FINE, "Severe")},
      f": {name(1)}: failure severity",
      "'Severe'",
    ),
  ],
)
def test_mistakes_that_are_refused(tmp_path, content, setting, given):
  path = write(tmp_path, content)
  check = raising.about(f"{path}{setting}", given=given)
  with pytest.raises(errors.InputError, check=check):
    mistakes.read("net", path)


def test_confusions(tmp_path):
  wnids = classes.imagenet_classes().wnids
  entries = [[wnids[3], wnids[1], 1], [wnids[4], wnids[9], 5]]
  path = write(tmp_path, entries)
  assert mistakes.read_confusions(path) == ((4, 9, 5), (1, 3, 1))


ENTRY = "[WordNet id, WordNet id, a number above 0]"


@pytest.mark.parametrize(
  ("entries", "expected"),
  [
    ([["n01440764", "n01443537"]], ENTRY),
    ([["n01440764", "n01443537", 0]], ENTRY),
    ([["n01440764", "n01443537", 1.0]], ENTRY),
    ([[1, "n01443537", 1]], ENTRY),
    (["n01440764"], ENTRY),
    ([["n01440764", "n01440764", 1]], "two classes"),
    (
      [["n01440764", "n01443537", 1], ["n01443537", "n01440764", 1]],
      "each pair once",
    ),
  ],
)
def test_confusions_that_are_refused(tmp_path, entries, expected):
  path = write(tmp_path, entries)
  check = raising.about(
    f"{path}, element {len(entries) - 1}",
    expected=expected,
    given=repr(entries[-1]),
  )
  with pytest.raises(errors.InputError, check=check):
    mistakes.read_confusions(path)


def test_other_confusions_and_classes_are_refused(tmp_path):
  path = write(tmp_path, "{}")
  check = raising.about(str(path), expected="a list", given="a dict")
  with pytest.raises(errors.InputError, check=check):
    mistakes.read_confusions(path)
  path = write(tmp_path, [["n01440764", "n00000001", 1]])
  check = raising.about(f"{path}, element 0: wnid", given="'n00000001'")
  with pytest.raises(errors.InputError, check=check):
    mistakes.read_confusions(path)


def test_a_clone_is_found(tmp_path):
  folder = tmp_path / "metadata"
  check = raising.about("--repo", given=tmp_path)
  with pytest.raises(errors.InputError, match=mistakes.URL, check=check):
    mistakes.find(tmp_path)
  folder.mkdir()
  for model in ("vit3b", "greedy_soups"):
    (folder / f"{model}_mistakes.json").touch()
  with pytest.raises(errors.InputError, match="confusion", check=check):
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
  assert not mistakes.find_new_categories([read])


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
