"""Tests of comparisons of runs: verdicts, false alarms, the program."""

import dataclasses
import itertools
import json
import math
import re
import subprocess
import sys

import numpy as np
import pytest

from imgbench import errors
from imgbench.bench import compare
from imgbench.bench import comparison
from imgbench.bench import medians
from imgbench.bench import rows
from tests import forked
from tests import raising
from tests.bench import row_samples
from tests.train import processes

SLOWED = row_samples.key("vit_s16")


def machine(seed, **options):
  """Returns a machine on which identical runs disagree as on real ones.

  Of 45 pairs of identical runs 20 had disjoint intervals, see the test.
  """
  noise = {"process_noise": 0.05, "step_noise": 0.05, "drift": 0.04}
  return row_samples.Machine("cpu", seed, **(noise | options))


def image_rows(seed, **options):
  return list(row_samples.image_rows(machine(seed, **options)))


def run(folder, *lines):
  """Runs the program with each of the lines of arguments."""
  module = "imgbench.bench.compare"
  return forked.run_all([[module, *map(str, line)] for line in lines], folder)


def test_synthetic_noise_is_that_of_real_processes():
  disjoint = []
  for seed in range(40):
    made = machine(seed)
    runs = [
      medians.interval(made.process(SLOWED, 1.0, 0).latencies_ms)
      for _ in range(10)
    ]
    pairs = itertools.combinations(runs, 2)
    disjoint.append(sum(a.high < b.low or b.high < a.low for a, b in pairs))
  assert 17 < np.mean(disjoint) < 24


def test_unchanged_reruns_stay_quiet():
  """At the default tolerance of a CPU."""
  tolerance = comparison.choose_tolerance(["cpu", "cpu"])
  assert tolerance == 0.15
  base = image_rows(0)
  reports = [
    comparison.compare(base, image_rows(seed), tolerance)
    for seed in range(1, 26)
  ]
  assert [r.regressions for r in reports] == [[]] * 25
  assert not any(c.past for r in reports for c in r.comparisons)


def test_a_slowed_row_is_caught_and_no_other():
  caught = []
  for seed in range(20):
    after = image_rows(2 * seed + 1, slowed={SLOWED.text(): 2.0})
    report = comparison.compare(image_rows(2 * seed), after, 0.15)
    caught += [[c.key for c in report.regressions]]
  assert caught.count([SLOWED]) >= 18
  assert all(found in ([SLOWED], []) for found in caught)


def test_false_verdicts_are_rarer_than_5_in_100():
  """Over all rows of a comparison, without drift (Holm)."""
  count = 0
  for seed in range(60):
    first, second = (image_rows(2 * seed + s, drift=0.0) for s in (0, 1))
    report = comparison.compare(first, second, 0.0)
    count += any(c.verdict != comparison.NONE_SHOWN for c in report.comparisons)
  assert count / 60 < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 60)


def test_pairs_cancel_the_drift_of_a_machine():
  """Both sides slow down threefold while they run, and one is 10% slower."""
  made, keys = machine(5, slow_share=0.0, drift=0.0), range(8)
  names = [f"session/{number}" for number in keys]
  before = made.image_row(SLOWED, processes=8, pairs=names)
  after = made.image_row(SLOWED, factor=1 / 1.3, processes=8, pairs=names)
  slowing = [3 ** (number / 7) for number in keys]
  before, after = (
    dataclasses.replace(
      row,
      raw=tuple(
        dataclasses.replace(
          p, throughput_s=tuple(t * factor for t in p.throughput_s)
        )
        for p, factor in zip(row.raw, slowing, strict=True)
      ),
    )
    for row in (before, after)
  )
  (paired,) = comparison.compare([before], [after], 0.05).comparisons
  assert paired.paired and paired.is_regression
  assert paired.ratio == pytest.approx(1 / 1.3, rel=0.1)
  # In another order the partners are still found.
  mixed = dataclasses.replace(after, raw=after.raw[::-1])
  (same,) = comparison.compare([before], [mixed], 0.05).comparisons
  assert same.interval == pytest.approx(paired.interval)
  alone = dataclasses.replace(
    after, raw=tuple(dataclasses.replace(p, pair=None) for p in after.raw)
  )
  (unpaired,) = comparison.compare([before], [alone], 0.05).comparisons
  assert not unpaired.paired
  assert unpaired.verdict == comparison.NONE_SHOWN


