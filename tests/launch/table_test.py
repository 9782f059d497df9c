"""Tests of a sweep's table: rows, means, notes, files, the program."""

import csv
import io
import json
import math
import os
import pathlib
import signal
import subprocess
import sys

from matplotlib import image as mpl_image
import numpy as np
import pytest

from imgbench import errors
from imgbench.launch import units
from imgbench.launch.sweep_table import __main__ as table
from imgbench.launch.sweep_table import figure as table_figure
from imgbench.launch.sweep_table import gather
from imgbench.launch.sweep_table import groups as groups_lib
from imgbench.metrics import intervals
from tests import raising
from tests.launch import written_sweep as written

ROOT = pathlib.Path(__file__).resolve().parents[2]
PATTERNS = ["*/all/top1_accuracy"]
PEAK = "schedule.peak"


def _grid(folder):
  """Writes 2 learning rates by 3 seeds, all done, with known hits."""
  points = [{PEAK: p, "seed": s} for p in (0.01, 0.1) for s in range(3)]
  sweep = written.sweep(folder, points)
  hits = [(90, 100), (80, 104), (70, 108), (120, 120), (140, 130), (110, 125)]
  for unit, pair in zip(sweep.units, hits, strict=True):
    written.write_run(unit, pair)
  return sweep


def _csv(text):
  return list(csv.DictReader(io.StringIO(text)))


def test_a_row_has_final_and_best_values_with_intervals(tmp_path):
  sweep = _grid(tmp_path)
  runs = gather.read(sweep, PATTERNS)
  run = runs[4]  # Its first evaluation was better.
  final, best = run.final[written.METRIC], run.best[written.METRIC]
  assert (final.correct, final.n) == (130, written.N)
  assert (best.value, best.step) == (140 / written.N, 10)
  low, high = intervals.clopper_pearson(140, written.N)
  assert (best.ci_low, best.ci_high) == (float(low), float(high))
  # At the last step it is the measured interval.
  best = runs[0].best[written.METRIC]
  assert best.step == 20
  assert best.ci_low == runs[0].final[written.METRIC].ci_low
  # 20 steps of 10 images in 2 s, and 1.5 s of evaluation.
  assert (run.train_s, run.total_s, run.images_per_s) == (2.0, 3.5, 100.0)


def test_the_smallest_loss_is_the_best_and_has_no_interval(tmp_path):
  sweep = written.sweep(tmp_path, [{}])
  written.write_run(sweep.units[0], (90, 100), nll=(0.5, 0.7))
  (run,) = gather.read(sweep, [written.NLL])
  best = run.best[written.NLL]
  assert (best.value, best.step, best.ci_low) == (0.5, 10, None)
  assert run.final[written.NLL].ci_low == pytest.approx(0.6)


def test_means_over_seeds_have_standard_errors(tmp_path):
  sweep = _grid(tmp_path)
  groups = groups_lib.group_runs(gather.read(sweep, PATTERNS), ["seed"])
  assert [dict(group.values) for group in groups] == [{PEAK: 0.01}, {PEAK: 0.1}]
  mean = groups[0].mean(written.METRIC)
  # Of 50%, 52% and 54%.
  assert mean.n == 3
  assert mean.mean == pytest.approx(0.52)
  assert mean.sem == pytest.approx(0.02 / math.sqrt(3))
  best = groups[1].mean(written.METRIC, best=True)
  assert best.mean == pytest.approx(np.mean([120, 140, 125]) / written.N)
  assert groups_lib.compute_mean([0.5]) == groups_lib.Mean(1, 0.5, None)
  assert groups_lib.compute_mean([]) is None


def test_unfinished_runs_are_named_and_not_counted(tmp_path):
  sweep = _grid(tmp_path)
  (sweep.units[1].workdir / "results.json").unlink()
  written.write_run(
    sweep.units[1], (10, 20), units.DIVERGED, "the loss is\nnot finite"
  )
  found = table.read(tmp_path, PATTERNS, ["seed"])
  (note,) = found.notes
  assert note.startswith(f"missing: {sweep.units[1].name} ")
  assert "diverged" in note and "not finite" in note
  mean = found.groups[0].mean(written.METRIC)
  assert (mean.n, mean.mean) == (2, pytest.approx(0.52))
  assert "diverged at 20/20" in found.text()
  assert "2 of 3" in found.text()


