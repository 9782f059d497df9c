"""Tests of the one command that makes all papers."""

import importlib.util
import json
import time

import pytest

from imgbench import commands
from imgbench import errors
from imgbench.experiments import all_papers
from imgbench.experiments import cifar10_1
from imgbench.papers import program
from tests import raising
from tests.data import shared_files
from tests.experiments import scripts
from tests.papers import cifar_files
from tests.papers import human_files

# The annotations of ImageNet-X are a package that may be installed.
ABSENT = {
  name
  for name, file in all_papers.FILES.items()
  if not importlib.util.find_spec(file.get("package", "no_such_package"))
}


def run(out, data, *args):
  """Runs the command; returns the notes of its manifest."""
  values = all_papers.flags.FlagValues()
  all_papers.define_flags(values)
  values(["papers", f"--data={data}", f"--out={out}", *map(str, args)])
  output = program.Output(out)
  all_papers.make_all(values, output)
  output.close()
  return json.loads((out / program.MANIFEST).read_text())["notes"]


def test_the_table_fits_the_commands():
  for name, paper in all_papers.PAPERS.items():
    command = commands.COMMANDS[paper.get("command", f"paper {name}")]
    module = __import__(command.module, fromlist=["define_flags"])
    values = all_papers.flags.FlagValues()
    module.define_flags(values)
    for text in paper["flags"]:
      assert text.removeprefix("?").split("=")[0] in values
      file = text.rpartition("=")[2]
      assert any(file.startswith(entry) for entry in all_papers.FILES)


@pytest.mark.usefixtures("without_figures")
def test_papers_whose_files_are_there_are_made(tmp_path, capsys):
  data = tmp_path / "data"
  repo, labels = cifar_files.write(data)
  labels.rename(repo / labels.name)
  human_files.write_pickle(data / "human_accuracy.pickle")
  (data / "published.csv").write_text(
    "model,dataset,subset,metric,value_percent\n"
    "alpha,cifar10-test,all,top1_accuracy,95.0\n"
  )
  notes = run(tmp_path / "out", data)
  assert {p.name for p in (tmp_path / "out").iterdir()} == {
    "cifar10-1",
    "people",  # its clone is optional
    program.MANIFEST,
  }
  assert capsys.readouterr().out.splitlines()[-2:-1] == [
    "made: people, cifar10-1"
  ]
  missing = {n.split()[1]: n for n in notes if n.startswith("missing: ")}
  there = {"CIFAR-10.1", "test_batch.bin", "human_accuracy.pickle"}
  assert set(missing) == ABSENT - there
  assert "git clone" in missing["ImageNetV2"]
  assert "SHA-256 d83e9bff" in missing["reassessed-imagenet/real.json"]
  # The same bytes as the paper's own command, and its published figure.
  flags = (f"--repo={repo}", f"--labels={repo / labels.name}")
  flags += (f"--published={data / 'published.csv'}",)
  scripts.main(cifar10_1, tmp_path / "alone", *flags)
  alone = scripts.texts(tmp_path / "alone")
  together = scripts.texts(tmp_path / "out/cifar10-1")
  assert "published" in together["table.md"].decode()
  assert {n for n in alone if alone[n] != together[n]} <= {program.MANIFEST}


def test_nothing_there_and_bad_files(tmp_path, capsys):
  (tmp_path / "data").mkdir()
  check = raising.about("--data", given=tmp_path / "data")
  with pytest.raises(errors.InputError, check=check):
    run(tmp_path / "out", tmp_path / "data")
  assert capsys.readouterr().err.count("note: missing: ") == len(ABSENT)
  spec = "--predictions=m@scenes=m.npy"
  with pytest.raises(errors.InputError, check=raising.about(spec)):
    run(tmp_path / "out", tmp_path / "data", spec)
  # Neither predictions nor figures of a paper without files are dropped.
  human_files.write_pickle(tmp_path / "data/human_accuracy.pickle")
  figures = tmp_path / "figures.csv"
  figures.write_text(
    "model,dataset,subset,metric,value\nm,cifar10-test,all,top1_accuracy,0.9\n"
  )
  specs = "--predictions=m@cifar10-test=m.npy", f"--published={figures}"
  for spec in specs:
    with pytest.raises(errors.InputError, check=raising.about(spec)):
      run(tmp_path / "out", tmp_path / "data", spec)
  (tmp_path / "data/human_accuracy.pickle").unlink()
  # A paper that fails keeps no other one from being made.
  repo, _ = cifar_files.write(tmp_path / "data")
  (tmp_path / "data/ImageNetV2").mkdir()
  (repo / "cifar10_test_labels.npy").write_bytes(b"no array")
  with pytest.raises(errors.InputError):
    run(tmp_path / "out", tmp_path / "data")
  err = capsys.readouterr().err
  assert "imagenet-v2: not made: " in err and "cifar10-1: not made: " in err


@pytest.mark.slow
def test_worked_example_of_the_docs(tmp_path, capsys):
  """The command in docs/papers.md, on real files."""
  data = shared_files.shared_path("data")
  started = time.process_time()
  notes = run(tmp_path, data)
  with capsys.disabled():
    print(f" {time.process_time() - started:.1f} s of CPU time", end="")
  made = {p.name for p in tmp_path.iterdir() if p.is_dir()}
  absent = ABSENT & {"imagenet_x", "human_accuracy.pickle"}
  assert {n.split()[1] for n in notes} == absent
  optional = {"people", "imagenet-x"}
  assert made - optional == set(all_papers.PAPERS) - optional
  published = {"imagenet-v2", "real-labels", "multilabel", "cifar10-1"}
  for name in made:
    folder = tmp_path / name
    assert list(folder.glob("*.png")) and list(folder.glob("*.pdf"))
    compared = (folder / "comparison.csv").exists()
    assert compared == (name in published)
    assert ("published" in (folder / "table.md").read_text()) == compared
  rows = scripts.csv_rows(tmp_path / "multilabel", "comparison.csv")
  verdicts = [r["verdict"] for r in rows if r["source"].startswith("eth_")]
  assert verdicts.count("agrees") == 11 and verdicts.count("differs") == 1
  best = {
    (r["subset"], r["kind"], r["dataset"]): (r["best_model"], r["drop"])
    for r in scripts.csv_rows(tmp_path / "multilabel", "summary.csv")
    if r["source"] == "human_accuracy_icml2020.csv"
  }
  val = all_papers.published.datasets.VALIDATION
  assert best["all", "person", val] == ("human_e", "0.00730000")
  assert best["all", "model", val] == ("FixResNeXt101_32x48d_v2", "0.05940000")
