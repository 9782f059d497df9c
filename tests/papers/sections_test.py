"""Tests of the classifiers and images of sections."""

import numpy as np
import pytest

from imgbench import errors
from imgbench.experiments.benchmarks.paper_scripts import clone as testbed_clone
from imgbench.papers import sections
from imgbench.papers.readers import annotations_pickle
from imgbench.papers.readers import clone
from imgbench.papers.readers import datasets
from imgbench.papers.readers import people
from imgbench.tables import frame
from tests import raising
from tests.papers import human_files

VAL, V2 = datasets.VALIDATION, datasets.MATCHED_FREQUENCY
V20K = datasets.VALIDATION_20K
STRICT = "multilabel_accuracy.icml2020"


def _files(
  tmp_path,
  change=None,
  v2_ids=human_files.VERSION_2,
  other="other",
  flags=(),
  sets=(VAL, V2),
):
  """The study, the reviews and a clone that has the models and another.

  Flags of your models may name {right}, ids of the validation images.
  """
  value = human_files.content()
  if change is not None:
    change(value)
  path = human_files.write_pickle(tmp_path / "h.pickle", value=value)
  reviews, study = annotations_pickle.read(path)
  testbed_clone.write_class_info(tmp_path)
  for name in sets:
    ids, first = (v2_ids, 7) if name == V2 else (human_files.VALIDATION, 0)
    # In another order than in the file of human labels.
    order = np.arange(len(ids))[::-1]
    labels = np.array(human_files.CLASSES)[: len(ids)]
    testbed_clone.write_dataset(
      tmp_path, name, [ids[i] for i in order], labels[order]
    )
    for model in (*human_files.MODELS, other):
      top = [
        human_files.named_by(model, first + i, label)
        if model != other
        else label
        for i, label in enumerate(labels)
      ]
      ranking = np.array(top)[order, None] + np.arange(5)[None, :]
      testbed_clone.write_predictions(tmp_path, name, model, ranking)
  right = tmp_path / "right.npy"
  np.save(right, np.array(human_files.CLASSES)[::-1, None])
  own = [flag.format(right=right) for flag in flags]
  return study, reviews, clone.read(tmp_path, own=own)


def _strict(section, model, dataset, subset="all"):
  what = {"dataset": dataset, "subset": subset, "metric": STRICT}
  return frame.index_by_model(section.rows, **what)[model]


def test_models_of_the_file_join_the_humans(tmp_path):
  study, reviews, collection = _files(tmp_path)
  section = sections.build_human(study, reviews, collection)
  assert section.names(people.MODEL) == list(human_files.MODELS)
  assert section.names(people.PERSON) == list(human_files.PEOPLE)
  assert section.names(people.ENSEMBLE) == [
    "human_majority",
    "models_majority",
    "people_majority",
  ]
  assert section.fitted == set(human_files.MODELS)
  (note,) = [n for n in section.notes if "in the clone" in n]
  assert note.startswith("3 models") and note.endswith("the same classes")


def test_models_in_both_file_and_clone_are_compared(tmp_path):
  def change(value):
    entry = value["annot_data"]["vgg16"][human_files.VALIDATION[1]]
    entry["label"] = human_files.wnid(3)

  study, reviews, collection = _files(tmp_path, change)
  section = sections.build_human(study, reviews, collection)
  assert any("at most 1 (vgg16)" in note for note in section.notes)
  # Image 1 is right in the clone and wrong in the file.
  assert _strict(section, "vgg16", VAL).correct == 3


def test_without_models_in_the_file_the_clones_are_used(tmp_path):
  def change(value):
    for model in human_files.MODELS:
      del value["annot_data"][model]

  study, reviews, collection = _files(tmp_path, change)
  section = sections.build_human(study, reviews, collection)
  assert section.names(people.MODEL) == [
    "alexnet",
    "other",
    "resnet50",
    "vgg16",
  ]
  assert section.fitted == {"alexnet", "other", "resnet50", "vgg16"}
  assert _strict(section, "other", VAL).value == 1
  assert _strict(section, "resnet50", VAL).correct == 4
  assert _strict(section, "resnet50", V2).correct == 3
  without = sections.build_human(study, reviews, None)
  assert without.names(people.MODEL) == [] and without.fitted == frozenset()


def test_clone_that_lacks_labeled_images(tmp_path):
  def change(value):
    for model in human_files.MODELS:
      del value["annot_data"][model]

  study, reviews, collection = _files(
    tmp_path, change, human_files.VERSION_2[:5]
  )
  section = sections.build_human(study, reviews, collection)
  assert any(f"{V2}: " in n and "1 of the 6" in n for n in section.notes)
  models = {r.model for r in section.results if r.dataset == V2}
  assert "resnet50" not in models and "human_a" in models


def test_subsets_have_the_fast_images(tmp_path):
  study, reviews, _ = _files(tmp_path)
  section = sections.build_human(study, reviews, None)
  for dataset in (VAL, V2):
    fast = section.subsets[dataset]["fast"]
    labels = section.images[dataset].dataset.labels
    assert list(section.subsets[dataset]) == [
      "all",
      *datasets.SUBSETS,
      "fast",
    ]
    assert (
      section.subsets[dataset]["dog"].sum()
      == ((labels > 150) & (labels < 269)).sum()
    )
    for name in ("human_b", "alexnet", "people_majority"):
      right = section.right(dataset, STRICT)[name]
      value = _strict(section, name, dataset, "fast")
      assert (value.correct, value.n) == ((right & fast).sum(), fast.sum())


