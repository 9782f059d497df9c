import json

import numpy as np
import pytest

from imgbench import errors
from imgbench.experiments import error_analysis
from tests import raising
from tests.data import shared_files
from tests.experiments import scripts
from tests.papers import mistakes_files


def values(folder):
  """Returns (model, subset, metric) -> (n, correct)."""
  return {
    (row["model"], row["subset"], row["metric"]): (row["n"], row["correct"])
    for row in scripts.csv_rows(folder)
  }


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
  return mistakes_files.write(tmp_path_factory.mktemp("clone"))


@pytest.fixture(scope="module")
def out(clone, tmp_path_factory):
  repo, dataset = clone
  folder = tmp_path_factory.mktemp("out")
  args = f"--repo={repo}", f"--dataset={dataset}", "--top=2"
  scripts.main(error_analysis, folder, *args)
  return folder


def test_the_table(out):
  found = values(out)
  oov = "mistakes.fine_grained_error_with_oov"
  assert found["vit3b", "all", f"{oov}.all"] == ("4", "2")
  assert found["vit3b", "organism", f"{oov}.borderline"] == ("4", "2")
  other = "mistakes.fine_grained_error.minor_or_borderline"
  assert found["greedy_soups", "all", other] == ("4", "2")
  # Image 3 is of an object, "hook".
  assert found["greedy_soups", "object", "mistakes.all.major"] == ("1", "1")
  assert found["vit3b", "object", "mistakes.all.all"] == ("0", "")
  undefined = json.loads((out / "manifest.json").read_text())["undefined"]
  name = "vit3b/imagenet-annotatedval20k-0/object/mistakes.all.all"
  assert "no example" in undefined[name]


def test_pairs(out):
  found = scripts.csv_rows(out, "pairs.csv")
  assert [row["source"] for row in found] == (
    ["class_confusion_wnids"] * 3 + ["greedy_soups"] * 4 + ["vit3b"] * 3
  )
  assert found[0] == {
    "source": "class_confusion_wnids",
    "order": "either_way",
    "first_wnid": "n01440764",
    "first": "tench",
    "second_wnid": "n01491361",
    "second": "tiger shark",
    "count": "4",
  }
  assert (found[-3]["first"], found[-3]["second"]) == ("tench", "goldfish")
  assert found[-3]["order"] == "label_then_prediction"
  # The printed tables have only --top of them.
  text = (out / "table.md").read_text()
  assert text.count("| tench") == 2 + 2 + 2


def test_overlap_and_figures(out):
  (row,) = scripts.csv_rows(out, "overlap.csv")
  assert list(row.values()) == ["greedy_soups", "vit3b", "3", "2", "1", "1"]
  names = {path.name for path in out.iterdir()}
  for figure in (
    "categories",
    "pairs_vit3b",
    "pairs_greedy_soups",
    "pairs_class_confusion_wnids",
  ):
    assert {f"{figure}.png", f"{figure}.pdf"} < names


def test_equal_input_gives_equal_bytes(clone, out, tmp_path):
  repo, dataset = clone
  args = f"--repo={repo}", f"--dataset={dataset}", "--top=2"
  scripts.main(error_analysis, tmp_path, *args)
  assert scripts.texts(tmp_path) == scripts.texts(out)


def test_your_model_repeats_mistakes(clone, tmp_path):
  repo, dataset = clone
  mine = tmp_path / "mine.npy"
  np.save(mine, np.array([[1], [7], [5], [2], [9]]))
  scripts.main(
    error_analysis,
    tmp_path,
    f"--repo={repo}",
    f"--dataset={dataset}",
    f"--predictions=mine@imagenet-validation-original={mine}",
  )
  found = values(tmp_path)
  prefix = "repeated_mistakes"
  assert found["mine", "all", f"{prefix}.vit3b.all.all"] == ("4", "2")
  assert found["mine", "all", f"{prefix}.greedy_soups.all.minor"] == ("2", "1")


def test_files_without_a_clone(clone, tmp_path):
  repo, _ = clone
  path = repo / "metadata" / "vit3b_mistakes.json"
  scripts.main(error_analysis, tmp_path, f"--mistakes=net={path}")
  found = values(tmp_path)
  assert {key[:2] for key in found} == {("net", "all")}
  assert not scripts.csv_rows(tmp_path, "pairs.csv")
  assert not scripts.csv_rows(tmp_path, "overlap.csv")


def test_a_new_category_is_noted(tmp_path, capsys):
  path = tmp_path / "net.json"
  entry = mistakes_files.entry(1, "Camera error", "Major")
  path.write_text(json.dumps({mistakes_files.name(1): entry}))
  scripts.main(error_analysis, tmp_path / "out", f"--mistakes=net={path}")
  assert "'Camera error'" in capsys.readouterr().err
  found = values(tmp_path / "out")
  assert found["net", "all", "mistakes.camera_error.all"] == ("1", "1")


@pytest.mark.parametrize(
  ("args", "setting", "given"),
  [
    ([], "--repo", "none"),
    (["--mistakes=a"], "--mistakes", "'a'"),
    (["--mistakes=a/b=c"], "--mistakes", "'a/b=c'"),
    (["--mistakes=vit3b=x", "--repo={repo}"], "--mistakes", "'vit3b=x'"),
    (["--mistakes=a=absent.json"], "absent.json", None),
    (["--repo={repo}", "--predictions=a@b=c"], "--dataset", "none"),
    (
      ["--repo={repo}", "--dataset={data}", "--predictions=vit3b@b=c"],
      "--predictions=vit3b@b=c",
      "vit3b",
    ),
    (
      ["--repo={repo}", "--dataset={data}", "--predictions=a@b=c"],
      "--predictions=a@b=c",
      "'b'",
    ),
  ],
)
def test_bad_flags(clone, args, setting, given):
  repo, data = clone
  args = [text.format(repo=repo, data=data) for text in args]
  check = raising.about(setting, given=given)
  with pytest.raises(errors.InputError, check=check):
    scripts.main(error_analysis, None, *args)


def test_bad_input_ends_in_one_line():
  done = scripts.run("error_analysis", "--repo=absent")
  assert done.returncode == errors.EXIT_USAGE
  assert "google-research/imagenet-mistakes" in done.stderr
  assert len(done.stderr.splitlines()) == 1


def test_the_real_files(tmp_path):
  folder = shared_files.shared_path("data", "imagenet", "published")
  path = folder / "imagenet_mistakes_vit3b_mistakes.json"
  images = shared_files.shared_path(
    "data",
    "ImageNetV2",
    "data",
    "datasets",
    "imagenet-validation-original.json",
  )
  args = f"--mistakes=vit3b={path}", f"--dataset={images}"
  scripts.main(error_analysis, tmp_path, *args)
  found = values(tmp_path)
  # The paper: 40% of the mistakes are major, 154 of 378.
  assert found["vit3b", "all", "mistakes.all.major"] == ("378", "154")
  assert found["vit3b", "object", "mistakes.all.all"] == ("221", "221")
  assert found["vit3b", "organism", "mistakes.all.all"] == ("157", "157")