def exact(key, step_s):
  """Returns a row whose processes hardly differ."""
  raw = [rows.Process(throughput_s=(step_s * (1 + i / 1e4),)) for i in range(5)]
  speed = key.batch / step_s
  return rows.Row(key, processes=5, images_per_s=speed, raw=tuple(raw))


def test_intervals_follow_holm():
  """The clearest row is tested at 5% / M, the next at 5% / (M - 1)."""
  keys = [row_samples.key(batch=2**n) for n in range(4)]
  before = [exact(key, 1.0) for key in keys]
  times = (1.02, 2.0, 0.5, 1.0)
  after = [exact(key, t) for key, t in zip(keys, times, strict=True)]
  found = comparison.compare(before, after, 0.15).comparisons
  assert [c.key for c in found] == keys
  verdicts = [c.verdict for c in found]
  assert verdicts == ["slower", "slower", "faster", "no difference shown"]
  assert [c.past for c in found] == [False, True, True, False]
  assert [c.is_regression for c in found] == [False, True, False, False]
  levels = [1 - c.interval.coverage for c in found]
  assert sorted(levels[1:3]) == pytest.approx([0.05 / 4, 0.05 / 3])
  assert levels[0] == levels[3] == pytest.approx(0.05 / 2)


def test_a_row_that_broke_is_a_regression_whatever_its_speed():
  key = row_samples.key()
  good, bad = exact(key, 1.0), rows.Row(key, "out_of_memory", "96 GiB")
  report = comparison.compare([good], [bad], 0.15)
  (broken,) = report.regressions
  assert broken.verdict == comparison.BROKEN
  assert broken.reason == "out_of_memory: 96 GiB"
  (fixed,) = comparison.compare([bad], [good], 0.15).comparisons
  assert fixed.verdict == comparison.FIXED and not fixed.is_regression
  (both,) = comparison.compare([bad], [bad], 0.15).comparisons
  assert both.verdict == comparison.NOT_COMPARED and not both.past


def test_one_process_is_not_compared():
  key = row_samples.key()
  one = dataclasses.replace(exact(key, 1.0), raw=(exact(key, 1.0).raw[0],))
  (found,) = comparison.compare([exact(key, 1.0)], [one], 0.15).comparisons
  assert found.verdict == comparison.NOT_COMPARED
  assert found.reason.startswith("B: 1 process")


def test_runs_that_fell_short_are_not_compared():
  made = machine(0)
  whole = row_samples.time_to_accuracy(made)
  short = row_samples.time_to_accuracy(made, (True, False, True))
  (found,) = comparison.compare([whole], [short], 0.15).comparisons
  assert found.reason.startswith("B: 3 processes, 1 did not")
  assert found.is_regression  # All reached it before.
  (other,) = comparison.compare([short], [whole], 0.15).comparisons
  assert other.verdict == comparison.NOT_COMPARED
  (same,) = comparison.compare([whole], [whole], 0.15).comparisons
  assert same.verdict == comparison.NONE_SHOWN and same.ratio == 1


def test_rows_are_matched_by_all_of_the_key():
  first, second = row_samples.key(), row_samples.key(dtype="float32")
  report = comparison.compare(
    [exact(first, 1.0)], [exact(first, 1.0), exact(second, 1.0)], 0.15
  )
  assert report.only_after == [second] and report.only_before == []
  with pytest.raises(errors.InputError, check=raising.about("B")) as caught:
    comparison.compare([exact(first, 1.0)], [exact(second, 1.0)], 0.15)
  assert caught.value.fix.endswith(" dtype")


