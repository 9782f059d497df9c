"""Tests of whole runs in this process: their files, and resuming."""

import contextlib
import csv
import json
import shutil

import jax
import ml_collections
import numpy as np
import pytest

from imgbench import checkpoints
from imgbench import config as config_lib
from imgbench import config_utils
from imgbench import errors
from imgbench import interrupts
from imgbench import run_files
from imgbench.configs import tiny
from imgbench.parallel import determinism
from imgbench.train import loop
from imgbench.train import setup
from imgbench.train import stepper
from tests import raising
from tests.train import processes

VALIDATION = "scenes:validation"


def quick_config():
  """Without the report, which takes longer than the tiny run itself."""
  config = tiny.get_config()
  config.logging.report = False
  return config


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
  """A finished run; tests only read it."""
  workdir = tmp_path_factory.mktemp("finished")
  results = loop.train_and_evaluate(tiny.get_config(), str(workdir))
  return workdir, results


@pytest.mark.smoke
def test_leaves_the_files_of_a_run(finished):
  workdir, results = finished
  for name in (
    "config.json",
    "environment.json",
    "metrics.jsonl",
    "results.json",
    "warnings.json",
    "per_class.csv",
    "confusion.npz",
    "calibration.json",
    "curves.json",
    "report.html",
    "status.json",
    "predictions/scenes-validation.npz",
    "predictions/scenes-v2.npz",
  ):
    assert (workdir / name).stat().st_size > 0, name
  assert list(workdir.glob("events.*"))
  assert list(workdir.glob("*.png"))
  assert processes.read_json(workdir, "results.json") == results
  assert processes.read_json(workdir, "status.json")["state"] == "done"
  described = processes.read_json(workdir, "environment.json")
  assert set(described["synthetic"]) == {
    "scenes:train",
    "scenes:v2",
    VALIDATION,
  }


@pytest.mark.smoke
def test_every_example_is_evaluated_once(finished):
  workdir, results = finished
  # 72 examples in batches of 32: the last batch is padded.
  assert results[f"{VALIDATION}/all/top1_accuracy"]["n"] == 72
  with np.load(workdir / "predictions/scenes-validation.npz") as predictions:
    assert len(set(predictions["image_id"])) == 72
    hits = predictions["top5"][:, 0] == predictions["label"]
    top5 = (predictions["top5"] == predictions["label"][:, None]).any(axis=1)
  assert results[f"{VALIDATION}/all/top1_accuracy"]["correct"] == hits.sum()
  assert results[f"{VALIDATION}/all/top5_accuracy"]["correct"] == top5.sum()


def test_files_agree_with_each_other(finished):
  workdir, results = finished
  with np.load(workdir / "confusion.npz") as matrices:
    matrix = matrices["scenes-validation"]
    names = matrices["scenes-validation.class_names"]
    masks = matrices["scenes-validation.subsets"]
    subsets = matrices["scenes-validation.subset_names"].tolist()
  for subset, mask in zip(subsets, masks, strict=True):
    entry = results[f"{VALIDATION}/{subset}/top1_accuracy"]
    assert entry["n"] == matrix[mask].sum()
  assert len(subsets) == len({key.split("/")[1] for key in results}) - 1
  with np.load(workdir / "predictions/scenes-validation.npz") as predictions:
    counted = np.sum(~predictions["left_out"])
  reviewed = results[f"{VALIDATION}/all/multilabel_accuracy.icml2020"]
  assert reviewed["n"] == counted < 72
  top1 = results[f"{VALIDATION}/all/top1_accuracy"]
  assert matrix.sum() == 72 and np.trace(matrix) == top1["correct"]
  with (workdir / "per_class.csv").open() as file:
    rows = [row for row in csv.DictReader(file) if row["dataset"] == VALIDATION]
  assert [row["class_name"] for row in rows] == list(names)
  assert [int(row["n"]) for row in rows] == matrix.sum(axis=1).tolist()
  last = processes.read_metrics(workdir)[-1]
  assert last["step"] == 16
  assert last["val/top1_accuracy"] == top1["value"]


