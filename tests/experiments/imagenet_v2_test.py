"""Tests of the tables of ImageNetV2."""

import json

import numpy as np
import pytest

from imgbench import errors
from imgbench.experiments import imagenet_v2
from imgbench.papers import program
from imgbench.tables import frame
from tests import raising
from tests.data import shared_files
from tests.experiments import scripts
from tests.papers import clones

VAL, MF = clones.VALIDATION, clones.MATCHED_FREQUENCY
TOP1 = "top1_accuracy"
FIGURE = f"{TOP1}-{MF}-on-{VAL}"


def values(folder, dataset, metric=TOP1, subset="all"):
  return {
    row["model"]: 100 * float(row["value"])
    for row in scripts.csv_rows(folder)
    if (row["dataset"], row["metric"], row["subset"])
    == (dataset, metric, subset)
  }


def model_of(repo, dataset, share, name, seed=9):
  """Writes predictions of your model; returns the flag."""
  labels = clones.labels_of(400, {VAL: 0, MF: 1}[dataset])
  path = repo.parent / f"{name}-{dataset}.npy"
  np.save(path, clones.ranking_of(labels, share, seed))
  return f"--predictions={name}@{dataset}={path}"


@pytest.fixture(name="repo", scope="module")
def small_repo(tmp_path_factory):
  return clones.small(tmp_path_factory.mktemp("clone") / "ImageNetV2")


@pytest.fixture(name="written", scope="module")
def written_files(repo, tmp_path_factory):
  """Files and completed process of a run."""
  out = tmp_path_factory.mktemp("written") / "out"
  done = scripts.run("imagenet_v2", f"--repo={repo}", f"--out={out}")
  assert done.returncode == errors.EXIT_DONE, done.stderr
  return out, done


def test_files_and_numbers_by_hand(repo, written):
  out, done = written
  assert {path.name for path in out.iterdir()} == {
    "table.csv",
    "table.md",
    "table.tex",
    "drops.csv",
    "ranks.csv",
    "fits.csv",
    "manifest.json",
    *(f"{FIGURE}{end}" for end in (".png", ".pdf")),
    *(f"{FIGURE}-subsets{end}" for end in (".png", ".pdf")),
  }
  header = (out / "table.csv").read_text().splitlines()[0]
  assert header == ",".join(frame.COLUMNS)
  labels = clones.labels_of(400, 1)
  ranking = np.load(repo / "data/predictions" / MF / "good.npy")
  hits = int(np.sum(ranking[:, 0] == labels))
  rows = scripts.csv_rows(out)
  assert len(rows) == 2 * 2 * 6 * 2
  (found,) = [
    row
    for row in rows
    if (row["model"], row["dataset"], row["subset"], row["metric"])
    == ("good", MF, "all", TOP1)
  ]
  assert (found["n"], found["correct"]) == ("400", str(hits))
  assert found["value"] == f"{hits / 400:.8f}"
  assert f"{100 * hits / 400:.2f} [" in done.stdout
  assert "probit" in done.stdout
  assert all(line.startswith("note: ") for line in done.stderr.splitlines())
  assert done.stdout.splitlines()[-1] == f"wrote 11 files to {out}"
  manifest = json.loads((out / program.MANIFEST).read_text())
  assert manifest["command"].startswith("python -m experiments.imagenet_v2 --r")
  drops = scripts.csv_rows(out, "drops.csv")
  assert len(drops) == 2 * 6 * 2
  ranks = scripts.csv_rows(out, "ranks.csv")
  assert [row["rank_base"] for row in ranks[:2]] == ["1", "2"]
  fits = scripts.csv_rows(out, "fits.csv")
  assert len(fits) == 6 * 2 * 2 and fits[0]["slope_low"] == ""


def test_another_run_writes_the_same_bytes(repo, written, tmp_path):
  scripts.main(imagenet_v2, tmp_path, f"--repo={repo}")
  first, second = (
    {n: text for n, text in scripts.texts(f).items() if n != program.MANIFEST}
    for f in (written[0], tmp_path)
  )
  assert first == second


def test_files_are_written_with_a_closed_pipe(repo, written, tmp_path):
  done = scripts.run_unread(
    "imagenet_v2", f"--repo={repo}", f"--out={tmp_path}"
  )
  assert (done.returncode, "Traceback" in done.stderr) == (0, False)
  found, expected = scripts.texts(tmp_path), scripts.texts(written[0])
  assert found["table.csv"] == expected["table.csv"]
  assert set(found) == set(expected)


@pytest.mark.usefixtures("without_figures")
def test_your_model_joins_and_moves_nothing(repo, written, tmp_path):
  own = [model_of(repo, dataset, 0.95, "mine") for dataset in (VAL, MF)]
  scripts.main(imagenet_v2, tmp_path, f"--repo={repo}", *own)
  without, added = (
    {
      name: scripts.csv_rows(folder, name)
      for name in ("table.csv", "ranks.csv", "fits.csv", "drops.csv")
    }
    for folder in (written[0], tmp_path)
  )
  assert {row["model"] for row in added["table.csv"]} == {
    "good",
    "mine",
    "poor",
  }
  for name, rows in added.items():
    others = [row for row in rows if row.get("model") != "mine"]
    assert others == without[name], name
  mine = [row for row in added["ranks.csv"] if row["model"] == "mine"]
  assert mine[0]["rank_base"] == "1"
  text = (tmp_path / "manifest.json").read_text()
  assert f"mine-{VAL}.npy" in text


def test_a_model_on_one_set_alone(repo, capsys):
  own = model_of(repo, MF, 0.95, "half")
  scripts.main(imagenet_v2, None, f"--repo={repo}", own)
  (line,) = [
    line
    for line in capsys.readouterr().out.splitlines()
    if line.startswith("half")
  ]
  assert len(line.split()) == 4  # Name, value and its bounds: no drop, no rank.


