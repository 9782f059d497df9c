"""Tests of comparing published figures with ours."""

import pytest

from imgbench.papers import comparison
from imgbench.papers import program
from imgbench.papers import published
from imgbench.papers import study
from imgbench.tables import frame
from tests.papers import rows

TOP1 = "top1_accuracy"


def figure(number, half, model="a", field="value", why="", dataset="x"):
  key = published.FigureKey(model, dataset, "all", TOP1, field)
  return published.PublishedFigure("f.csv", key, str(number), number, half, why)


def test_verdicts():
  ours = comparison.collect_ours(rows.of(x={"a": 76, "b": 40}))
  figures = [
    figure(76.05, 0.05),
    figure(76.06, 0.05),
    figure(40.5, 0.05, "b", why="other preprocessing"),
    figure(40.0, 0.05, "b", why="other preprocessing"),
    figure(50.0, 0.05, "c"),
  ]
  compared = comparison.compare(figures, ours)
  assert compared.verdict.tolist() == [
    comparison.AGREES,  # exactly at the bound
    comparison.DIFFERS,
    comparison.NOT_COUNTED,
    comparison.AGREES,
    comparison.ABSENT,
  ]
  assert compared.ours[1] == 76 and compared.ours[4] is None
  assert compared.difference[1] == pytest.approx(-0.06)
  lines = comparison.describe_differences(compared).splitlines()
  for text in ("value", "76.06", "76.0000", "(-0.0600)"):
    assert text in lines[1]
  assert lines[-1].startswith("1 of 3 ")
  assert lines[-1].endswith(", 1 absent, 1 not counted")
  grid = comparison.summarize(compared)
  assert grid.cells == [
    ["f.csv", "x", TOP1, "value", "2", "1", "1", "1", "0.055", "0.060"],
  ]


def test_all_kinds_of_numbers():
  found = rows.of(x={"a": 70, "b": 80, "c": 90}, y={"a": 60, "b": 75, "c": 80})
  made = study.Study(found, [("x", "y")], study.pair_same([TOP1]))
  ours = comparison.collect_ours(found, made.lines[:1])
  ours |= frame.to_dict(made.drops, drop="drop")
  ours |= frame.to_dict(made.ranked, rank="rank")
  figures = [
    figure(70.0, 0.05),
    figure(60.02, 0.01, field="ci_low"),
    figure(3, 0, field="rank"),
    figure(3, 0, field="rank", dataset="y"),
    figure(2, 0, field="rank", model="c"),
    figure(10.0, 0.05, field="drop", dataset="y"),
    figure(1.0, 0.05, published.FIT, "slope", dataset="y"),
    figure(-8.3, 0.05, published.FIT, "intercept", dataset="y"),
    figure(0.961, 0.0005, published.FIT, "r", dataset="y"),
  ]
  compared = comparison.compare(figures, ours)
  assert compared.verdict.tolist() == [
    *[comparison.AGREES] * 4,
    comparison.DIFFERS,
    *[comparison.AGREES] * 4,
  ]
  assert tuple(compared.columns[:-1]) == comparison.COLUMNS
  assert compared.unit[:4].tolist() == ["percent"] * 2 + ["plain"] * 2
  assert type(compared.ours[2]) is int


def test_columns_take_the_first_source():
  ours = comparison.collect_ours(rows.of(x={"a": 76, "b": 40}))
  figures = [figure(76.05, 0.05), figure(77.0, 0.5), figure(50.0, 1, "c")]
  compared = comparison.compare(figures, ours)
  (title, printed), (_, difference) = comparison.columns(compared, "x", TOP1)
  assert title == "published"
  assert [printed(m) for m in "abc"] == ["76.05", "", "50"]
  assert [difference(m) for m in "abc"] == ["-0.05", "", ""]
  for _, nothing in comparison.columns(compared, "y", TOP1):
    assert nothing("a") == ""


def test_many_differences_are_cut():
  names = [f"m{i:02}" for i in range(25)]
  ours = comparison.collect_ours(rows.of(x=dict.fromkeys(names, 50)))
  figures = [figure(51.0 + i, 0.5, name) for i, name in enumerate(names)]
  lines = comparison.describe_differences(
    comparison.compare(figures, ours)
  ).splitlines()
  assert len(lines) == 23 and lines[1].startswith("  m24 x all")
  assert "5 more" in lines[21]
  assert lines[22].startswith("25 of 25 ")


def test_ranks_need_all_models_of_their_set(capsys):
  output = program.Output(None)
  models = [f"m{i}" for i in range(67)]
  found = rows.of(x=dict.fromkeys(models, 50), y=dict.fromkeys(models[1:], 50))
  on_sets = frame.add_ranks(found)
  figures = [figure(1, 0, field="rank", dataset=name) for name in "xyz"]
  kept = comparison.find_comparable_ranks(output, figures, on_sets)
  assert {key[1:] for key in kept} == {("x", "all", TOP1, "rank")}
  assert len(kept) == 67
  for note, name, n in zip(
    capsys.readouterr().err.splitlines(), "yz", (66, 0), strict=True
  ):
    assert note.startswith(f"note: {name}: ranks are")
    assert "67 models" in note and note.endswith(f"among {n}")
  figures = [
    figure(1, 0, model="m1", field="rank", dataset=name) for name in "xy"
  ]
  compared = comparison.compare(figures, kept)
  assert compared.verdict.tolist() == [comparison.AGREES, comparison.ABSENT]
  comparison.find_comparable_ranks(output, [figure(3, 0)], on_sets)
  assert capsys.readouterr().err == ""


def test_files_of_published_figures_are_inputs(tmp_path, capsys):
  path = tmp_path / "figures.csv"
  path.write_text("model,dataset,subset,metric,value\na,x,all,m,0.5\n")
  output = program.Output(tmp_path / "out")
  # In two forms, as `imgbench papers` may find a file that is also given.
  twice = [f"{tmp_path}/../{tmp_path.name}/{path.name}", str(path)]
  figures = comparison.read(output, twice)
  assert len(figures) == len(published.read(path))
  comparison.write(output, comparison.compare(figures, {}))
  output.close()
  assert str(path) in (tmp_path / "out" / program.MANIFEST).read_text()
  text = (tmp_path / "out" / "comparison.csv").read_text()
  assert text.splitlines()[1] == (
    "figures.csv,a,x,all,m,value,percent,0.5,,,5.00000000,absent,"
  )
  last = capsys.readouterr().out.splitlines()[-1]
  assert last.startswith("0 of 0 ")
  assert last.endswith(", 1 absent")