def test_missing_points_duplicate_rows_and_strays_are_named(tmp_path):
  points = [
    {PEAK: 0.01, "seed": 0},
    {PEAK: 0.01, "seed": 1},
    {PEAK: 0.1, "seed": 0},
    {"seed": 0},  # The config has schedule.peak=0.1.
  ]
  sweep = written.sweep(tmp_path, points)
  for unit, hits in zip(sweep.units, (100, 110, 120, 120), strict=True):
    written.write_run(unit, (hits, hits))
  stray = units.Unit("old", {}, tmp_path / "old")
  written.write_run(stray, (1, 2))
  found = table.read(tmp_path, PATTERNS, ["seed"])
  missing, duplicate, unknown = found.notes
  assert missing.endswith("schedule.peak=0.1, seed=1")
  assert {"seed=0", "schedule.peak=0.1,seed=0"} <= set(
    duplicate.replace(";", "").split()
  )
  assert unknown.endswith(": old")
  assert found.groups[1].mean(written.METRIC).n == 1


def test_a_run_of_another_config_is_named(tmp_path):
  sweep = written.sweep(tmp_path, [{PEAK: 0.01}, {PEAK: 0.2}])
  for unit in sweep.units:
    written.write_run(unit, (100, 100))
  path = sweep.units[0].workdir / "config.json"
  config = json.loads(path.read_text())
  config["schedule"]["peak"] = 0.5
  path.write_text(json.dumps(config))
  found = table.read(tmp_path, PATTERNS, ["seed"])
  (note,) = found.notes
  assert sweep.units[0].name in note and note.endswith("schedule.peak=0.5")


def test_tuples_of_a_point_are_the_lists_of_a_config(tmp_path):
  sweep = written.sweep(
    tmp_path, [{"model.widths": (8,)}, {"model.widths": (4, 8)}]
  )
  for unit in sweep.units:
    written.write_run(unit, (100, 100))
  found = table.read(tmp_path, PATTERNS, ["seed"])
  assert not found.notes
  assert "(4, 8)" in found.text()


def test_a_swept_key_may_have_its_default(tmp_path):
  key = "optim.clip_norm"
  sweep = written.sweep(tmp_path, [{}, {key: 0.5}, {key: 0.0}])
  written.write_run(sweep.units[0], (100, 100))
  runs = gather.read(sweep, PATTERNS)
  assert [run.value(key) for run in runs] == [0.0, 0.5, 0.0]
  assert len(groups_lib.find_duplicates(runs)) == 1


def test_an_unknown_metric_is_answered_with_near_ones(tmp_path):
  sweep = _grid(tmp_path)
  unknown = "toy:test/all/top_accuracy"
  check = raising.about("--metrics", given=unknown)
  with pytest.raises(errors.InputError, check=check) as error:
    gather.read(sweep, [unknown])
  assert written.METRIC in error.value.fix


def test_before_any_run_is_done_metrics_must_be_full_names(tmp_path):
  sweep = written.sweep(tmp_path, [{"seed": 0}])
  written.write_run(sweep.units[0], (90, 100), units.RUNNING)
  check = raising.about("--metrics", given="nll")
  with pytest.raises(errors.InputError, check=check):
    gather.read(sweep, ["nll"])
  (run,) = gather.read(sweep, [written.METRIC, "*nll"])
  assert run.best[written.METRIC].step == 20


def test_names_of_data_sets_may_contain_a_slash(tmp_path, monkeypatch):
  metric = "toy/small:test/all/top1_accuracy"
  monkeypatch.setitem(written.BASE["data"], "name", "toy/small")
  monkeypatch.setattr(written, "METRIC", metric)
  # Removed by a flag.
  monkeypatch.setitem(written.BASE["evaluation"]["sets"], "v2", "")
  _grid(tmp_path)
  found = table.read(tmp_path, PATTERNS, ["seed"])
  assert found.runs[4].best[metric].step == 10
  assert "top-1 accuracy, %" in found.text()
  assert "52.00 ± 1.15" in found.text()
  table.write(found, tmp_path / "out", ["seed"])
  assert (tmp_path / "out" / "table.png").exists()