def test_every_accuracy_has_an_interval(finished):
  _, results = finished
  for key, entry in results.items():
    name, subset, metric = key.split("/")
    assert name.count(":") == 1 and subset
    if "accuracy" in metric and entry["value"] is not None:
      assert entry["ci_low"] <= entry["value"] <= entry["ci_high"]
      assert entry["ci_method"] and entry["definition"]
  assert f"{VALIDATION}/dog/multilabel_accuracy.tfds" in results
  assert "scenes:v2/all/multilabel_accuracy.tfds" not in results


def test_metrics_have_one_record_per_step_in_order(finished):
  workdir, _ = finished
  steps = [record["step"] for record in processes.read_metrics(workdir)]
  assert steps == [3, 6, 8, 9, 12, 15, 16]


def test_a_finished_run_gives_its_results_again(finished):
  workdir, results = finished
  before = (workdir / "metrics.jsonl").stat().st_mtime_ns
  assert loop.train_and_evaluate(tiny.get_config(), str(workdir)) == results
  assert (workdir / "metrics.jsonl").stat().st_mtime_ns == before


def test_fault_13_damaged_results_are_written_again(finished, tmp_path):
  workdir, results = finished
  folder = tmp_path / "run"
  shutil.copytree(workdir, folder)
  (folder / "results.json").write_text("")
  assert loop.train_and_evaluate(quick_config(), str(folder)) == results
  assert processes.read_json(folder, "results.json") == results


def test_keeps_the_newest_checkpoints(finished):
  workdir, _ = finished
  best = processes.read_json(workdir, "status.json")["best"]["step"]
  kept = {int(path.name) for path in (workdir / "checkpoints").glob("[0-9]*")}
  assert kept == {12, 16} | {best}


@pytest.mark.smoke
def test_a_longer_run_goes_on_from_the_last_checkpoint(tmp_path):
  config = quick_config()
  # A constant rate: the first steps do not depend on how many there are.
  config.schedule.name = "constant"
  config.steps.total = "8 steps"
  loop.train_and_evaluate(config, str(tmp_path / "grown"))
  config.steps.total = "12 steps"
  grown = loop.train_and_evaluate(config, str(tmp_path / "grown"))
  whole = loop.train_and_evaluate(config, str(tmp_path / "whole"))
  assert grown == whole
  # The shorter run also logged its last step.
  records = {r["step"]: r for r in processes.read_metrics(tmp_path / "grown")}
  for record in processes.read_metrics(tmp_path / "whole")[-1:]:
    assert records[record["step"]]["val/nll"] == record["val/nll"]


@pytest.mark.parametrize(
  "key", ["data.balanced", "loss.class_weights"], ids=["balanced", "weights"]
)
def test_options_for_rare_classes_resume_to_the_same_bits(tmp_path, key):
  config = quick_config()
  config.schedule.name = "constant"
  config.data.options.update(train_examples=480, imbalance=5)
  config.augment.update(mixup=0.5)
  value = {"data.balanced": True, "loss.class_weights": "balanced"}[key]
  config.update_from_flattened_dict({key: value})
  config.steps.total = "8 steps"
  loop.train_and_evaluate(config, str(tmp_path / "grown"))
  config.steps.total = "12 steps"
  grown = loop.train_and_evaluate(config, str(tmp_path / "grown"))
  assert grown == loop.train_and_evaluate(config, str(tmp_path / "whole"))
  # The options change what is trained, so a run keeps them.
  config.update_from_flattened_dict({key: type(value)()})
  with pytest.raises(errors.InputError, match=key):
    loop.train_and_evaluate(config, str(tmp_path / "grown"))
  other = loop.train_and_evaluate(config, str(tmp_path / "plain"))
  name = "scenes:validation/all/nll"
  assert other[name]["value"] != grown[name]["value"]