def test_default_tolerance():
  assert comparison.choose_tolerance(["gpu", "tpu"]) == 0.05
  assert comparison.choose_tolerance(["gpu", "cpu"]) == 0.15
  check = raising.about("--tolerance", given=-0.1)
  with pytest.raises(errors.InputError, check=check):
    comparison.compare([], [], -0.1)


def test_the_program_ends_with_the_code_of_its_verdict(tmp_path):
  base = machine(0)
  slow = machine(1, slowed={SLOWED.text(): 2.0})
  a = row_samples.write(tmp_path / "a", row_samples.image_rows(base), base)
  b = row_samples.write(tmp_path / "b", row_samples.all_rows(slow), slow)
  path = tmp_path / "b" / rows.ENVIRONMENT
  changed = json.loads(path.read_text()) | {"commit": "fedcba987654"}
  path.write_text(json.dumps(changed))

  crashed = [
    dataclasses.replace(r, status="crashed", message="x", raw=(), processes=0)
    if comparison.is_gated(r.key)
    else r
    for r in rows.read(RESULTS / rows.ROWS)
  ]
  (tmp_path / "crashed").mkdir()
  rows.write(tmp_path / "crashed", crashed)
  bad_input = {
    (): "arguments",
    ("nowhere", "nowhere"): "rows.jsonl",
    ("a", "b", "--tolerence=1"): "tolerence",
    ("a", "b", "--tolerance=-1"): "tolerance",
  }
  result, quiet, loose, latency, nothing, *bad = run(
    tmp_path / "runs",
    (a, b, f"--json={tmp_path / 'verdicts.json'}"),
    (a, a),
    (a, b, "--tolerance=3"),
    (a, b, "--quantity=latency"),
    [tmp_path / "crashed"] * 2,
    *bad_input,
  )
  assert result.code == errors.EXIT_CHECK, result.stderr
  found = [x for x in result.stdout.splitlines() if "REGRESSION" in x]
  line, gate = found
  assert line.startswith(SLOWED.text()) and "15%" in line
  assert gate.startswith(f"gate: {SLOWED.text()}: ")
  assert "0123456789ab | fedcba987654" in result.stdout
  written = json.loads((tmp_path / "verdicts.json").read_text())
  assert written["regressions"] == 1 and len(written["comparisons"]) == 18
  assert len(written["only_b"]) > 10

  assert quiet.code == 0
  assert "REGRESSION" not in quiet.stdout
  assert loose.code == 0
  assert latency.code == errors.EXIT_CHECK
  assert "are of latency" in latency.stdout
  # No row that counts is compared.
  assert nothing.code == errors.EXIT_FAILED, nothing.stdout
  for words, ended in zip(bad_input.values(), bad, strict=True):
    assert ended.code == errors.EXIT_USAGE
    (line,) = ended.stderr.strip().splitlines()
    assert line.startswith("imgbench: error: ") and words in line


def test_numbers_shown_are_those_that_the_ratio_is_of(tmp_path):
  """Medians of skewed processes may be in the other order."""
  key, made = row_samples.key(batch=1), machine(0)
  rows_of = lambda *seconds: rows.Row(
    key,
    processes=len(seconds),
    images_per_s=float(np.median(1 / np.array(seconds))),
    raw=tuple(rows.Process(throughput_s=(s,)) for s in seconds),
  )
  for name, row in (("a", rows_of(1, 1, 1)), ("b", rows_of(0.5, 0.5, 16))):
    row_samples.write(tmp_path / name, [row], made)
  folders = [tmp_path / "a", tmp_path / "b"]
  text = compare.format_report(
    *compare.compare_folders(folders, 0.1, "throughput")
  )
  (line,) = [x for x in text.splitlines() if x.startswith(key.text())]
  assert re.findall(r"[\d.]+", line)[-6:-3] == ["1.00", "0.630", "0.630"]


