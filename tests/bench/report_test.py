"""Tests of the page and the Markdown of a benchmark's folder."""

import dataclasses
import json
import re
import subprocess
import sys

from PIL import Image
import pytest

from imgbench import errors
from imgbench.bench import medians
from imgbench.bench import rows
from imgbench.bench.pages import html_report
from imgbench.bench.pages import roofline
from imgbench.bench.pages import row_tables as tables
from imgbench.bench.pages import selection as select
from imgbench.tables import formats
from imgbench.tables import themes
from tests import raising
from tests.bench import row_samples
from tests.report import page_test
from tests.train import processes

HOSTILE = '</table><script>alert("x")</script> | $\\frac{1}{0}$'


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
  folder = tmp_path_factory.mktemp("bench")
  machine = row_samples.Machine()
  row_samples.write(folder, row_samples.all_rows(machine), machine)
  return folder, html_report.write(folder).read_text()


@pytest.fixture
def small_figures(monkeypatch):
  monkeypatch.setattr(themes, "DPI", 40)


def written(folder, made):
  machine = row_samples.Machine()
  row_samples.write(folder, made, machine)
  return page_test.Parser(html_report.write(folder).read_text())


def test_page_loads_nothing_and_runs_nothing(whole):
  page = page_test.Parser(whole[1])
  assert page.tags.isdisjoint({"script", "link", "iframe", "object", "base"})
  assert all(v.startswith("data:image/png;base64,") for v in page.loads)
  assert len(page.loads) == 2 * 5  # Light and dark.
  assert "http://" not in whole[1] and "https://" not in whole[1]


def test_page_has_all_measurements(whole):
  text = page_test.Parser(whole[1]).text
  for words in (
    "4 × Chip X",
    "PyTorch 2.13.0",
    "47 of 49 measured",
    "memory copy 268435456 bytes",
    "µs per call",
    "RESOURCE_EXHAUSTED: 96.1 GiB",
    "batch 4096",
    "took over 600 s",
    "cifar10_fast 78%",
    "93.75%",
    "torch-compile",
    "train resnet50 b64 224px bfloat16 tfds",
  ):
    assert words in text, words
  ids = re.findall(r'<section id="(\w+)">', whole[1])
  assert ids == [
    *("models", "throughput", "roofline", "ceilings", "peers", "scaling"),
    *("input", "compiling", "accuracy", "failures", "rows", "setup"),
  ]


def test_figures_are_written_next_to_the_page(whole):
  names = {path.stem for path in whole[0].glob("*.png")}
  assert names == {"throughput", "roofline", "peers", "scaling", "compiling"}
  for path in whole[0].glob("*.png"):
    with Image.open(path) as picture:
      assert picture.width == 10 * themes.DPI


def test_markdown_is_for_a_readme(whole):
  text = (whole[0] / html_report.MARKDOWN).read_text()
  assert text.startswith("# 4 × Chip X\n") and "JAX: 0.11.2" in text
  tables_found = re.findall(r"(?:^\|.*\|$\n)+", text, re.MULTILINE)
  assert len(tables_found) == 7
  for table in tables_found:
    lines = table.splitlines()
    assert re.fullmatch(r"\|( -{3}:? \|)+", lines[1])
    assert len({line.count("|") for line in lines}) == 1


def test_a_page_is_the_same_every_time(whole, tmp_path):
  folder, page = whole
  assert html_report.write(folder).read_text() == page


def test_empty_sections_are_left_out(tmp_path, small_figures):
  machine = row_samples.Machine()
  page = written(tmp_path / "micro", row_samples.micro(machine))
  assert "Ceilings" in page.text and not page.loads
  for words in ("Roofline", "Scaling", "All rows", "Ours over baselines"):
    assert words not in page.text
  failed = rows.Row(row_samples.key(), "crashed", HOSTILE)
  page = written(tmp_path / "failed", [failed])
  assert "0 of 1 measured" in page.text and HOSTILE in page.text
  assert not page.loads
  markdown = (tmp_path / "failed" / html_report.MARKDOWN).read_text()
  assert r"</script> \| $" in markdown