def test_options_for_rare_classes_exclude_each_other(tmp_path):
  config = quick_config()
  config.data.balanced = True
  config.loss.class_weights = {"husky": 2.0}
  given = repr({"husky": 2.0})
  about = raising.about("loss.class_weights", given=given)
  with pytest.raises(errors.InputError, check=about):
    loop.train_and_evaluate(config, str(tmp_path))


def test_another_config_is_refused_with_the_difference(finished):
  workdir, _ = finished
  config = quick_config()
  config.optim.weight_decay = 0.1
  config.logging.every = "5 steps"
  with pytest.raises(
    errors.InputError, match="optim.weight_decay: 0.05 -> 0.1"
  ):
    loop.train_and_evaluate(config, str(workdir))


def test_a_loss_that_is_not_finite_ends_the_run_with_its_step(tmp_path):
  config = quick_config()
  config.optim = dict(name="sgd", momentum=0.0)
  config.schedule = dict(
    name="piecewise_linear", peak=1e38, points=((0.2, 0), (0.3, 1))
  )
  with pytest.raises(errors.NonFiniteLossError) as caught:
    loop.train_and_evaluate(config, str(tmp_path))
  # The rate is 0 up to step 4; then it takes a few steps to overflow.
  assert 5 <= caught.value.step <= 12
  assert np.isfinite(caught.value.last_finite_loss)
  assert processes.read_json(tmp_path, "status.json")["state"] == "diverged"
  # Nothing of it was saved as a good state.
  saved = [int(p.name) for p in (tmp_path / "checkpoints").glob("[0-9]*")]
  assert saved == [4]
  assert max(saved, default=0) < caught.value.step


@pytest.mark.slow  # tests/parallel has steps of one and of eight devices.
def test_eight_devices_agree_with_one(tmp_path):
  one = quick_config()
  one.steps.total = "4 steps"
  eight = quick_config()
  eight.steps.total = "4 steps"
  eight.parallel.devices = 8
  loop.train_and_evaluate(one, str(tmp_path / "1"))
  loop.train_and_evaluate(eight, str(tmp_path / "8"))
  for a, b in zip(
    processes.read_metrics(tmp_path / "1"),
    processes.read_metrics(tmp_path / "8"),
    strict=True,
  ):
    assert a.keys() == b.keys()
    # Sums over the batch are taken in another order: float32 rounding.
    assert a["train/loss"] == pytest.approx(b["train/loss"], rel=1e-4)
    if "val/nll" in a:
      assert a["val/nll"] == pytest.approx(b["val/nll"], rel=1e-3)


def test_several_steps_per_dispatch_agree_with_one(tmp_path):
  one = quick_config()
  one.steps.total = "6 steps"
  many = quick_config()
  many.steps.update(total="6 steps", per_dispatch=2)
  loop.train_and_evaluate(one, str(tmp_path / "1"))
  loop.train_and_evaluate(many, str(tmp_path / "2"))
  for a, b in zip(
    processes.read_metrics(tmp_path / "1"),
    processes.read_metrics(tmp_path / "2"),
    strict=True,
  ):
    assert a["step"] == b["step"]
    assert a["train/loss"] == pytest.approx(b["train/loss"], rel=1e-4)


@contextlib.contextmanager
def given_options(**values):
  """Sets options of JAX as the environment does: in all of the process."""
  before = {name: jax.config.values[name] for name in values}
  try:
    for name, value in values.items():
      jax.config.update(name, value)
    yield
  finally:
    for name, value in before.items():
      jax.config.update(name, value)


PRNGS = [dict(impl="rbg"), dict(impl="unsafe_rbg"), dict(partitionable=False)]


def short_config(steps, **prng):
  """The first steps do not depend on how many there are."""
  config = quick_config()
  config.schedule.name = "constant"
  config.steps.total = f"{steps} steps"
  config.evaluation.sets = {}
  config.checkpoint.best = ""
  config.logging.every = "1 steps"
  config.prng.update(prng)
  return config


