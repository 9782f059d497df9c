"""Tests of the files of a run."""

import csv
import json

import numpy as np
import pytest

from imgbench import checkpoints
from imgbench import errors
from imgbench import paths
from imgbench import run_files
from imgbench.metrics import specs
from tests import raising
from tests import written


def test_only_a_finished_run_of_this_config_has_results(tmp_path):
  (tmp_path / "results.json").write_text('{"a": 1}')
  assert run_files.read_finished_results(tmp_path, "abc") is None
  run_files.write_status(tmp_path, run_files.RUNNING, config_hash="abc")
  assert run_files.read_finished_results(tmp_path, "abc") is None
  run_files.write_status(tmp_path, run_files.DONE, config_hash="abc")
  assert run_files.read_finished_results(tmp_path, "abc") == {"a": 1}
  assert run_files.read_finished_results(tmp_path, "other") is None


@pytest.mark.parametrize("content", ["", "{", "[]", "\udcff"])
@pytest.mark.parametrize("name", ["status.json", "results.json"])
def test_fault_13_damaged_files_of_a_finished_run(tmp_path, name, content):
  (tmp_path / checkpoints.FOLDER / "4").mkdir(parents=True)
  (tmp_path / "results.json").write_text('{"a": 1}')
  run_files.write_status(tmp_path, run_files.DONE, config_hash="abc")
  (tmp_path / name).write_bytes(content.encode(errors="surrogateescape"))
  assert run_files.read_finished_results(tmp_path, "abc") is None


def test_fault_13_a_damaged_file_of_predictions(tmp_path):
  (tmp_path / checkpoints.FOLDER / "4").mkdir(parents=True)
  results = {"toy:test/all/top1_accuracy": {}}
  (tmp_path / "results.json").write_text(json.dumps(results))
  run_files.write_status(tmp_path, run_files.DONE, config_hash="abc")
  (tmp_path / "predictions").mkdir()
  # Files of a killed process, and of a set that is no longer evaluated.
  for name in (".toy-test.npz.1.2.tmp", "toy-old.npz"):
    (tmp_path / "predictions" / name).touch()
  path = tmp_path / "predictions" / "toy-test.npz"
  np.savez(path, top5=np.zeros(9))
  assert run_files.read_finished_results(tmp_path, "abc") == results
  whole = path.read_bytes()
  path.write_bytes(whole[:-9])
  assert run_files.read_finished_results(tmp_path, "abc") is None
  flipped = bytearray(whole)
  flipped[whole.index(b"NUMPY") + 150] ^= 1  # In the zeros.
  path.write_bytes(flipped)
  assert run_files.read_finished_results(tmp_path, "abc") is None


def test_fault_13_missing_files_of_a_finished_run(tmp_path):
  (tmp_path / checkpoints.FOLDER / "4").mkdir(parents=True)
  read = lambda: run_files.read_finished_results(tmp_path, "abc")
  run_files.write_status(tmp_path, run_files.DONE, config_hash="abc")
  assert read() is None
  (tmp_path / "results.json").write_text("{}")
  assert read() == {}
  (tmp_path / "config.json").write_text('{"evaluation": {"sets": {"a": ""}}}')
  assert read() == {}  # The only set was removed.
  (tmp_path / "config.json").write_text('{"evaluation": {"sets": {"a": {}}}}')
  assert read() is None
  text = '{"toy:test/all/top1_accuracy": {}}'
  (tmp_path / "results.json").write_text(text)
  assert read() is None  # The file of predictions is missing.
  (tmp_path / "predictions").mkdir()
  np.savez(tmp_path / "predictions" / "toy-test.npz", top5=np.zeros(9))
  assert read() == json.loads(text)


def test_fault_13_damaged_results_without_a_checkpoint_are_an_error(tmp_path):
  run_files.write_status(tmp_path, run_files.DONE, config_hash="abc")
  (tmp_path / "results.json").write_text("")
  with pytest.raises(errors.RunError):
    run_files.read_finished_results(tmp_path, "abc")


def test_fault_13_a_run_without_checkpoint_may_change_its_config(tmp_path):
  (tmp_path / "config.json").write_text('{"seed": 0}')
  compare = lambda: run_files.check_config(tmp_path, {"seed": 1}, lambda c: {})
  compare()
  folder = tmp_path / checkpoints.FOLDER
  (folder / "4.orbax-checkpoint-tmp").mkdir(parents=True)
  compare()  # The first save was killed.
  (folder / "4").mkdir()
  with pytest.raises(errors.InputError):
    compare()