def test_images_per_second_ignore_steps_of_another_run(tmp_path):
  """Runs of older versions start at the step of another run, at time 0."""
  sweep = written.sweep(tmp_path, [{"seed": 0}])
  written.write_run(sweep.units[0], (90, 100))
  path = sweep.units[0].workdir / "metrics.jsonl"
  first, second = map(json.loads, path.read_text().splitlines())
  first |= {"step": 1010, "train/images_per_s": 99.0}
  second |= {"step": 1020, "train/images_per_s": 101.0}
  path.write_text(f"{json.dumps(first)}\n{json.dumps(second)}\n")
  (run,) = gather.read(sweep, PATTERNS)
  assert (run.train_s, run.images_per_s) == (2.0, 100.0)
  path.write_text(f"{json.dumps(first)}\n")
  (run,) = gather.read(sweep, PATTERNS)
  assert (run.train_s, run.images_per_s) == (1.0, 99.0)


def test_a_sweep_that_has_not_started_has_a_table(tmp_path):
  written.sweep(tmp_path, [{"seed": 0}, {"seed": 1}])
  found = table.read(tmp_path, PATTERNS, ["seed"])
  assert len(found.notes) == 2
  table.write(found, tmp_path / "out", ["seed"])
  assert not (tmp_path / "out" / "table.png").exists()


def test_damaged_results_are_refused(tmp_path):
  sweep = _grid(tmp_path)
  path = sweep.units[0].workdir / "results.json"
  path.write_text(json.dumps({written.METRIC: {"n": 3}}))
  check = raising.about(f"{path}, {written.METRIC}")
  with pytest.raises(errors.InputError, check=check):
    gather.read(sweep, PATTERNS)


def test_the_files_agree(tmp_path):
  sweep = _grid(tmp_path)
  found = table.read(tmp_path, PATTERNS, ["seed"])
  out = sweep.sweep_dir / "out"
  table.write(found, out, ["seed"])
  rows = _csv((out / "table.csv").read_text())
  assert [row["run"] for row in rows] == [unit.name for unit in sweep.units]
  assert rows[4][written.METRIC] == str(130 / written.N)
  assert rows[4][f"{written.METRIC}.best"] == str(140 / written.N)
  assert rows[4]["state"] == "done"
  means = _csv((out / "groups.csv").read_text())
  (row,) = [
    row for row in means if row[PEAK] == "0.01" and row["value"] == "final"
  ]
  assert (row["n"], float(row["mean"])) == ("3", pytest.approx(0.52))
  markdown = (out / "table.md").read_text()
  assert "| 0.01 | 3 of 3 |" in " ".join(markdown.split())
  assert "52.00 ± 1.15" in markdown
  assert r"52.00 $\pm$ 1.15" in (out / "table.tex").read_text()
  assert r"top-1 accuracy, \%" in (out / "table.tex").read_text()
  assert (out / "table.pdf").read_bytes().startswith(b"%PDF")
  # The picture is not all white.
  pixels = mpl_image.imread(str(out / "table.png"))
  assert pixels.ndim == 3 and pixels.std() > 0.05


@pytest.mark.parametrize(
  ("values", "kind"),
  [
    ([0.01, 0.03, 0.1, 0.3], "log"),
    ([0.001, 0.1], "log"),
    ([8, 16, 32, 64], "log"),
    ([0.1, 0.2, 0.3], "linear"),
    ([1, 2, 3, 4, 5, 6, 7, 8, 9], "linear"),
    ([0.0, 0.1, 1.0], "linear"),
    (["adam", "muon"], "names"),
    ([True, False], "names"),
    ([[8], [4, 8]], "names"),
  ],
)
def test_the_scale_of_an_axis_depends_on_the_spread(values, kind):
  assert table_figure.build_axis("a.b", values).kind == kind


