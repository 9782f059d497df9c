"""Tests of quantities: as rows, compared."""

import hashlib
import json
import pathlib
import statistics

import pytest

import imgbench
from imgbench import environment
from imgbench import errors
from imgbench.bench import compare
from imgbench.bench import comparison
from imgbench.bench import quantities
from imgbench.bench import rows
from imgbench.bench.pages import html_report
from tests import raising
from tests.train import processes

RESULTS = pathlib.Path(imgbench.__file__).parents[1] / "experiments" / "results"
# SHA-256 of the files that were converted to folders of these names.
DIGESTS = {
  "input_cpu": "ea510c739bd500fc25d09331621770ec",
  "metrics_cpu": "0f8de2d2665f36761414bdaa12b63253",
  "scaling_cpu": "8c740765c6b7e49838b79887b5cbf125",
  "step_cifar10_fast": "e60417eb0e85e97aa2763f4cf52322be",
  "testbed_cpu": "3b088f2ea1bfe4e09f3eecc94d5af9c7",
}
SAMPLES = {
  "step_ms": quantities.Samples("ms", [4.0, 1.0, 2.0]),
  "images_per_s": quantities.Samples("images/s", [250.0, 1000.0, 500.0]),
  "share_outside_step": quantities.Samples("relative cost", [-0.5, 0.5]),
}


def write(folder, found=SAMPLES, task="step"):
  machine = environment.collect()
  quantities.write(folder, task, found, {"config": "a.py"}, machine)
  return folder


def old_document(folder: rows.RowFolder):
  """Returns the document of an old benchmark with the same numbers."""
  spread = lambda values: {
    "median": statistics.median(values),
    "min": min(values),
    "max": max(values),
    "n": len(values),
    "values": values,
  }
  return {
    **folder.config,
    "rows": {
      row.key.name: spread([process.value for process in row.raw])
      for row in folder.rows
    },
    "environment": folder.environment,
  }


def test_samples_and_paired_ratio():
  ratio = quantities.ratio("relative cost", [2.0, 9.0, 4.0], [1.0, 3.0, 4.0])
  assert ratio.values == [2.0, 3.0, 1.0]
  (row,) = quantities.as_rows("step", {"input_over_bare": ratio})
  assert (row.rate, row.rate_low, row.rate_high) == (2.0, 1.0, 3.0)
  assert row.processes == 3 and row.rate_unit == "relative cost"
  assert [process.value for process in row.raw] == ratio.values
  assert row.key.text() == "step input_over_bare"


def test_ratio_needs_pairs():
  with pytest.raises(ValueError):
    quantities.ratio("relative cost", [1.0, 2.0], [1.0])


def test_rows_are_written_with_their_environment(tmp_path):
  folder = rows.read_folder(write(tmp_path / "deep" / "rows"))
  assert folder.config == {"config": "a.py"}
  assert folder.rows[0].key == rows.Key("step", name="step_ms")
  assert folder.rows[0].rate == 2.0
  digest = rows.environment_digest(folder.path)
  assert {row.environment for row in folder.rows} == {digest}
  assert quantities.read(folder.path) == {
    name: samples._replace(values=[*samples.values])
    for name, samples in SAMPLES.items()
  }
  found = folder.environment
  assert found["versions"]["jax"] and found["platform"] == "cpu"
  assert found["num_devices"] == 8 and found["cores"] >= 1


def test_rows_are_printed(capsys):
  quantities.publish("step", SAMPLES, {}, "")
  head, *lines = capsys.readouterr().out.splitlines()
  assert " ".join(head.split()) == "quantity median least largest unit rounds"
  assert " ".join(lines[0].split()) == "step_ms 2.00 1.00 4.00 ms 3"
  assert len(lines) == len(SAMPLES)


def test_commit_is_marked_when_the_code_was_changed():
  commit = environment.find_commit()
  assert commit == "unknown" or len(commit.rstrip("+")) == 12


@pytest.mark.parametrize(
  ("samples", "setting", "given"),
  [
    (quantities.Samples("mm", [1.0]), "rate_unit", "'mm'"),
    (quantities.Samples("ms", [None]), "raw", "none"),
  ],
)
def test_impossible_quantities_are_refused(samples, setting, given):
  (row,) = quantities.as_rows("step", {"x": quantities.Samples("ms", [1.0])})
  record = row.as_json() | {
    "rate_unit": samples.unit,
    "raw": [{"value": value} for value in samples.values],
  }
  check = raising.about(setting, given=given)
  with pytest.raises(errors.InputError, check=check):
    rows.from_json(record)


