"""Tests of the metric writers."""

from concurrent import futures
import json

import pytest

from imgbench import errors
from imgbench import writers
from tests import raising


def steps(path):
  return [json.loads(line)["step"] for line in path.read_text().splitlines()]


def test_reopening_cuts_back_to_the_step(tmp_path):
  writer = writers.MetricWriter(tmp_path, 0)
  for step in (1, 2, 3):
    writer.write(step, {"train/loss": 1.0 / step})
  writer.close()
  writer = writers.MetricWriter(tmp_path, 2)
  assert steps(tmp_path / "metrics.jsonl") == [1, 2]
  writer.write(3, {"train/loss": 0.5})
  writer.close()
  assert steps(tmp_path / "metrics.jsonl") == [1, 2, 3]


def test_a_torn_last_line_is_cut(tmp_path):
  path = tmp_path / "metrics.jsonl"
  path.write_text('{"step": 1, "train/loss": 2.0}\n{"step": 2, "tra')
  writers.MetricWriter(tmp_path, 5, tensorboard=False).close()
  assert steps(path) == [1]


@pytest.mark.parametrize(
  "damaged", [b'{"step": 2, "tra\x00n"', b"\xff\xfe", b"3", b""]
)
def test_fault_02_records_after_a_damaged_line_are_kept(tmp_path, damaged):
  path = tmp_path / "metrics.jsonl"
  lines = [b'{"step": 1}', damaged, b'{"step": 3}', b'{"step": 4}']
  path.write_bytes(b"\n".join(lines) + b"\n")
  assert [r["step"] for r in writers.read_lines(path)] == [1, 3, 4]
  writers.MetricWriter(tmp_path, 3, tensorboard=False).close()
  assert steps(path) == [1, 3]


def test_fault_02_records_without_a_step_are_left_out(tmp_path):
  path = tmp_path / "metrics.jsonl"
  path.write_text('{"step": 1}\n{"step": null}\n{"step": "2"}\n{"step": 3}\n')
  writers.MetricWriter(tmp_path, 3, tensorboard=False).close()
  assert steps(path) == [1, 3]


def test_not_finite_values_are_null(tmp_path):
  writer = writers.MetricWriter(tmp_path, 0, tensorboard=False)
  writer.write(1, {"a": float("nan"), "b": float("inf"), "c": 1})
  writer.close()
  assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {
    "step": 1,
    "a": None,
    "b": None,
    "c": 1,
  }


def test_event_files_hold_the_scalars(tmp_path):
  writer = writers.MetricWriter(tmp_path, 0)
  writer.write(7, {"val/top1_accuracy": 0.75})
  writer.close()
  (path,) = tmp_path.glob("events.*")
  data = path.read_bytes()
  assert b"val/top1_accuracy" in data


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
  path = tmp_path / "results.json"
  writers.write_json(path, {"a": 1})
  with pytest.raises(ValueError):
    writers.write_json(path, {"a": float("nan")})
  assert json.loads(path.read_text()) == {"a": 1}
  assert [p.name for p in tmp_path.iterdir()] == ["results.json"]


def test_writers_are_closed_where_one_cannot_be_made(tmp_path, monkeypatch):
  closed = []

  class Broken:
    def __init__(self, **settings):
      raise OSError("no space")

  monkeypatch.setitem(writers.WRITERS._entries, "tensorboard", Broken)
  monkeypatch.setattr(
    writers.JsonLines, "close", lambda writer: closed.append(writer)
  )
  with pytest.raises(OSError):
    writers.MetricWriter(tmp_path, 0)
  assert len(closed) == 1


def test_file_key():
  assert writers.make_file_key("cifar10:test") == "cifar10-test"
  assert writers.make_file_key("a-b:train[:90%]") == "a-b-train__90__"


def test_threads_that_write_one_file_leave_a_whole_one(tmp_path):
  path = tmp_path / "file"
  texts = [str(i) * (1000 + 5000 * i) for i in range(4)]

  def write(text):
    for _ in range(25):
      writers.write_atomically(path, text)
      assert path.read_text() in texts

  with futures.ThreadPoolExecutor(4) as pool:
    list(pool.map(write, texts))
  assert path.read_text() in texts
  assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
  ("text", "written"),
  [("é", "é"), ("\udcc3", "\\udcc3"), ("\ud800", "\\ud800")],
)
def test_fault_14_names_in_another_encoding_are_escaped(
  tmp_path, text, written
):
  path = tmp_path / "table.csv"
  writers.write_atomically(path, text)
  assert path.read_bytes().decode() == written


def test_fault_17_a_file_that_a_flag_names(tmp_path):
  path = tmp_path / "absent" / "rows.json"
  writers.write_output("--json", str(path), "text")
  assert path.read_text() == "text"
  for name in (f"{path}/x", str(tmp_path), ".", "x" * 300, "s3://bucket/x"):
    about = raising.about("--json")
    with pytest.raises(errors.InputError, check=about):
      writers.write_output("--json", name, "text")
  assert [p.name for p in tmp_path.iterdir()] == ["absent"]