def test_fault_13_a_finished_run_without_checkpoint_keeps_its_config(tmp_path):
  (tmp_path / "config.json").write_text('{"seed": 0}')
  (tmp_path / "results.json").write_text("{}")
  run_files.write_status(tmp_path, run_files.DONE)
  with pytest.raises(errors.InputError):
    run_files.check_config(tmp_path, {"seed": 1}, lambda c: {})


class FirstOfTwo:
  """Group whose second process sees a folder of its own; for `check_shared`.

  Attributes:
    listed: names in the folder during each exchange.
  """

  first = True

  def __init__(self, folder, shared: bool):
    self._folder = folder
    self._shared = shared
    self.listed = []

  def from_first(self, make):
    return make()

  def exchange(self, value):
    self.listed.append(sorted(path.name for path in self._folder.iterdir()))
    return [value, self._shared]


def test_fault_12_processes_leave_no_file_in_the_workdir(tmp_path):
  group = FirstOfTwo(tmp_path, shared=True)
  with run_files.locked(tmp_path):
    run_files.check_shared(tmp_path, group)
  assert group.listed == [[".lock"]]


def test_fault_12_another_folder_is_recognized(tmp_path, monkeypatch):
  group = FirstOfTwo(tmp_path, shared=False)
  with (
    run_files.locked(tmp_path),
    pytest.raises(errors.InputError, check=raising.about("--workdir")),
  ):
    run_files.check_shared(tmp_path, group)
  assert not run_files._is_marked(tmp_path / "other", "token")


def test_a_second_start_does_not_change_the_lock_file(tmp_path):
  with run_files.locked(tmp_path):
    (tmp_path / ".lock").write_text("token")
    with pytest.raises(errors.InputError):
      run_files.locked(tmp_path).__enter__()
    assert (tmp_path / ".lock").read_text() == "token"


def test_a_file_that_is_not_json_is_named(tmp_path):
  (tmp_path / "checkpoints" / "4").mkdir(parents=True)
  (tmp_path / "config.json").write_text("{")
  check = raising.about(str(tmp_path / "config.json"), expected="JSON")
  with pytest.raises(errors.InputError, check=check):
    run_files.check_config(tmp_path, {}, lambda config: {})


def test_every_start_is_kept(tmp_path):
  environment = {"commit": "1", "command": "run", "jax": "0"}
  for number in "12":
    run_files.write_start(
      tmp_path, {"seed": 0}, {**environment, "started_at": number}
    )
  written = json.loads((tmp_path / "environment.json").read_text())
  assert [start["started_at"] for start in written["starts"]] == ["1", "2"]
  assert written["started_at"] == "2"


# Probabilities of a, b and c; no example is a c.
PROBS = np.array(
  [
    [0.9, 0.05, 0.05],
    [0.9, 0.05, 0.05],
    [0.9, 0.1, 0.0],
    [0.1, 0.85, 0.05],
    [0.52, 0.48, 0.0],
    [0.54, 0.46, 0.0],
  ]
)
LABELS = np.array([0, 0, 1, 1, 0, 1])


@pytest.fixture
def written_run(tmp_path):
  pair = written.evaluation("toy:test", "abc", PROBS, LABELS)
  bare = written.evaluation("toy:bare", "abc", PROBS, LABELS, keep=False)
  written.write(tmp_path, pair, bare)
  return tmp_path


def test_reliability_by_hand(written_run):
  entries = json.loads((written_run / "calibration.json").read_text())
  assert list(entries) == ["toy:test", "toy:bare"]
  scaling, bare = (e.pop("temperature_scaling") for e in entries.values())
  assert entries["toy:test"] == entries["toy:bare"]
  assert [*scaling] == [*bare] == [*specs.SCALING]
  assert {entry["value"] for entry in bare.values()} == {None}
  bins = entries["toy:test"]
  assert bins["binning"] == "equal_width"
  assert bins["edges"] == [i / 15 for i in range(16)]
  # 0.52 is in (7/15, 8/15], 0.54 in the next one, 0.85 and 0.9 in
  # (12/15, 13/15] and (13/15, 14/15].
  filled = {7: 1, 8: 1, 12: 1, 13: 3}
  assert bins["count"] == [filled.get(i, 0) for i in range(15)]
  assert [bins["accuracy"][i] for i in filled] == [1, 0, 1, 2 / 3]
  assert bins["confidence"][13] == pytest.approx(0.9)
  assert bins["accuracy"][0] is None and bins["confidence"][0] is None
  gaps = 0.48 + 0.54 + 0.15 + 3 * (0.9 - 2 / 3)
  assert bins["ece"] == pytest.approx(gaps / 6, abs=1e-6)
  results = json.loads((written_run / "results.json").read_text())
  for name, entry in scaling.items():
    assert entry == results[f"toy:test/all/{name}"]
  assert bins["ece"] == results["toy:test/all/ece"]["value"]


