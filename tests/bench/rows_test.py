"""Tests of rows of the benchmark: written, read, refused."""

import csv
import dataclasses
import json

import pytest

from imgbench import errors
from imgbench.bench import rows
from imgbench.bench import summaries
from tests import raising
from tests.bench import row_samples
from tests.train import processes


@pytest.fixture
def machine():
  return row_samples.Machine()


@pytest.fixture
def row(machine):
  return machine.image_row(row_samples.key(), environment="0123456789ab")


def changed(row, **values):
  """Returns the JSON object of a row with other values."""
  return row.as_json() | values


def test_every_kind_of_row_is_read_back(tmp_path, machine):
  made = list(row_samples.all_rows(machine))
  row_samples.write(tmp_path, made, machine)
  folder = rows.read_folder(tmp_path)
  assert folder.rows == made
  assert {r.key.task for r in made} == {*rows.TASKS} - {"eval"}
  assert {r.key.framework for r in made} == {*rows.FRAMEWORKS}
  assert folder.environment["device_kind"] == "Chip X"
  assert folder.config == {"models": ["resnet50"]}
  assert len(rows.environment_digest(tmp_path)) == 12


def test_a_line_is_flat_and_starts_with_the_key(row):
  record = row.as_json()
  assert list(record)[:3] == ["task", "framework", "model"]
  assert list(record)[-1] == "raw"
  assert record["batch"] == 64 and record["latency_ms"]["p99"] > 0
  assert "pair" not in record["raw"][0]  # What was not measured is left out.


def test_an_incomplete_line_is_ignored_and_cut_off(tmp_path, machine, row):
  rows.append(tmp_path, row)
  path = tmp_path / rows.ROWS
  whole = path.read_bytes()
  path.write_bytes(whole + whole[:100])
  assert rows.read(path) == [row]
  other = machine.image_row(row_samples.key("vit_s16"))
  rows.append(tmp_path, other)
  assert rows.read(path) == [row, other]


def test_a_point_that_failed_may_be_measured_again(tmp_path, row):
  rows.append(tmp_path, rows.Row(row.key, "crashed", "ended by SIGSEGV"))
  rows.append(tmp_path, row)
  assert rows.read(tmp_path / rows.ROWS) == [row]
  rows.append(tmp_path, row)
  path = tmp_path / rows.ROWS
  check = raising.about(
    f"{path}, line 3", given=f"a second of {row.key.text()}"
  )
  with pytest.raises(errors.InputError, check=check):
    rows.read(path)


def test_rows_of_older_versions_are_read(row):
  record = row.as_json()
  for name in ("target", "batch_asked", "bandwidth_share", "attention"):
    del record[name]
  older = rows.from_json(record)
  assert (
    older.bandwidth_share is older.attention is None and older.key == row.key
  )


@pytest.mark.parametrize(
  ("values", "setting", "given"),
  [
    ({"latenci_ms": None}, "latenci_ms", "None"),
    ({"task": "training"}, "task", "'training'"),
    ({"framework": "tf"}, "framework", "'tf'"),
    ({"status": "fine"}, "status", "'fine'"),
    ({"status": "crashed"}, "message", "none"),
    ({"batch": "64"}, "batch", "'64'"),
    ({"batch": True}, "batch", "True"),
    ({"model": None}, "model", "none"),
    ({"processes": 4}, "processes", 4),
    ({"raw": []}, "processes", 5),
    ({"raw": {}}, "raw", "{}"),
    ({"raw": [{"throughput_s": [0.0]}], "processes": 1}, "raw", 0.0),
    ({"raw": [{}], "processes": 1}, "raw", "none"),
    ({"raw": [{"first_step_s": "1"}]}, "raw[0].first_step_s", "'1'"),
    ({"images_per_s_low": 1e9}, "images_per_s", None),
    ({"images_per_s": float("nan")}, "images_per_s", "nan"),
    ({"latency_ms": {"median": "3"}}, "latency_ms", "{'median': '3'}"),
    ({"task": "micro"}, "name", "none"),
    ({"batch": 10**30}, "batch", 10**30),
    ({"batch": 0}, "batch", 0),
    ({"devices": -1}, "devices", -1),
    ({"images_per_s": -5.0, "images_per_s_low": None}, "images_per_s", -5.0),
    ({"flops_share_of_peak": {"x": -0.5}}, "flops_share_of_peak", -0.5),
    ({"compile_cold_s": -1.0}, "compile_cold_s", -1.0),
  ],
)
def test_bad_rows_are_refused(row, values, setting, given):
  with pytest.raises(
    errors.InputError, check=raising.about(setting, given=given)
  ):
    rows.from_json(changed(row, **values))


def test_near_names_of_unknown_fields_are_listed(row):
  with pytest.raises(errors.InputError) as caught:
    rows.from_json(changed(row, latenci_ms=None))
  assert "latency_ms" in caught.value.fix


def test_bad_rows_are_not_written(tmp_path, row):
  bad = dataclasses.replace(row, images_per_s=float("inf"))
  with pytest.raises(ValueError):
    rows.append(tmp_path, bad)
  assert not (tmp_path / rows.ROWS).exists()


def test_a_key_without_its_task_is_refused():
  check = raising.about("task", expected="str", given="none")
  with pytest.raises(errors.InputError, check=check):
    rows.from_json({"model": "resnet50"})


def test_errors_name_file_and_line(tmp_path, row):
  rows.append(tmp_path, row)
  path = tmp_path / rows.ROWS
  with path.open("a") as file:
    file.write("[1]\n")
  with pytest.raises(errors.InputError, check=raising.about(f"{path}, line 2")):
    rows.read(path)