def test_rows_too_noisy_for_the_tolerance_are_found(tmp_path):
  made = machine(0, process_noise=0.3)
  quiet = exact(row_samples.key(batch=8), 1.0)
  for name in ("a", "b"):
    noisy = made.image_row(SLOWED)
    row_samples.write(tmp_path / name, [noisy, quiet], made)
  folders = [tmp_path / "a", tmp_path / "b"]
  report, _ = compare.compare_folders(folders, None, "throughput")
  assert report.inconclusive == [report.comparisons[0]]


def test_a_difference_within_the_tolerance_is_no_regression(tmp_path):
  made = machine(0)
  before, after = exact(SLOWED, 1.0), exact(SLOWED, 1.05)
  for name, row in (("a", before), ("b", after)):
    row_samples.write(tmp_path / name, [row], made)
  found, folders = compare.compare_folders(
    [tmp_path / "a", tmp_path / "b"], None, "throughput"
  )
  (one,) = found.comparisons
  assert one.verdict == comparison.SLOWER and not one.past and not one.paired
  assert one.interval.coverage == pytest.approx(0.95)
  assert not found.inconclusive
  assert "95%" in compare.format_report(found, folders)


RESULTS = processes.ROOT / "experiments/results/cpu_2_cores/bench_quick"


def slow_down(row, factor):
  """Returns a row all of whose times are longer."""
  raw = [
    dataclasses.replace(
      process,
      throughput_s=tuple(factor * t for t in process.throughput_s),
      latencies_ms=tuple(factor * t for t in process.latencies_ms),
    )
    for process in row.raw
  ]
  return dataclasses.replace(row, raw=tuple(raw))


@pytest.mark.parametrize(
  ("change", "allow_missing", "strict", "kinds"),
  [
    (lambda rows: rows, False, False, set()),
    (lambda rows: rows[:-2] + rows[-1:], False, False, {"missing"}),
    (lambda rows: rows[:-2] + rows[-1:], True, False, set()),
    (lambda rows: rows[5:6], False, False, {"missing"}),
    (lambda rows: [slow_down(r, 1.2) for r in rows], False, False, set()),
    (lambda rows: [slow_down(r, 1.2) for r in rows], False, True, {"perhaps"}),
    (lambda rows: [slow_down(r, 1.4) for r in rows], False, False, {"slower"}),
  ],
)
def test_gate_on_measured_rows(change, allow_missing, strict, kinds):
  before = rows.read(RESULTS / rows.ROWS)
  assert len(before) == 12 and sum(map(comparison.is_gated, keys(before))) == 4
  report = comparison.compare(before, change(before), 0.15)
  failures = compare.find_failures(report, allow_missing, strict)
  assert all(comparison.is_gated(key) for key, _ in failures)
  found = {
    next(k for k in ("missing", "perhaps", "slower") if k in verdict)
    for _, verdict in failures
  }
  assert found == kinds


def keys(found):
  return [row.key for row in found]


def test_verdicts_agree_with_their_numbers():
  """Whatever the noise, the words say where the interval is."""
  for seed in range(20):
    report = comparison.compare(image_rows(seed), image_rows(seed + 50), 0.1)
    for found in report.comparisons:
      low, high = found.interval.low, found.interval.high
      words = compare.describe_verdict(found, 0.1)
      assert ("slower by more" in words and "perhaps" not in words) == (
        found.past and high < 1
      )
      assert ("within" in words) == (
        not low <= 1 <= high and low >= 1 / 1.1 and high <= 1.1
      )
      if found.inconclusive:
        assert low < 1 / 1.1 and "perhaps" in words


def test_annotations_of_a_github_workflow(tmp_path):
  fewer = rows.read(RESULTS / rows.ROWS)[:-2]
  rows.write(tmp_path, fewer)
  result = subprocess.run(
    [sys.executable, "-m", "imgbench.bench.compare", RESULTS, tmp_path],
    env={**processes.environment(), "GITHUB_ACTIONS": "true"},
    capture_output=True,
    text=True,
    check=False,
  )
  assert result.returncode == errors.EXIT_CHECK, result.stderr
  (line,) = [x for x in result.stdout.splitlines() if x.startswith("::error ")]
  assert "infer vit_ti16" in line