def test_rankings_and_rows_not_finite_have_no_reliability(tmp_path):
  probs = np.concatenate([PROBS, [[np.nan] * 3]])
  pair = written.evaluation("toy:test", "abc", probs, np.append(LABELS, 0))
  nothing = written.evaluation("toy:none", "abc", probs[-1:], LABELS[:1])
  written.write(tmp_path, pair, nothing)
  entries = json.loads((tmp_path / "calibration.json").read_text())
  assert list(entries) == ["toy:test"]
  assert sum(entries["toy:test"]["count"]) == 6
  assert list(json.loads((tmp_path / "curves.json").read_text())) == [
    "toy:test"
  ]


def test_areas_of_classes_are_in_the_table_where_defined(written_run):
  with (written_run / "per_class.csv").open(newline="") as file:
    rows = list(csv.DictReader(file))
  assert list(rows[0])[-2:] == ["average_precision", "roc_auc"]
  of_a, of_b, of_c, *bare = rows
  names = ("correct", "false_positives", "false_negatives", "true_negatives")
  assert [of_a[name] for name in names] == ["3", "2", "0", "1"]
  # b by falling score: 0.85 right, 0.48 wrong, 0.46 right, 0.1 right.
  precisions = [1, 2 / 3, 3 / 4]
  assert float(of_b["average_precision"]) == pytest.approx(np.mean(precisions))
  assert float(of_b["roc_auc"]) == pytest.approx(7 / 9)
  assert (of_c["average_precision"], of_c["roc_auc"]) == ("", "")
  assert {row["average_precision"] for row in bare} == {""}


def test_curves_are_those_of_the_hardest_classes(written_run):
  curves = json.loads((written_run / "curves.json").read_text())
  assert list(curves) == ["toy:test"]
  first, second = curves["toy:test"]
  # a: 0.9 twice right and once wrong at once, 0.54 wrong, 0.52 right.
  assert (first["class_name"], first["positives"]) == ("a", 3)
  assert first["recall"] == [2 / 3, 1]
  assert first["precision"] == [2 / 3, 3 / 5]
  area = 2 / 3 * 2 / 3 + 1 / 3 * 3 / 5
  assert first["average_precision"] == pytest.approx(area)
  assert second["class_index"] == 1
  assert second["recall"] == [1 / 3, 2 / 3, 1]


def test_at_most_so_many_curves(tmp_path):
  rng = np.random.default_rng(0)
  logits = rng.normal(size=(300, 12)) + 2 * np.eye(12)[np.arange(300) % 12]
  probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
  names = [f"c{i}" for i in range(12)]
  pair = written.evaluation("toy:test", names, probs, np.arange(300) % 12)
  written.write(tmp_path, pair)
  (found,) = json.loads((tmp_path / "curves.json").read_text()).values()
  areas = [curve["average_precision"] for curve in found]
  with (tmp_path / "per_class.csv").open(newline="") as file:
    every = [float(r["average_precision"]) for r in csv.DictReader(file)]
  assert areas == sorted(every)[:8]


@pytest.mark.parametrize("text", ["[" * 100_000, "[1]", "3"])
def test_fault_17_a_config_that_is_no_object(tmp_path, text):
  path = tmp_path / "config.json"
  path.write_text(text)
  about = raising.about(str(path))
  with pytest.raises(errors.InputError, check=about):
    run_files.check_config(tmp_path, {}, lambda config: {})


@pytest.mark.parametrize("name", ["x" * 300, "x/" * 3000, "a\0b"])
def test_fault_17_names_that_no_file_can_have(name):
  about = raising.about("--workdir")
  with pytest.raises(errors.InputError, check=about) as caught:
    paths.as_path(name, "--workdir")
  assert len(str(caught.value)) < 200


def test_files_of_a_run_have_no_step(tmp_path):
  (tmp_path / "mail@2").mkdir()
  for run in (tmp_path, tmp_path / "absent", tmp_path / "mail@2"):
    assert run_files.reach_finished(str(run)) == run
  given = f"{tmp_path}@12"
  about = raising.about("--workdir", given=given)
  with pytest.raises(errors.InputError, check=about) as caught:
    run_files.reach_finished(given)
  assert f"evaluate {given}" in caught.value.fix
