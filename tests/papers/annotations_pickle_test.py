"""Tests of reading human_accuracy.pickle, above all of refused files."""

import collections
import os
import pathlib
import pickle
import random
import resource

import numpy as np
import pytest

from imgbench import errors
from imgbench.papers.readers import annotations_pickle
from imgbench.papers.readers import datasets
from imgbench.papers.readers import people
from tests import raising
from tests.data import shared_files
from tests.papers import hostile_pickles
from tests.papers import human_files

PROTOCOLS = (2, 3, 4, 5)
PLAIN = "a pickle of plain containers, strings and numbers"


class _Touch:
  """Creates a file when it is unpickled as usual."""

  def __init__(self, path):
    self._command = f"touch {path}"

  def __reduce__(self):
    return os.system, (self._command,)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_malicious_pickle_is_refused_untouched(tmp_path, protocol):
  victim = tmp_path / "victim"
  value = human_files.content() | {"annot_data": _Touch(victim)}
  path = human_files.write_pickle(tmp_path / "bad.pickle", protocol, value)
  check = raising.about(str(path), expected=PLAIN)
  with pytest.raises(errors.InputError, match="system", check=check):
    annotations_pickle.load(path)
  assert not victim.exists()
  # A plain unpickler does run them.
  pickle.loads(path.read_bytes())
  assert victim.exists()


@pytest.mark.parametrize(
  "text",
  [
    b"cbuiltins\neval\n(S'open(%r, \"w\")'\ntR.",
    b"c__builtin__\neval\n(S'open(%r, \"w\")'\ntR.",
    b"(S'touch %s'\nios\nsystem\n.",
    b"cos\nsystem\n(S'touch %s'\ntR.",
    b"cbuiltins\ngetattr\n(cos\n\nS'system'\ntR(S'touch %s'\ntR.",
    b"\x80\x04\x8c\x08builtins\x8c\x04exec\x93(\x8c\x041==1tR.",
    b"\x80\x04\x8c\x02os\x8c\x0bpath.isfile\x93.",
    b"\x80\x02ccollections\nOrderedDict.__init__\n.",
  ],
)
def test_every_way_to_name_a_function_is_refused(tmp_path, text):
  victim = tmp_path / "victim"
  text = text.replace(b"%r", repr(str(victim)).encode())
  path = tmp_path / "bad.pickle"
  path.write_bytes(text.replace(b"%s", str(victim).encode()))
  check = raising.about(str(path), expected=PLAIN)
  with pytest.raises(errors.InputError, check=check):
    annotations_pickle.load(path)
  assert not victim.exists()


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
  "value",
  [
    np.float64(1.5),
    np.str_("n01440764"),
    np.bool_(True),
    np.arange(3),
    collections.Counter("ab"),
    collections.defaultdict(np.zeros),
    range(3),
    len,
    errors.RunError("x"),
    pickle.PickleBuffer,
  ],
  ids=lambda value: type(value).__name__,
)
def test_what_is_no_plain_data_is_refused(tmp_path, value, protocol):
  path = tmp_path / "x.pickle"
  path.write_bytes(pickle.dumps({"a": value}, protocol))
  check = raising.about(str(path), expected=PLAIN)
  with pytest.raises(errors.InputError, match="plain data", check=check):
    annotations_pickle.load(path)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_plain_data_is_read(tmp_path, protocol):
  value = {
    "containers": [(), [1], {2}, frozenset({3}), {"a": {(): None}}],
    "numbers": [1, -(2**70), 1.5, True, 2 + 0.0],
    "text": "ä",
    "ordered": collections.OrderedDict(b=1, a=2),
    "default": collections.defaultdict(list, a=[1]),
    "defaults": collections.defaultdict(dict, {"x": {}}),
  }
  path = tmp_path / "x.pickle"
  path.write_bytes(pickle.dumps(value, protocol))
  found = annotations_pickle.load(path)
  assert found == value
  assert list(found["ordered"]) == ["b", "a"]