@pytest.fixture(scope="module")
def short_run(tmp_path_factory):
  """Workdir and records of a short run; tests only read it."""
  workdir = tmp_path_factory.mktemp("short")
  loop.train_and_evaluate(short_config(2), str(workdir))
  return workdir, processes.read_metrics(workdir)


def train_first_step(**prng) -> float:
  """Returns the loss of the first step of `short_config`."""
  prepared = setup.prepare(config_lib.parse(short_config(2, **prng)))
  losses = []
  stepper.Stepper(prepared.training, prepared.state, [1]).advance(
    prepared.state, 0, 1, on_steps=lambda count, loss: losses.append(loss)
  )
  return float(losses[0])


@pytest.mark.parametrize(
  "options",
  [{"jax_default_prng_impl": "rbg"}, {"jax_threefry_partitionable": False}],
)
def test_fault_04_the_environment_does_not_change_numbers(short_run, options):
  with given_options(**options):
    assert train_first_step() == short_run[1][0]["train/loss"]


@pytest.mark.parametrize("prng", PRNGS)
def test_fault_04_the_config_sets_the_keys(short_run, prng):
  loss = train_first_step(**prng)
  assert np.isfinite(loss) and loss != short_run[1][0]["train/loss"]
  assert jax.config.jax_default_prng_impl == determinism.Prng.impl


@pytest.mark.slow  # tests/parallel resume with the usual keys.
@pytest.mark.parametrize("prng", PRNGS)
def test_fault_04_keys_of_the_config_are_recorded_and_kept(tmp_path, prng):
  folder = tmp_path / "resumed"
  loop.train_and_evaluate(short_config(2, **prng), str(folder))
  records = processes.read_metrics(folder)
  for name in ("config.json", "environment.json"):
    recorded = processes.read_json(folder, name)["prng"]
    assert recorded == {"impl": "threefry2x32", "partitionable": True} | prng
  loop.train_and_evaluate(short_config(4, **prng), str(folder))
  loop.train_and_evaluate(short_config(4, **prng), str(tmp_path / "whole"))
  whole = processes.read_metrics(tmp_path / "whole")
  assert processes.read_metrics(folder) == whole and whole[:2] == records


@pytest.mark.parametrize("recorded", [True, False])
def test_fault_04_a_run_resumes_with_its_own_keys_only(
  short_run, tmp_path, recorded
):
  """One that recorded none has the defaults."""
  folder = tmp_path / "run"
  shutil.copytree(short_run[0], folder)
  if not recorded:
    written = processes.read_json(folder, "config.json")
    del written["prng"]
    (folder / "config.json").write_text(json.dumps(written))
  about = raising.about(str(folder / "config.json"))
  for prng in (dict(impl="rbg"), dict(partitionable=False)):
    with pytest.raises(errors.InputError, check=about) as raised:
      loop.train_and_evaluate(short_config(4, **prng), str(folder))
    assert f"prng.{next(iter(prng))}:" in raised.value.given
  run_files.check_config(
    folder, config_utils.to_dict(short_config(4)), config_lib.find_defaults
  )


@pytest.mark.slow
def test_fault_04_kinds_of_keys_with_several_steps_and_devices(tmp_path):
  config = short_config(4, impl="rbg")
  config.augment.update(mixup=0.2, cutmix=0.5)
  config.steps.per_dispatch = 2
  config.parallel.devices = 8
  loop.train_and_evaluate(config, str(tmp_path))
  assert len(processes.read_metrics(tmp_path)) == 4


def test_fault_14_a_healthy_run_passes_the_checks_of_jax(tmp_path):
  config = short_config(2)
  config.evaluation.sets = dict(v2=dict(split="v2"))
  with given_options(jax_debug_nans=True, jax_debug_infs=True):
    results = loop.train_and_evaluate(config, str(tmp_path))
  assert results["scenes:v2/all/top1_accuracy"]["n"] == 48