def test_the_figure_has_a_panel_for_each_swept_key(tmp_path):
  points = [
    {PEAK: peak, "optim.name": name, "seed": seed}
    for peak in (0.01, 0.1)
    for name in ("adam", "muon")
    for seed in range(2)
  ]
  sweep = written.sweep(tmp_path, points)
  for i, unit in enumerate(sweep.units):
    written.write_run(unit, (90, 100 + i))
  runs = gather.read(sweep, PATTERNS)
  groups = groups_lib.group_runs(runs, ["seed"])
  draw = table_figure.build_figure(runs, groups, [written.METRIC], ["seed"])
  figure = draw(table_figure.themes.LIGHT)
  assert [a.get_xlabel() for a in figure.axes] == [PEAK, "optim.name"]
  assert [a.get_xscale() for a in figure.axes] == ["log", "linear"]
  legends = [
    [text.get_text() for text in axes.get_legend().get_texts()]
    for axes in figure.axes
  ]
  # The signs of means and single runs are explained once.
  assert [len(legend) for legend in legends] == [4, 2]
  assert legends[0][:2] == ["name=adam", "name=muon"]
  assert table_figure.count_runs(groups, [written.METRIC]) == [2] * 4
  caption = figure.get_supxlabel()
  assert "n = 2 " in caption and "standard error" in caption
  bars = figure.axes[0].containers[0].lines[2][0].get_segments()
  # Of 50% and 50.5%: the standard error is half the difference.
  np.testing.assert_allclose(bars[0][:, 1], [50.0, 50.5])
  line = figure.axes[0].containers[0].lines[0]
  np.testing.assert_allclose(np.float64(line.get_xdata()), [0.01, 0.1])
  # adam: runs 0 and 1, then 4 and 5; in percent.
  np.testing.assert_allclose(np.float64(line.get_ydata()), [50.25, 52.25])


def test_seeds_alone_are_the_axis(tmp_path):
  sweep = written.sweep(tmp_path, [{"seed": 0}, {"seed": 1}])
  for unit in sweep.units:
    written.write_run(unit, (90, 100))
  runs = gather.read(sweep, PATTERNS)
  groups = groups_lib.group_runs(runs, ["seed"])
  draw = table_figure.build_figure(runs, groups, [written.METRIC], ["seed"])
  (axes,) = draw(table_figure.themes.LIGHT).axes
  assert axes.get_xlabel() == "seed" and axes.get_legend() is None


def test_numbers_of_runs_are_those_with_results(tmp_path):
  sweep = written.sweep(
    tmp_path, [{PEAK: p, "seed": s} for p in range(3) for s in range(2)]
  )
  for unit in sweep.units[:3]:
    written.write_run(unit, (90, 100))
  runs = gather.read(sweep, PATTERNS)
  groups = groups_lib.group_runs(runs, ["seed"])
  assert table_figure.count_runs(groups, [written.METRIC]) == [2, 1]
  draw = table_figure.build_figure(runs, groups, [written.METRIC], ["seed"])
  figure = draw(table_figure.themes.LIGHT)
  (axes,) = figure.axes
  # Mean, single run and no result; the crosses are at their values.
  assert len(axes.get_legend().get_texts()) == 3
  crosses = [line for line in axes.lines if line.get_marker() == "x"]
  assert list(crosses[0].get_xdata()) == [1, 2, 2]
  assert "n = 1 to 2 " in figure.get_supxlabel()


def _program(*args):
  return [sys.executable, "-m", "imgbench.launch.table", *args]


@pytest.mark.slow
def test_the_program_prints_and_writes(tmp_path):
  _grid(tmp_path)
  done = subprocess.run(
    _program(f"--sweep_dir={tmp_path}"),
    **dict(cwd=ROOT, capture_output=True, text=True, check=True),
  )
  assert "52.00 ± 1.15" in done.stdout
  assert {path.name for path in (tmp_path / "table").iterdir()} == {
    *("table.csv", "groups.csv", "table.md", "table.tex"),
    *("table.png", "table.pdf"),
  }


