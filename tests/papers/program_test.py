"""Tests of the output of paper scripts."""

import hashlib
import json

from absl import flags
import numpy as np
import pytest

from imgbench import errors
from imgbench.papers import figures
from imgbench.papers import program
from tests import raising
from tests.papers import rows

POINT = figures.Point("a", rows.value(70), rows.value(60), "models")


def draw():
  return figures.scatter([figures.Panel("all", "x", "y", [POINT])])


def write(out, source):
  output = program.Output(out)
  output.csv("table.csv", ("name", "value"), [("a", 0.5), ("b", None)])
  output.text("table.md", "text\n")
  output.figure("scatter", draw())
  output.inputs([source])
  output.undefined("b", "no example")
  output.note("one thing")
  output.end_with("the end")
  output.close()


def test_numbers_have_one_form(tmp_path):
  output = program.Output(tmp_path)
  rows = [("a,b", 1, 0.1, np.float32(0.5), np.int64(7), None, -1e-12)]
  output.csv("numbers.csv", list("sifgjnz"), rows)
  output.csv("none.csv", ("s", "i"), [])
  with pytest.raises(ValueError, match="finite"):
    output.csv("x.csv", ["x"], [[float("nan")]])
  with pytest.raises(ValueError, match="shorter"):
    output.csv("x.csv", ["x", "y"], [[1]])
  output.close()
  assert (tmp_path / "none.csv").read_text() == "s,i\n"
  assert (tmp_path / "numbers.csv").read_text() == (
    's,i,f,g,j,n,z\n"a,b",1,0.10000000,0.50000000,7,,0.00000000\n'
  )


def test_files_and_manifest(tmp_path, capsys):
  source = tmp_path / "input.npy"
  source.write_bytes(b"1234")
  out = tmp_path / "new" / "out"
  out.mkdir(parents=True)
  (out / "other.txt").write_text("mine")
  (out / "table.csv").write_text("old")
  write(out, source)
  manifest = json.loads((out / program.MANIFEST).read_text())
  assert manifest["inputs"] == {
    str(source): hashlib.sha256(b"1234").hexdigest()
  }
  assert manifest["notes"] == ["one thing"]
  assert manifest["undefined"] == {"b": "no example"}
  assert manifest["files"] == [
    "scatter.pdf",
    "scatter.png",
    "table.csv",
    "table.md",
  ]
  assert manifest["versions"]["numpy"] == np.__version__
  assert "started_at" not in manifest
  assert (out / "table.csv").read_text() == "name,value\na,0.50000000\nb,\n"
  assert (out / "other.txt").read_text() == "mine"
  assert (out / "scatter.pdf").read_bytes().startswith(b"%PDF")
  printed = capsys.readouterr()
  assert printed.err == "note: one thing\n"
  first, last = printed.out.splitlines()
  assert "5 files" in first and str(out) in first and last == "the end"


def test_the_same_bytes_again(tmp_path):
  (tmp_path / "input").write_bytes(b"1")
  for name in ("a", "b"):
    write(tmp_path / name, tmp_path / "input")
  for path in (tmp_path / "a").iterdir():
    assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path


def test_nothing_is_written_before_the_end_or_without_out(tmp_path, capsys):
  output = program.Output(tmp_path)
  output.text("table.md", "text")
  assert not list(tmp_path.iterdir())
  output = program.Output(None)
  output.figure("scatter", None)  # not drawn
  output.text("table.md", "text")
  assert not output.wanted
  output.end_with("the end")
  output.close()
  assert capsys.readouterr().out == "the end\n"


def test_a_file_is_written_once(tmp_path):
  output = program.Output(tmp_path)
  output.text("table.md", "text")
  for name in ("table.md", program.MANIFEST):
    with pytest.raises(ValueError, match="twice"):
      output.text(name, "text")


def test_a_folder_that_cannot_be_is_named(tmp_path):
  (tmp_path / "file").write_text("")
  check = raising.about("--out")
  with pytest.raises(errors.InputError, match="file/out", check=check):
    program.Output(tmp_path / "file" / "out")
  output = program.Output(tmp_path / "out")
  gone = tmp_path / "gone"
  output.inputs([gone])
  with pytest.raises(errors.InputError, check=raising.about(str(gone))):
    output.close()
  output = program.Output(tmp_path / "out2")
  output.text("table.md", "")
  (tmp_path / "out2" / "table.md").mkdir()
  with pytest.raises(errors.InputError, match="out2", check=check):
    output.close()


def test_only_the_flags_that_are_used():
  values = flags.FlagValues()
  program.define_flags(values, (program.OUT, program.PUBLISHED))
  assert set(values) == {"out", "published"}
  values = flags.FlagValues()
  program.define_flags(values)
  values(["x", "--predictions=a", "--predictions=b"])
  assert values.predictions == ["a", "b"] and values.allow_reversed == []