def test_fault_14_a_first_loss_that_is_not_finite(tmp_path):
  config = short_config(2)
  config.augment.std = (1e-38,) * 3
  with pytest.raises(errors.NonFiniteLossError) as caught:
    loop.train_and_evaluate(config, str(tmp_path))
  assert caught.value.step == 1 and np.isnan(caught.value.last_finite_loss)


def find_jumps(workdir):
  rows = processes.read_json(workdir, "warnings.json")
  return [row for row in rows if row["name"] == "learning_rate_jump"]


def decaying_config(steps):
  config = short_config(steps)
  config.schedule = dict(name="warmup_cosine", peak=1e-2, warmup="1 steps")
  config.checkpoint.every = "1 steps"
  return config


def test_fault_06_a_learning_rate_that_jumps_is_logged(tmp_path, caplog):
  loop.train_and_evaluate(decaying_config(2), str(tmp_path))
  assert not find_jumps(tmp_path) and not caplog.records
  # The warning is kept by a run that is stopped after another step.
  stop, answers = interrupts.StopRequest(), iter([False, False])
  stop.requested = lambda: next(answers, True)
  with pytest.raises(errors.Preempted, match="step 3"):
    loop.train_and_evaluate(decaying_config(5), str(tmp_path), stop=stop)
  (logged,) = [r for r in caplog.records if r.levelname == "WARNING"]
  assert "after step 2" in logged.getMessage()
  loop.train_and_evaluate(decaying_config(5), str(tmp_path))
  (row,) = find_jumps(tmp_path)
  # The first schedule ended there; the new one has 3 of 4 steps of cosine left.
  assert row["threshold"] == 0
  after = 1e-2 * (1 + np.cos(np.pi / 4)) / 2
  assert row["value"] == pytest.approx(after, rel=1e-6)
  assert row["dataset"] == "scenes:train"


def test_fault_06_an_equal_schedule_is_no_jump(short_run, tmp_path):
  folder = tmp_path / "run"
  shutil.copytree(short_run[0], folder)
  loop.train_and_evaluate(short_config(3), str(folder))
  assert not find_jumps(folder)


def test_fault_06_older_checkpoints_have_no_learning_rate(
  tmp_path, monkeypatch
):
  save = checkpoints.Checkpoints.save

  def save_older(self, step, state, meta, best):
    del meta["learning_rate"], meta["warnings"]
    save(self, step, state, meta, best)

  with monkeypatch.context() as patch:
    patch.setattr(checkpoints.Checkpoints, "save", save_older)
    loop.train_and_evaluate(decaying_config(1), str(tmp_path))
  loop.train_and_evaluate(decaying_config(2), str(tmp_path))
  assert not find_jumps(tmp_path)


def test_a_second_process_is_kept_out(finished):
  workdir, _ = finished
  with (
    run_files.locked(workdir),
    pytest.raises(errors.InputError),
    run_files.locked(workdir),
  ):
    pass


@pytest.mark.smoke
@pytest.mark.parametrize(
  ("key", "value"),
  [
    ("global_batch_size", 0),
    ("model.name", "cn"),
    ("model.dtype", "int8"),
    ("augment.pad", 16),
    ("augment.flip", "up"),
    ("augment.std", (0.0, 1.0, 1.0)),
    ("optim.name", "adam"),
    ("optim.weight_decay", -1.0),
    ("schedule.peak", 0.0),
    ("schedule.warmup", "some"),
    ("steps.total", "0 steps"),
    ("logging.every", "often"),
    ("evaluation.alpha", 1.0),
    ("evaluation.sets.v2.split", "v3"),
    ("data.train_split", "trian"),
    ("data.options.image_size", 4),
    ("evaluation.sets.val.type", "x"),
    ("checkpoint.keep", 0),
    ("checkpoint.best", "val/nll"),
    ("parallel.strategy", "magic"),
    ("parallel.batch_norm", "none"),
    ("parallel.devices", 9),
    ("loss.name", "hinge"),
    ("loss.label_smoothing", 1.5),
    ("loss.class_weights", "balance"),
    ("loss.class_weights", (1.0, 2.0)),
    ("data.balanced", "yes"),
    ("data.options.imbalance", 0),
    ("ema.decay", 1.0),
  ],
)
def test_bad_values_are_named_and_nothing_is_written(tmp_path, key, value):
  config = quick_config()
  config.update_from_flattened_dict({key: value})
  with pytest.raises(errors.InputError) as raised:
    loop.train_and_evaluate(config, str(tmp_path / "run"))
  assert raised.value.setting == key
  shown = repr(value) if isinstance(value, str) else str(value)
  assert str(raised.value.given) == shown
  assert raised.value.expected
  assert not (tmp_path / "run").exists()


