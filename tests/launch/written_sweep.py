"""Writes folders of sweeps as runs leave them, with given numbers."""

import json

from etils import epath

from imgbench import run_files
from imgbench.launch import units
from imgbench.metrics import intervals
from imgbench.metrics import measurement

N = 200  # examples of the test set
METRIC = "toy:test/all/top1_accuracy"
NLL = "toy:test/all/nll"
BASE = {
  "seed": 0,
  "global_batch_size": 10,
  "data": {"name": "toy"},
  "model": {"widths": [8]},
  "optim": {"name": "adam", "weight_decay": 0.1},
  "schedule": {"peak": 0.1},
  "evaluation": {
    "alpha": 0.05,
    "sets": {"val": {"split": "test", "type": "classification"}},
  },
}


def sweep(folder, points):
  """Writes sweep.json of points, dicts of overrides; returns the sweep."""
  folder = epath.Path(folder)
  found = []
  for point in points:
    name = ",".join(f"{k}={v}" for k, v in sorted(point.items())) or "default"
    found.append(units.Unit(name, point, folder / name))
  made = units.Sweep(folder, "configs/toy.py", "", tuple(found), base=BASE)
  return units.write(made)


def config_of(unit):
  """Returns the config of a unit's run."""
  config = json.loads(json.dumps(BASE))
  for key, value in unit.overrides.items():
    section, _, name = key.rpartition(".")
    (config[section] if section else config)[name] = value
  return config


def accuracy(correct):
  """Returns the entry of results.json."""
  low, high = intervals.clopper_pearson(correct, N)
  return measurement.Measurement(
    *(N, correct, correct / N, float(low), float(high)),
    *("clopper_pearson", "share of the right ones"),
  ).as_json()


def loss(value):
  """Returns the entry of results.json."""
  return measurement.Measurement(
    N, None, value, value - 0.1, value + 0.1, "normal", "mean loss"
  ).as_json()


def write_run(unit, hits, state=units.DONE, message="", nll=None):
  """Writes the files of a run with two evaluations, at steps 10 and 20.

  Args:
    unit: of the sweep.
    hits: examples right at both; the last one is the final result.
    state: at the end; results.json is there only if it is done.
    message: of status.json.
    nll: losses at both, or None.
  """
  unit.workdir.mkdir(parents=True, exist_ok=True)
  write = lambda name, value: (unit.workdir / name).write_text(
    json.dumps(value)
  )
  write(run_files.CONFIG, config_of(unit))
  lines = []
  for i, (step, correct) in enumerate(zip((10, 20), hits, strict=True)):
    record = {"step": step, "val/top1_accuracy": correct / N}
    record["time/train_s"] = step / 10
    if nll:
      record["val/nll"] = nll[i]
    lines.append(json.dumps(record) + "\n")
  (unit.workdir / "metrics.jsonl").write_text("".join(lines))
  status = {"state": state, "step": 20, "total_steps": 20, "message": message}
  if state == units.DONE:
    status["times"] = {"train_s": 2.0, "eval_s": 1.5}
    results = {METRIC: accuracy(hits[-1])}
    if nll:
      results[NLL] = loss(nll[-1])
    write(run_files.RESULTS, results)
  write(run_files.STATUS, status)