@pytest.mark.usefixtures("without_figures")
def test_one_set_alone_has_a_table_too(tmp_path, capsys):
  labels = clones.labels_of(400)
  repo = clones.write(
    tmp_path / "clone",
    {MF: (labels, {"a": clones.ranking_of(labels, 0.5)})},
  )
  scripts.main(imagenet_v2, tmp_path / "out", f"--repo={repo}")
  assert "MatchedFrequency" in capsys.readouterr().out
  assert scripts.csv_rows(tmp_path / "out", "drops.csv") == []


@pytest.mark.usefixtures("without_figures")
def test_a_narrow_model_has_no_top5_and_a_reason(repo, tmp_path):
  labels = clones.labels_of(400, 1)
  np.save(tmp_path / "narrow.npy", clones.ranking_of(labels, 0.5, k=2))
  own = f"--predictions=narrow@{MF}={tmp_path}/narrow.npy"
  scripts.main(imagenet_v2, tmp_path / "out", f"--repo={repo}", own)
  (row,) = [
    row
    for row in scripts.csv_rows(tmp_path / "out")
    if (row["model"], row["metric"], row["subset"])
    == ("narrow", "top5_accuracy", "all")
  ]
  assert row["value"] == row["correct"] == row["ci_low"] == ""
  manifest = json.loads((tmp_path / "out" / program.MANIFEST).read_text())
  reason = manifest["undefined"][f"narrow/{MF}/all/top5_accuracy"]
  assert "than 5 classes" in reason


@pytest.mark.usefixtures("without_figures")
def test_published_values_are_compared(repo, written, tmp_path, capsys):
  top1 = values(written[0], VAL)
  path = tmp_path / "figures.csv"
  path.write_text(
    "model,val,imagenetv2-matched-frequency\n"
    f"good,{np.float32(top1['good']):.12g},1.5\n"
  )
  flags = [f"--repo={repo}", f"--published={path}"]
  scripts.main(imagenet_v2, tmp_path / "out", *flags)
  lines = capsys.readouterr().out.splitlines()
  assert "published" in lines[2] and "diff." in lines[2]
  assert lines[-1].startswith("1 of 2 ")
  verdicts = [
    r["verdict"] for r in scripts.csv_rows(tmp_path / "out", "comparison.csv")
  ]
  assert verdicts == ["agrees", "differs"]
  # Our table.csv is a file of figures as well, and agrees with itself.
  flags = [f"--repo={repo}", f"--published={written[0] / 'table.csv'}"]
  scripts.main(imagenet_v2, None, *flags)
  last = capsys.readouterr().out.splitlines()[-1]
  assert last.startswith("0 of 144 ")


@pytest.mark.parametrize(
  ("flag", "setting", "given"),
  [
    ("--repo={folder}", "--repo", "{folder}"),
    ("--predictions=a@b=c", "--predictions=a@b=c", "'b'"),
    ("--published=no.csv", "no.csv", None),
    ("--allow_reversed=godo", "--allow_reversed", "godo"),
  ],
)
def test_bad_input_is_refused(repo, tmp_path, flag, setting, given):
  flags = [f"--repo={repo}", flag.format(folder=tmp_path)]
  given = given and given.format(folder=tmp_path)
  check = raising.about(setting, given=given)
  with pytest.raises(errors.InputError, check=check):
    scripts.main(imagenet_v2, tmp_path / "out", *flags)
  assert not list((tmp_path / "out").iterdir())


def test_bad_input_ends_the_program_in_one_line(tmp_path):
  for args, named in (
    ((), "--repo"),
    ((f"--repo={tmp_path}",), "git clone"),
  ):
    done = scripts.run("imagenet_v2", *args)
    assert done.returncode == errors.EXIT_USAGE, done
    assert named in done.stderr and done.stderr.count("\n") == 1, done.stderr
  done = scripts.run("imagenet_v2", "--help")
  for flag in ("--repo", "--out", "--published", "--predictions"):
    assert flag in done.stdout


def test_the_shared_files(tmp_path, capsys):
  folder = shared_files.shared_path("data", "ImageNetV2")
  tables = shared_files.shared_path("data", "imagenet", "published")
  paths = [
    tables / name
    for name in ("imagenetv2_paper_rows.csv", "imagenet_testbed_top1.csv")
  ]
  published = [f"--published={path}" for path in paths]
  scripts.main(imagenet_v2, tmp_path, f"--repo={folder}", *published)
  top1, new = values(tmp_path, VAL), values(tmp_path, MF)
  assert (top1["resnet50"], new["resnet50"]) == pytest.approx((76.13, 63.33))
  large = (top1["pnasnet_large_tf"], new["pnasnet_large_tf"])
  assert large == pytest.approx((82.858, 72.19))
  compared = scripts.csv_rows(tmp_path, "comparison.csv")
  of_paper = [row for row in compared if row["source"] == paths[0].name]
  verdicts = [row["verdict"] for row in of_paper if row["field"] != "rank"]
  assert verdicts == ["agrees"] * 48
  printed = capsys.readouterr()
  assert "67 models" in printed.err  # of published ranks
  assert "   39  1.100 [" in printed.out  # n and slope of a fit
  last = printed.out.splitlines()[-1]
  assert last.startswith("2 of 106 ")
  counts = {row["subset"]: row["n"] for row in scripts.csv_rows(tmp_path)[12:]}
  assert counts["all"] == "10000"
  assert (counts["organism"], counts["object"], counts["dog"]) == (
    *("4100", "5900"),
    "1180",
  )