@pytest.mark.parametrize(
  ("args", "text"),
  [
    (["--sweep_dir=nowhere"], "nowhere"),
    ([], "--sweep_dir"),
  ],
)
def test_bad_input_is_one_line(args, text):
  done = subprocess.run(
    _program(*args), cwd=ROOT, capture_output=True, text=True
  )
  assert done.returncode == errors.EXIT_USAGE
  assert text in done.stderr and len(done.stderr.splitlines()) == 1


def _lines_until(process, text):
  for line in process.stdout:
    if text in line:
      return line
  raise AssertionError(f"ended without {text!r}")


@pytest.mark.slow
def test_watch_shows_changes_and_ends_when_all_are_done(tmp_path):
  sweep = written.sweep(tmp_path, [{"seed": 0}, {"seed": 1}])
  written.write_run(sweep.units[0], (90, 100))
  command = _program(f"--sweep_dir={tmp_path}", "--watch", "--every_s=0.1")
  with subprocess.Popen(
    command, cwd=ROOT, stdout=subprocess.PIPE, text=True
  ) as process:
    _lines_until(process, "missing: seed=1")
    written.write_run(sweep.units[1], (90, 104))
    _lines_until(process, "51.00 ± 1.00")
    assert process.wait() == 0


@pytest.mark.slow
def test_watch_ends_by_ctrl_c(tmp_path):
  written.sweep(tmp_path, [{"seed": 0}])
  command = _program(f"--sweep_dir={tmp_path}", "--watch", "--out=")
  with subprocess.Popen(
    command, cwd=ROOT, stdout=subprocess.PIPE, text=True
  ) as process:
    _lines_until(process, "missing: seed=0")
    os.kill(process.pid, signal.SIGINT)
    assert process.wait() == 0


def test_fault_22_hostile_values_and_messages_are_shown_as_text(tmp_path):
  name = "=cmd|'/C calc'!A0"
  points = [{"data.name": value} for value in (name, "\x1b[2J_x_", "-")]
  sweep = written.sweep(tmp_path, [{"seed": s} for s in range(3)])
  for unit, point in zip(sweep.units, points, strict=True):
    unit.overrides.update(point)
    written.write_run(unit, (9, 9), units.FAILED, "@a\x1b]0;b\x07\n**c**")
  units.write(sweep)
  shown = table.read(str(tmp_path), PATTERNS, ["seed"])
  table.write(shown, tmp_path / "out", ["seed"])
  files = ("table.csv", "groups.csv", "table.md", "table.tex")
  texts = [(tmp_path / "out" / file).read_text() for file in files]
  for text in (*texts, shown.text()):
    assert all(line.isprintable() for line in text.splitlines())
  rows = _csv(texts[0])
  assert [row["data.name"] for row in rows] == [f"'{name}", " [2J_x_", "-"]
  assert {row["message"] for row in rows} == {"'@a ]0;b  **c**"}
  assert r"\*\*c\*\*" in texts[2] and "**c**" not in texts[2]
  assert r"2J_x\_" in texts[2]


@pytest.mark.parametrize(
  ("name", "content"),
  [
    ("results.json", {"a": {}}),
    ("results.json", [1]),
    ("results.json", {written.METRIC: 3}),
    ("status.json", {"state": "done", "times": {"train_s": "long"}}),
    ("status.json", {"state": "done", "step": None}),
    ("config.json", []),
    ("config.json", {**written.BASE, "evaluation": 3}),
    ("config.json", {**written.BASE, "evaluation": {"sets": 3}}),
    ("config.json", {**written.BASE, "global_batch_size": 10**400}),
    ("config.json", {**written.BASE, "evaluation": {"alpha": 10**400}}),
  ],
)
def test_fault_22_broken_files_of_runs_are_one_line(tmp_path, name, content):
  sweep = _grid(tmp_path)
  path = sweep.units[2].workdir / name
  path.write_text(json.dumps(content))
  with pytest.raises(errors.InputError) as raised:
    table.read(str(tmp_path), PATTERNS, ["seed"]).text()
  assert str(path.parent) in raised.value.setting or name in str(raised.value)