def test_folders_of_other_rows_are_left_alone(tmp_path):
  quantities.check_out("", "step")
  quantities.check_out(str(tmp_path / "new"), "step")
  folder = write(tmp_path / "rows")
  quantities.check_out(str(folder), "step")
  given = f"{folder}, rows of task step"
  check = raising.about("--out", given=given)
  with pytest.raises(errors.InputError, check=check):
    quantities.check_out(str(folder), "input")
  path = folder / rows.ROWS
  check = raising.about("--out", given=f"{path}: {path} is none")
  with pytest.raises(errors.InputError, check=check):
    quantities.check_out(str(path), "step")


def test_less_is_better_where_the_unit_says_so():
  """Twice the milliseconds are half the speed, as are half the images/s."""
  before = quantities.as_rows("step", SAMPLES)
  changed = {
    name: samples._replace(
      values=[
        value * (0.5 if samples.unit == "images/s" else 2)
        for value in samples.values
      ]
    )
    for name, samples in SAMPLES.items()
  }
  after = quantities.as_rows("step", changed)
  ms, speed, share = comparison.compare(before, after, 0.1).comparisons
  assert ms.ratio == pytest.approx(0.5) and speed.ratio == pytest.approx(0.5)
  assert share.verdict == comparison.NOT_COMPARED
  assert share.reason.startswith("A: 2 processes, 1 ")


def test_comparison_of_folders(tmp_path):
  folders = [write(tmp_path / "a"), write(tmp_path / "b")]
  text = compare.format_report(
    *compare.compare_folders(folders, None, "throughput")
  )
  (line,) = [x for x in text.splitlines() if x.startswith("step step_ms")]
  assert line.split()[2:7] == ["2.00", "ms", "2.00", "ms", "1.000"]
  assert "REGRESSION" not in text


def test_a_page_shows_quantities(tmp_path):
  page = html_report.write(write(tmp_path)).read_text()
  page = page.replace("<wbr>", "")  # within a name
  assert "share_outside_step" in page and "relative cost" in page
  assert "Rounds per row" in page and "Processes per row" not in page
  # Least and largest are no interval.
  found = rows.read_folder(tmp_path).rows
  assert html_report.format_coverage(found) == "" and "95%" not in page
  markdown = (tmp_path / html_report.MARKDOWN).read_text()
  assert "| step_ms | 2.00 | 1.00 | 4.00 | ms | 3 |" in markdown


@pytest.mark.parametrize("name", sorted(DIGESTS))
def test_converted_results_have_every_value(name):
  """The folder gives the bytes of the old file."""
  folder = rows.read_folder(RESULTS / name)
  document = old_document(folder)
  for row in folder.rows:
    old = document["rows"][row.key.name]
    bounds = old["median"], old["min"], old["max"], old["n"]
    assert (row.rate, row.rate_low, row.rate_high, row.processes) == bounds
  text = json.dumps(document, indent=2) + "\n"
  assert hashlib.sha256(text.encode()).hexdigest()[:32] == DIGESTS[name]
  same = comparison.compare(folder.rows, folder.rows, 0.15)
  assert len(same.comparisons) == len(folder.rows) and not same.regressions


def test_values_copied_by_hand_from_the_old_files():
  value = lambda name, key: quantities.read(RESULTS / name)[key]
  assert value("step_cifar10_fast", "step_ms") == quantities.Samples(
    "ms",
    [
      *(233.95126530003836, 239.1276749500321, 231.47035350002625),
      *(235.25414220002858, 246.1950105500364),
    ],
  )


@pytest.mark.parametrize("program", ["compare", "report"])
def test_files_of_the_old_format_are_refused_in_one_line(tmp_path, program):
  path = tmp_path / "old.json"
  path.write_text("{}")
  folders = [path] if program == "report" else [write(tmp_path / "a"), path]
  done = processes.run_python("-m", f"imgbench.bench.{program}", *folders)
  assert done.returncode == 2
  (line,) = done.stderr.strip().splitlines()
  assert f"{path}: expected" in line and "got a file" in line