def test_names_of_any_kind_are_shown_as_they_are(tmp_path, small_figures):
  machine = row_samples.Machine()
  row = machine.image_row(row_samples.key())
  row = dataclasses.replace(
    row, key=dataclasses.replace(row.key, model=HOSTILE)
  )
  page = written(tmp_path, [row])
  assert "script" not in page.tags and HOSTILE in page.text


def test_rows_that_know_little_are_drawn(tmp_path, small_figures):
  """One process, no FLOPs, no bytes, no memory, one batch."""
  row = row_samples.Machine().row(row_samples.key(), 0.1, processes=1)
  page = written(tmp_path, [row])
  assert "Throughput by batch" in page.text and "Roofline" not in page.text
  assert html_report.format_coverage([row]) == ""


def test_folders_without_an_environment_have_a_page(tmp_path, small_figures):
  row = row_samples.Machine().image_row(row_samples.key())
  rows.append(tmp_path, row)
  page = page_test.Parser(html_report.write(tmp_path).read_text())
  assert tmp_path.name in page.text


def test_summary_has_the_fastest_batch_and_baselines():
  machine = row_samples.Machine(process_noise=0, step_noise=0, slow_share=0)
  made = list(row_samples.image_rows(machine, models=["resnet50"]))
  theirs = row_samples.key(framework="torch-eager", strategy=None)
  made.append(machine.image_row(theirs, factor=0.5))
  made.append(machine.image_row(row_samples.key(data="host", batch=512)))
  table = tables.build_models(made)
  train, infer = table.cells
  cell = dict(zip(table.header, train, strict=True))
  assert cell["Model"] == "resnet50" and cell["Task"] == "training"
  assert cell["Batch"] == "256" and "Devices" not in cell
  assert cell["Interval"] == f"[{', '.join([cell['Images/s']] * 2)}]"
  assert cell["times torch-eager"] == "2.00 [2.00, 2.00]"
  # 0.25 of the peak, at batch 256 times 256 / 272.
  assert cell["MFU (datasheet peak)"] == "23.5%"
  assert infer[1] == "inference" and infer[-1] == formats.DASH


def test_coverage_is_that_of_the_intervals():
  machine = row_samples.Machine()
  ours = [
    machine.image_row(row_samples.key(batch=batch), processes=processes)
    for batch, processes in ((16, 4), (64, 5), (256, 6))
  ]
  bounds = medians.interval(range(5)), medians.interval(range(6))
  few, more = (f"{100 * b.coverage:.4g}%" for b in bounds)
  coverage = html_report.format_coverage
  assert [few, more] == ["93.75%", "96.88%"]
  assert coverage(ours[:1]) == ""
  assert coverage(ours[:2]) == f"{few} (medians)"
  assert coverage(ours) == f"{few} to {more} (medians)"
  theirs = row_samples.key(framework="torch-eager", strategy=None)
  made = [ours[1], machine.image_row(theirs)]
  ratio = f"{100 * medians.COVERAGE:.4g}% (ratios)"
  assert coverage(made) == f"{few} (medians), {ratio}"
  run = row_samples.time_to_accuracy(machine)
  assert coverage([run]) == f"{100 * run.interval_coverage:.4g}% (means)"


def test_baselines_are_matched_point_by_point():
  machine = row_samples.Machine()
  ours = machine.image_row(row_samples.key())
  other = machine.image_row(
    row_samples.key(framework="torch-compile", batch=32, strategy=None)
  )
  assert select.compute_ratios([ours, other]) == []
  same = machine.image_row(
    row_samples.key(framework="torch-compile", strategy=None), factor=0.8
  )
  (found,) = select.compute_ratios([ours, other, same])
  assert found.theirs is same
  assert found.interval.low < 1 / 0.8 < found.interval.high