def test_types_of_the_interpreter_cannot_be_changed(tmp_path):
  """BUILD sets attributes of what it is given, also of a class."""
  path = tmp_path / "x.pickle"
  path.write_bytes(b"\x80\x02ccollections\ndefaultdict\n}X\x01\0\0\0aK\x01sb.")
  with pytest.raises(errors.InputError):
    annotations_pickle.load(path)
  assert not hasattr(collections.defaultdict, "a")


@pytest.mark.parametrize(
  "data", [b"", b"hello", b"\x80\x05\x95", b"\x80\x09.", b"]" * 9, b"h\x05."]
)
def test_what_is_no_pickle_is_refused(tmp_path, data):
  path = tmp_path / "x.pickle"
  path.write_bytes(data)
  check = raising.about(str(path), expected=PLAIN)
  with pytest.raises(errors.InputError, check=check):
    annotations_pickle.load(path)
  path = tmp_path / "none"
  check = raising.about(str(path), expected="a pickle")
  with pytest.raises(errors.InputError, check=check):
    annotations_pickle.load(path)


def _refused(path) -> str:
  """Returns the one line about a refused file; this process stays small."""
  before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  check = raising.about(str(path), expected=PLAIN)
  with pytest.raises(errors.InputError, check=check) as raised:
    annotations_pickle.read(path)
  taken = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
  assert taken < 100_000  # KiB
  line = str(raised.value)
  assert len(line.splitlines()) == 1 and line.isprintable(), line
  return line


def test_fault_21_every_kind_of_hostile_pickle_is_refused(tmp_path):
  victim = tmp_path / "victim"
  hostile = hostile_pickles.kinds(str(victim))
  assert len(hostile) + len(hostile_pickles.COSTLY) >= 59
  path = tmp_path / "x.pickle"
  for name, data in hostile.items():
    path.write_bytes(data)
    assert _refused(path), name
    assert not victim.exists(), name


def test_fault_21_a_file_that_never_ends_is_refused():
  """130 bytes whose tuple takes 2**60 hashes."""
  folder = shared_files.shared_path("data", "faults", "pickles")
  assert "CPU time" in _refused(folder / "exp_hash_tuple.pickle")


@pytest.mark.slow
def test_fault_21_files_that_grow_without_bound_are_refused(tmp_path):
  folder = shared_files.shared_path("data", "faults", "pickles")
  for name in ("id_laughs", "labels_list_laughs"):
    _refused(folder / f"{name}.pickle")
  path = tmp_path / "x.pickle"
  for data in hostile_pickles.COSTLY.values():
    path.write_bytes(data)
    _refused(path)


@pytest.mark.slow
def test_fault_21_random_damage_is_refused_or_read(tmp_path):
  """Either the same kind of content or one line; nothing else."""
  whole = pickle.dumps(human_files.content(), 2)
  rng = random.Random(0)
  path = tmp_path / "x.pickle"
  refused = 0
  for _ in range(50):
    data = bytearray(whole)
    for _ in range(rng.randint(1, 20)):
      data[rng.randrange(len(data))] = rng.randrange(256)
    path.write_bytes(data[: rng.randint(1, 2 * len(data))])
    try:
      annotations_pickle.read(path)
    except errors.InputError as error:
      refused += 1
      assert len(str(error).splitlines()) == 1
  assert refused


def test_fault_21_what_is_no_file_is_refused(tmp_path):
  path = tmp_path / "fifo"
  os.mkfifo(path)
  for given in (path, tmp_path, pathlib.Path("/dev/zero")):
    check = raising.about(str(given), expected="a pickle")
    with pytest.raises(errors.InputError, check=check):
      annotations_pickle.load(given)


def test_fault_21_the_child_ends_with_what_it_read(tmp_path):
  """No process of the user is left, not even a zombie."""
  before = _find_children()  # of other tests
  path = human_files.write_pickle(tmp_path / "h.pickle")
  annotations_pickle.load(path)
  path.write_bytes(hostile_pickles.kinds("x")["deep lists"])
  _refused(path)
  assert _find_children() <= before