def test_no_times_no_fast_images(tmp_path):
  def change(value):
    for person in human_files.PEOPLE:
      for entry in value["annot_data"][person].values():
        entry.pop("extra_info")

  study, reviews, _ = _files(tmp_path, change)
  section = sections.build_human(study, reviews, None)
  assert "fast" not in section.subsets[VAL]
  assert "fast" not in {*section.rows.subset}


@pytest.mark.parametrize("metric", [STRICT, "multilabel_accuracy.lenient_mean"])
def test_right_is_what_the_rows_count(tmp_path, metric):
  _, reviews, collection = _files(tmp_path)
  section = sections.build_reviewed(collection, reviews)
  for dataset in (VAL, V2):
    for name, right in section.right(dataset, metric).items():
      for subset, mask in section.subsets[dataset].items():
        what = {"dataset": dataset, "subset": subset, "metric": metric}
        row = frame.index_by_model(section.rows, **what)[name]
        assert row.correct == (right & mask).sum()
        assert row.n == mask.sum()
  hits = section.hits(metric, only_all=True)
  assert [list(h.subsets) for h in hits] == [["all"], ["all"]]
  answers = section.answers(VAL, metric)
  assert answers.models_right.shape == (4, 6)
  assert answers.people_right.shape == (0, 6)
  assert section.names(sections.OWN) == []


@pytest.mark.parametrize(
  ("name", "kind"),
  [
    ("human_a", "person"),
    ("human_majority", "majority"),
    ("models_majority", "models_majority"),
    ("people_majority", "people_majority"),
  ],
)
def test_own_models_with_names_of_others_are_refused(tmp_path, name, kind):
  files = _files(tmp_path, flags=[f"{name}@{VAL}={{right}}"])
  study, reviews, collection = files
  check = raising.about(str(tmp_path / "right.npy"), given=name)
  with pytest.raises(errors.InputError, match=kind, check=check):
    sections.build_human(study, reviews, collection)
  if name.endswith("s_majority"):
    with pytest.raises(errors.InputError, match=kind, check=check):
      sections.build_reviewed(collection, reviews)


def test_own_models_with_names_of_the_files_models_are_refused(tmp_path):
  def change(value):
    value["annot_data"]["dpn107"] = value["annot_data"]["vgg16"]

  files = _files(tmp_path, change, flags=[f"dpn107@{VAL}={{right}}"])
  check = raising.about(str(tmp_path / "right.npy"), given="dpn107")
  with pytest.raises(errors.InputError, match="a model", check=check):
    sections.build_human(*files)


@pytest.mark.parametrize("name", ["models_majority", "human_a"])
def test_files_of_the_clone_with_names_of_others_are_refused(tmp_path, name):
  study, reviews, collection = _files(tmp_path, other=name)
  path = tmp_path / "data/predictions" / VAL / f"{name}.npy"
  check = raising.about(str(path), given=name)
  with pytest.raises(errors.InputError, check=check):
    sections.build_human(study, reviews, collection)


def test_majorities_are_not_given_in_the_file(tmp_path):
  def change(value):
    value["annot_data"]["people_majority"] = value["annot_data"]["human_a"]

  study, reviews, _ = _files(tmp_path, change)
  where = f"{tmp_path / 'h.pickle'}: annot_data"
  check = raising.about(where, given="people_majority")
  with pytest.raises(errors.InputError, check=check):
    sections.build_human(study, reviews, None)


def test_own_models_without_predictions_are_noted(tmp_path):
  study, reviews, collection = _files(
    tmp_path,
    flags=[f"mine@{V20K}={{right}}", f"other_one@{VAL}={{right}}"],
    sets=(VAL, V20K, V2),
  )
  section = sections.build_human(study, reviews, collection)
  assert section.names(sections.OWN) == ["other_one"]
  (note,) = [n for n in section.notes if n.startswith("mine ")]
  assert note.endswith(f"{VAL} or {V2}")


@pytest.mark.parametrize(
  ("flags", "shown"),
  [
    ([], VAL),
    ([f"mine@{V20K}={{right}}"], V20K),
    ([f"mine@{name}={{right}}" for name in (VAL, V20K)], VAL),
  ],
)
def test_sets_of_equal_images_are_shown_once(tmp_path, flags, shown):
  _, reviews, collection = _files(tmp_path, flags=flags, sets=(VAL, V20K, V2))
  section = sections.build_reviewed(collection, reviews)
  assert list(section.images) == [VAL, V20K, V2]
  assert section.shown == (shown, V2)
  hidden = V20K if shown == VAL else VAL
  (note,) = [n for n in section.notes if f"images as {shown};" in n]
  assert note.startswith(f"{hidden}:")
  assert {*section.rows.dataset} == {VAL, V20K, V2}
  hits = section.hits(STRICT, only_all=True)
  assert [found.dataset for found in hits] == [shown, V2]