def test_scaling_keeps_the_batch_or_that_of_a_device():
  machine = row_samples.Machine(process_noise=0, step_noise=0, slow_share=0)
  rows_of = lambda batch, devices: machine.image_row(
    row_samples.key(batch=batch, devices=devices)
  )
  weak = [rows_of(64 * d, d) for d in (1, 2, 4)]
  strong = rows_of(64, 2)
  groups = select.group_by_devices([*weak[::-1], strong])
  assert groups == [(select.WEAK, weak), (select.STRONG, [weak[0], strong])]
  found = select.list_efficiencies(weak)
  assert found == pytest.approx([1, 0.96, 0.96**2])


def test_machines_of_many_devices_have_figures(tmp_path, small_figures):
  machine = row_samples.Machine()
  made = [
    machine.image_row(row_samples.key(batch=512 * d, devices=d))
    for d in (8, 16)
  ]
  page = written(tmp_path, made)
  assert "8 devices" in page.text
  assert {path.stem for path in tmp_path.glob("*.png")} == {
    *("throughput", "roofline", "scaling", "compiling")
  }


def test_the_roof_is_computed_from_the_shares():
  machine = row_samples.Machine()
  found = roofline.select_rows(list(row_samples.all_rows(machine)))
  roof = roofline.compute_roof(found)
  assert roof.bandwidth == pytest.approx(3.4e12)
  expected = {"datasheet": 9.9e14, "measured": 0.8 * 9.9e14}
  assert roof.peaks == pytest.approx(expected)


def test_figures_of_many_rows_show_one_batch():
  made = list(row_samples.image_rows(row_samples.Machine()))
  assert {r.key.batch for r in roofline.select_rows(made)} == {256}
  half = row_samples.key(dtype="float32", matmul_precision="highest")
  made.append(row_samples.Machine().image_row(half))
  shown = select.keep_first_precision(select.keep_compiled(made))
  assert {(r.key.batch, r.key.dtype) for r in shown} == {(256, "bfloat16")}
  assert len(shown) == 6 and len(select.keep_compiled(made)) == 7
  assert select.name_precision(half) == "float32, matmul highest"
  both = dataclasses.replace(half, conv_precision="highest")
  assert select.name_precision(both) == "float32, highest"


def test_numbers_read_well():
  assert formats.si(9.9e14, "FLOP/s") == "990 TFLOP/s"
  assert formats.si(999.9e9, "FLOP/s") == "1.00 TFLOP/s"
  assert formats.si(12.0) == "12"
  assert formats.in_unit(2e4, "calls/s") == "50.0 µs per call"
  assert formats.in_unit(3.4e12, "bytes/s") == "3.40 TB/s"
  assert formats.rounded(12345.6) == "12,300"
  assert [formats.rounded(v) for v in (-0.5, 99.96, 999.6)] == [
    *("-0.500", "100", "1,000")
  ]
  assert formats.rounded(0.01234) == "0.0123"
  assert formats.in_unit(None, "s") == formats.DASH
  assert formats.seconds(0.00456) == "4.56 ms"
  assert [formats.tick(v) for v in (0.5, 20, 5e3, 1e14)] == [
    *("0.5", "20", "5 k", "100 T")
  ]


def test_the_program_says_where_the_page_is(tmp_path):
  machine = row_samples.Machine()
  row_samples.write(tmp_path / "rows", row_samples.micro(machine), machine)
  run = lambda *arguments: subprocess.run(
    [sys.executable, "-m", "imgbench.bench.report", *arguments],
    env=processes.environment(),
    capture_output=True,
    text=True,
    check=False,
  )
  done = run(str(tmp_path / "rows"))
  assert done.returncode == 0, done.stderr
  assert done.stdout.strip() == str(tmp_path / "rows" / html_report.PAGE)
  bad = run()
  assert bad.returncode == 2 and "arguments" in bad.stderr


def test_folders_without_rows_are_refused(tmp_path):
  (tmp_path / rows.ENVIRONMENT).write_text(json.dumps({}))
  check = raising.about(str(tmp_path), given="none")
  with pytest.raises(errors.InputError, check=check):
    html_report.write(tmp_path)