def _find_children() -> set[str]:
  """Returns the pids of the children of all threads, zombies too."""
  threads = pathlib.Path("/proc/self/task").glob("*/children")
  return {pid for path in threads for pid in path.read_text().split()}


@pytest.mark.parametrize(
  ("data", "match"),
  [
    (b"P1\n.", "persistent ids"),
    (b"\x80\x02K\x01Q.", "persistent ids"),
    (b"\x80\x02\x82\x01.", "extension"),
    (b"version https://git-lfs.github.com/spec/v1\n", "git lfs"),
    (b"\x80\x04\x8c\x04a\nb\n\x8c\x01c\x93.", r"a b \.c"),
  ],
)
def test_errors_are_one_line(tmp_path, data, match):
  path = tmp_path / "x.pickle"
  path.write_bytes(data)
  with pytest.raises(errors.InputError, match=match) as raised:
    annotations_pickle.load(path)
  assert "\n" not in str(raised.value)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_read(tmp_path, protocol):
  path = human_files.write_pickle(tmp_path / "h.pickle", protocol)
  reviews, study = annotations_pickle.read(path)
  assert reviews.labels[human_files.VALIDATION[2]] == {
    "wrong": (12,),
    "unclear": (11,),
    "correct": (10,),
  }
  assert set(human_files.MORE) <= set(reviews.labels)
  assert reviews.problematic == {
    human_files.VALIDATION[human_files.PROBLEMATIC],
    human_files.VERSION_2[human_files.PROBLEMATIC],
  }
  assert reviews.imagenet_m is None and reviews.tells_states
  assert reviews.notes == ()
  assert study.notes == ("fv_4k: left out, has labels of 1 of the 12 images",)
  assert study.kinds == {
    "alexnet": people.MODEL,
    "human_a": people.PERSON,
    "human_b": people.PERSON,
    "human_c": people.PERSON,
    "human_majority": people.ENSEMBLE,
    "resnet50": people.MODEL,
    "vgg16": people.MODEL,
  }
  images = study.image_sets[datasets.VALIDATION]
  assert images.image_ids == human_files.VALIDATION[:6]
  np.testing.assert_array_equal(images.labels, human_files.CLASSES[:6])
  images = study.image_sets[datasets.MATCHED_FREQUENCY]
  assert images.image_ids == human_files.VERSION_2[:6]
  np.testing.assert_array_equal(
    study.named[datasets.VALIDATION]["human_b"],
    [153, 162, 10, 700, 701, 702],
  )
  np.testing.assert_array_equal(
    study.seconds[datasets.VALIDATION], [20, 90, 20, 90, 20, 90]
  )


def test_labels_that_people_were_graded_by_come_first(tmp_path):
  value = human_files.content()
  image = human_files.VALIDATION[0]
  value["image_labels"][image] = {"correct": [human_files.wnid(5)]}
  path = human_files.write_pickle(tmp_path / "h.pickle", value=value)
  reviews, _ = annotations_pickle.read(path)
  assert reviews.labels[image] == {"correct": (5,)}


def test_other_subsets_are_noted(tmp_path):
  value = human_files.content()
  value["split_wnids"][("object",)].discard(human_files.wnid(700))
  del value["split_wnids"][("organism", "dog")]
  path = human_files.write_pickle(tmp_path / "h.pickle", value=value)
  reviews, _ = annotations_pickle.read(path)
  assert len(reviews.notes) == 2
  assert f"{path}: 1 " in reviews.notes[0]
  assert human_files.wnid(700) in reviews.notes[0]


def test_initial_labels_of_another_structure_are_left_out(tmp_path):
  value = human_files.content()
  value["initial_annots"] = {"x": ["n01440764"]}
  path = human_files.write_pickle(tmp_path / "h.pickle", value=value)
  reviews, _ = annotations_pickle.read(path)
  assert set(reviews.labels) == set(value["image_labels"])
  assert "initial_annots['x']: " in reviews.notes[0]