def test_folders_without_rows_are_refused(tmp_path):
  path = tmp_path / "nowhere"
  with pytest.raises(errors.InputError, check=raising.about(str(path))):
    rows.read_folder(path)
  path = tmp_path / rows.ROWS
  path.write_text("")
  with pytest.raises(errors.InputError, check=raising.about(str(path))):
    rows.read_folder(tmp_path)


def test_csv_has_the_columns_flattened(tmp_path, machine, row):
  failed = rows.Row(row_samples.key(batch=1), "timeout", "over 9 s, twice")
  path = rows.write_csv(tmp_path, [row, failed])
  first, second = csv.DictReader(path.open())
  assert float(first["latency_ms.median"]) == row.latency_ms["median"]
  assert float(first["flops_share_of_peak.measured"]) > 0
  assert len(first["step_ms_by_process"].split()) == 5
  assert second["message"] == "over 9 s, twice"
  assert second["images_per_s"] == second["step_ms_by_process"] == ""
  assert not {"raw", "latency_ms", "flops_share_of_peak"} & {*first}


def test_keys_read_well():
  assert row_samples.key().text() == "train resnet50 b64 224px bfloat16"
  key = row_samples.key(
    framework="torch-eager",
    conv_precision="highest",
    devices=2,
    data="tfds",
    strategy="fsdp",
  )
  assert key.text() == (
    "train resnet50 b64 224px bfloat16 conv=highest fsdp 2 devices data=tfds"
    " torch-eager"
  )
  micro = rows.Key("micro", name="matmul", size="8x8x8", dtype="float32")
  assert micro.text() == "micro matmul 8x8x8 float32"


def test_numbers_of_a_row_by_hand():
  steps = ((0.1, 0.2, 0.3), (0.4,), (0.5, 0.5), (0.25,), (0.8,))
  processes = [
    rows.Process(
      latencies_ms=(10.0 * (place + 1),),
      throughput_s=times,
      first_step_s=1.0 + place,
      compile_s=30.0 - place,
      compile_cached=place > 0,
      peak_memory_bytes=100 + place,
    )
    for place, times in enumerate(steps)
  ]
  facts = summaries.Facts(
    params=7,
    flops_per_image=1e9,
    bytes_accessed=4e9,
    peak_flops={"datasheet": 1e11},
    bandwidth=2e10,
  )
  key = row_samples.key(batch=8, devices=2)
  row = summaries.build_row(key, processes, facts, batch_asked=16)
  # Medians 0.2, 0.4, 0.5, 0.25, 0.8 s: 40, 20, 16, 32, 10 images/s.
  assert row.images_per_s == 20
  assert (row.images_per_s_low, row.images_per_s_high) == (10, 40)
  assert row.images_per_s_per_device == 10
  assert row.interval_coverage == 0.9375
  assert row.compile_cold_s == 30 and row.compile_cached_s == 27.5
  assert row.first_step_s == 3 and row.peak_memory_bytes == 104
  assert row.latency_ms == pytest.approx({"median": 30, "p90": 46, "p99": 49.6})
  assert row.flops_share_of_peak == pytest.approx({"datasheet": 0.1})
  assert row.bandwidth_share == pytest.approx(4e9 * 2.5 / 2e10)
  assert row.batch_asked == 16 and row.params == 7
  assert summaries.list_speeds(row) == pytest.approx([40, 20, 16, 32, 10])
  latency = summaries.list_speeds(row, summaries.LATENCY)
  assert latency == pytest.approx([800, 400, 800 / 3, 200, 160])


def test_numbers_of_microbenchmarks_and_runs(machine):
  facts = summaries.Facts(work=6e9, rate_unit="FLOP/s")
  key = rows.Key("micro", name="matmul", size="1000x1000x3000")
  processes = [rows.Process(throughput_s=(t,)) for t in (1, 2, 3, 4, 6)]
  row = summaries.build_row(key, processes, facts)
  assert (row.rate, row.rate_low, row.rate_high) == (2e9, 1e9, 6e9)
  check = raising.about(key.text(), expected="work and rate_unit")
  with pytest.raises(errors.InputError, check=check):
    summaries.build_row(key, processes)
  runs = row_samples.time_to_accuracy(machine)
  assert runs.seconds_to_target_low < runs.seconds_to_target
  assert runs.interval_method == "student_t"
  short = row_samples.time_to_accuracy(machine, (True, False, True))
  assert short.seconds_to_target is None and short.processes == 3


def test_few_processes_make_a_row_without_bounds(machine):
  row = machine.image_row(row_samples.key(), processes=2)
  assert row.images_per_s > 0 and row.images_per_s_low is None
  with pytest.raises(errors.InputError, check=raising.about(row.key.text())):
    summaries.build_row(row.key, [rows.Process()])


def test_lines_are_plain_json(tmp_path, row):
  rows.append(tmp_path, row)
  (line,) = (tmp_path / rows.ROWS).read_text().splitlines()
  assert json.loads(line) == json.loads(json.dumps(row.as_json()))


@pytest.mark.parametrize("name", ["bench_quick", "bench_224"])
def test_committed_rows_keep_keys_values_and_order(name):
  folder = processes.ROOT / "experiments/results/cpu_2_cores" / name
  found = rows.read(folder / rows.ROWS)
  lines = (folder / rows.ROWS).read_text().splitlines()
  for row, line in zip(found, lines, strict=True):
    made = row.as_json()
    # Columns that are younger than these rows.
    assert list(made).index("attention") == list(made).index("raw") - 3
    for name in ("attention", "num_processes"):
      assert made.pop(name) is None
    assert json.dumps(made) == line