def test_a_batch_that_the_devices_do_not_divide(tmp_path):
  config = quick_config()
  config.global_batch_size = 12
  config.parallel.devices = 8
  about = raising.about("global_batch_size", given=12)
  with pytest.raises(errors.InputError, check=about):
    loop.train_and_evaluate(config, str(tmp_path / "run"))


def test_the_config_is_written_resolved(finished):
  workdir, _ = finished
  written = json.loads((workdir / "config.json").read_text())
  assert written["model"]["widths"] == [8]
  assert written["steps"]["total"] == "16 steps"


def test_a_stop_before_the_first_step_ends_in_good_order(tmp_path):
  """Also one that comes while the step is compiled."""
  config = quick_config()
  stop = interrupts.StopRequest()
  stop.requested = lambda: True
  with pytest.raises(errors.Preempted, match="step 0"):
    loop.train_and_evaluate(config, str(tmp_path), stop=stop)
  assert processes.read_json(tmp_path, "status.json")["state"] == "preempted"
  assert loop.train_and_evaluate(config, str(tmp_path))


def test_stopped_in_an_evaluation_it_is_made_again_and_the_best_kept(tmp_path):
  """The best step is known though its evaluation was given up once."""
  config = quick_config()
  config.checkpoint.keep = 1
  whole = loop.train_and_evaluate(config, str(tmp_path / "whole"))
  prepared = setup.prepare(config_lib.parse(config))
  stop = interrupts.StopRequest()
  # Asked to stop as soon as the evaluation of step 8 begins.
  request = prepared.evaluators["val"].build_request
  stopping = []

  def stop_in_evaluation(variables):
    stopping.append(True)
    return request(variables)

  prepared.evaluators["val"].build_request = stop_in_evaluation
  stop.requested = lambda: bool(stopping)
  folder = tmp_path / "stopped"
  with pytest.raises(errors.Preempted, match="step 8"):
    loop.train_and_evaluate(config, str(folder), prepared=prepared, stop=stop)
  assert processes.read_metrics(folder)[-1]["step"] == 6
  assert loop.train_and_evaluate(config, str(folder)) == whole
  assert processes.read_metrics(folder) == processes.read_metrics(
    tmp_path / "whole"
  )
  status = [
    processes.read_json(tmp_path / name, "status.json")["best"]
    for name in ("whole", "stopped")
  ]
  assert status[0] == status[1]


def test_the_metric_of_the_best_may_change(tmp_path):
  config = quick_config()
  config.steps.total = "8 steps"
  loop.train_and_evaluate(config, str(tmp_path))
  config.steps.total = "12 steps"
  config.checkpoint.best = "v2/macro_recall"
  loop.train_and_evaluate(config, str(tmp_path))
  best = processes.read_json(tmp_path, "status.json")["best"]
  assert best["metric"] == "v2/macro_recall" and best["step"] == 12