def test_images_of_no_known_set_are_noted(tmp_path):
  value = human_files.content()
  value["all_candidates"] = list(human_files.VERSION_2[1:])
  path = human_files.write_pickle(tmp_path / "h.pickle", value=value)
  _, study = annotations_pickle.read(path)
  assert f"{path}: 1 " in study.notes[-1]


def _broken(change):
  value = human_files.content()
  change(value)
  return value


FIRST = human_files.VALIDATION[0]


@pytest.mark.parametrize(
  ("change", "setting", "given"),
  [
    (lambda v: v.pop("wnid_map"), "", "no wnid_map"),
    (lambda v: v.update(image_map=[1]), ": image_map", "list"),
    (
      lambda v: v["labeled_images"].append("x"),
      ": labeled_images",
      "1 others, e.g. 'x'",
    ),
    (
      lambda v: v["labeled_images"].append(FIRST),
      ": labeled_images",
      "15 entries for 14 images",
    ),
    (
      lambda v: v["labeled_images"].append(3),
      ": labeled_images: an id",
      "int",
    ),
    (
      lambda v: v["labeled_images"].append([3]),
      ": labeled_images: an id",
      "list",
    ),
    (lambda v: v["labeled_images"].clear(), ": labeled_images", "none"),
    (
      lambda v: [e.update(problematic=True) for e in v["image_map"].values()],
      ": labeled_images",
      "14 problematic ones",
    ),
    (
      lambda v: v.update(all_candidates=[[1]]),
      ": all_candidates: an id",
      "list",
    ),
    (
      lambda v: v.update(all_candidates={1: 2}),
      ": all_candidates: an id",
      "int",
    ),
    (
      lambda v: v["split_wnids"].update({("object",): None}),
      ": split_wnids[('object',)]",
      "NoneType",
    ),
    (
      lambda v: v["split_wnids"].update({("object",): [[1]]}),
      ": split_wnids[('object',)]: an id",
      "list",
    ),
    (
      lambda v: v["split_wnids"].update({("object",): [1, 2]}),
      ": split_wnids[('object',)]: an id",
      "int",
    ),
    (
      lambda v: v["wnid_map"].update({FIRST: ["n0"]}),
      f": wnid_map['{FIRST}']",
      "list",
    ),
    (
      lambda v: v["wnid_map"].update({FIRST: "n0"}),
      f": wnid_map['{FIRST}']: wnid",
      "'n0'",
    ),
    (
      lambda v: v["image_labels"][FIRST].update(correct=["n0"]),
      f": image_labels['{FIRST}']['correct']: wnid",
      "'n0'",
    ),
    (
      lambda v: v["image_map"][FIRST].update(id="y"),
      f": image_map['{FIRST}']['id']",
      "'y'",
    ),
    (
      lambda v: v["image_map"][FIRST].update(problematic="no"),
      f": image_map['{FIRST}']['problematic']",
      "str",
    ),
    (
      lambda v: v["annot_data"].update(human_a=[]),
      ": annot_data['human_a']",
      "list",
    ),
    (lambda v: v["annot_data"].clear(), ": annot_data", "none"),
    (
      lambda v: v["annot_data"]["vgg16"].update({FIRST: {"name": 1}}),
      ": annot_data['vgg16']",
      "no label",
    ),
  ],
)
def test_other_structures_are_refused(tmp_path, change, setting, given):
  path = human_files.write_pickle(tmp_path / "h.pickle", value=_broken(change))
  check = raising.about(f"{path}{setting}", given=given)
  with pytest.raises(errors.InputError, check=check):
    annotations_pickle.read(path)


def test_another_pickle_is_refused(tmp_path):
  path = human_files.write_pickle(tmp_path / "h.pickle", value=[1])
  check = raising.about(str(path), expected="a dictionary", given="list")
  with pytest.raises(errors.InputError, check=check):
    annotations_pickle.read(path)