def test_what_was_trained_on_is_told_apart(tmp_path):
  config = quick_config()
  config.data.train_split = "train[:48]"
  config.evaluation.sets = dict(
    held=dict(split="train[48:]"),
    seen=dict(split="train[:24]"),
    mixed=dict(split="train[24:72]"),
  )
  config.checkpoint.best = ""
  config.steps.total = "2 steps"
  loop.train_and_evaluate(config, str(tmp_path))
  described = processes.read_json(tmp_path, "environment.json")
  assert described["training_data"] == ["scenes:train[:24]"]
  leaks = {
    row["dataset"]: row["value"]
    for row in processes.read_json(tmp_path, "warnings.json")
    if row["name"] == "leakage"
  }
  assert leaks == {"scenes:train[24:72]": 0.5}


def test_a_run_that_trains_on_its_test_set_and_knows_leaks(tmp_path):
  config = quick_config()
  config.data.train_split = "train[:24]+v2"
  config.evaluation.sets = dict(
    seen=dict(split="train[:24]"),
    v2=dict(split="v2"),
    held=dict(split="train[24:48]"),
  )
  config.checkpoint.best = ""
  config.steps.total = "2 steps"
  listed = tmp_path / "pairs.csv"
  config.evaluation.known_leaks = str(listed)
  workdir = tmp_path / "run"
  about = raising.about(f"evaluation.known_leaks: {listed}")
  with pytest.raises(errors.InputError, check=about):
    loop.train_and_evaluate(config, str(workdir))
  listed.write_text(
    "test_id\n" + "\n".join(f"scenes_train_{i:08d}.png" for i in (24, 30, 99))
  )
  loop.train_and_evaluate(config, str(workdir))
  found = {
    (row["name"], row["dataset"]): row["value"]
    for row in processes.read_json(workdir, "warnings.json")
    if row["name"] in ("leakage", "trained_on_test_set", "known_leaks")
  }
  assert found == {
    ("trained_on_test_set", "scenes:v2"): 1,
    ("known_leaks", "scenes:train[24:48]"): 2 / 24,
  }


@pytest.mark.parametrize(
  ("change", "setting"),
  [
    (dict(sets=dict(a=dict(split="v2"), b=dict(split="v2"))), "sets.b"),
    (dict(sets=dict(a=dict(type="classification"))), "sets.a.split"),
    (dict(sets=dict(a=dict(split="v2", evry="1 step"))), "sets.a.evry"),
    (dict(sets=dict(train=dict(split="v2"))), "sets.train"),
    (dict(evry="1 steps"), "evry"),
  ],
)
def test_bad_evaluation_sections(tmp_path, change, setting):
  config = quick_config()
  config.checkpoint.best = ""
  config.evaluation.update(ml_collections.ConfigDict(change))
  if "sets" in change:
    config.evaluation.sets = change["sets"]
  about = raising.about(f"evaluation.{setting}")
  with pytest.raises(errors.InputError, check=about):
    loop.train_and_evaluate(config, str(tmp_path / "run"))


def test_a_workdir_that_is_a_file(tmp_path):
  (tmp_path / "file").write_text("")
  with pytest.raises(errors.InputError, match="--workdir"):
    loop.train_and_evaluate(quick_config(), str(tmp_path / "file"))


@pytest.mark.parametrize(
  ("workdir", "source", "setting"),
  [
    ("file", "", "--workdir"),
    ("file/run", "", "--workdir"),
    ("x" * 300, "", "--workdir"),
    ("run", "absent", "init.source"),
    ("run", "file", "init.source"),
    ("run", "absent.npz", "init.source"),
  ],
)
def test_fault_19_folders_are_checked_before_data_are_read(
  tmp_path, monkeypatch, workdir, source, setting
):
  read = []
  monkeypatch.setattr(setup, "open_train_split", read.append)
  (tmp_path / "file").touch()
  config = quick_config()
  config.init.source = source and str(tmp_path / source)
  with pytest.raises(errors.InputError, check=raising.about(setting)):
    loop.train_and_evaluate(config, str(tmp_path / workdir))
  assert not read
  assert [path.name for path in tmp_path.iterdir()] == ["file"]
