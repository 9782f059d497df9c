import json

import numpy as np
import pytest

from imgbench import errors
from imgbench.experiments import cifar10_1
from imgbench.metrics import drops
from imgbench.metrics import ratios
from tests.data import shared_files
from tests.experiments import scripts
from tests.papers import cifar_files


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
  return cifar_files.write(tmp_path_factory.mktemp("clone"))


def run(clone, out, *args):
  repo, labels = clone
  scripts.main(cifar10_1, out, f"--repo={repo}", f"--labels={labels}", *args)


@pytest.fixture(scope="module")
def out(clone, tmp_path_factory):
  folder = tmp_path_factory.mktemp("out")
  run(clone, folder)
  return folder


@pytest.mark.smoke
def test_table_by_hand(out):
  found = scripts.csv_rows(out)
  assert [row["model"] for row in found] == ["alpha"] * 3 + ["beta"] * 3 + [
    "gamma"
  ] * 3
  for row, (version, name) in zip(
    found[3:6], cifar_files.DATASETS.items(), strict=True
  ):
    size = cifar_files.SIZES[version]
    correct = size - cifar_files.ERRORS["beta"][version]
    assert row["dataset"] == name
    assert (row["subset"], row["metric"]) == ("all", "top1_accuracy")
    assert (int(row["n"]), int(row["correct"])) == (size, correct)
    assert float(row["value"]) == pytest.approx(correct / size, abs=1e-8)


def test_drops_ratios_and_ranks(out):
  (drop,) = (
    row
    for row in scripts.csv_rows(out, "drops.csv")
    if (row["model"], row["dataset"]) == ("beta", "cifar10.1-v4")
  )
  expected = drops.drop(36, 40, 21, 30)
  found = [float(drop[name]) for name in ("drop", "ci_low", "ci_high")]
  np.testing.assert_allclose(found, expected, atol=1e-8)
  (ratio,) = (
    row
    for row in scripts.csv_rows(out, "ratios.csv")
    if (row["model"], row["dataset"]) == ("beta", "cifar10.1-v4")
  )
  expected = ratios.error_ratio(36, 40, 21, 30)
  found = [float(ratio[name]) for name in ("ratio", "ci_low", "ci_high")]
  np.testing.assert_allclose(found, expected, atol=1e-8)
  places = {
    (row["model"], row["dataset"]): (row["rank_base"], row["rank_dataset"])
    for row in scripts.csv_rows(out, "ranks.csv")
  }
  assert places["gamma", "cifar10.1-v6"] == ("3", "3")
  assert len(places) == 6


def test_the_fit_is_that_of_numpy(out):
  (line,) = (
    row
    for row in scripts.csv_rows(out, "fits.csv")
    if (row["dataset"], row["scale"]) == ("cifar10.1-v4", "plain")
  )
  x, y = (
    [1 - wrong[version] / size for wrong in cifar_files.ERRORS.values()]
    for version, size in (("original", 40), ("v4", 30))
  )
  slope, intercept = np.polyfit(x, y, 1)
  np.testing.assert_allclose(
    [float(line["slope"]), float(line["intercept"])],
    [slope, intercept],
    atol=1e-7,  # Printed with 8 decimals.
  )


def test_the_files_and_their_manifest(clone, out):
  manifest = json.loads((out / "manifest.json").read_text())
  names = {path.name for path in out.iterdir()} - {"manifest.json"}
  assert set(manifest["files"]) == names
  assert {"table.md", "table.tex"} < names
  for version in ("v4", "v6"):
    figure = f"top1_accuracy-cifar10.1-{version}-on-cifar10-test"
    assert {f"{figure}.png", f"{figure}.pdf"} < names
  assert len(manifest["inputs"]) == 3 + 9
  assert str(clone[1]) in manifest["inputs"]


@pytest.mark.usefixtures("without_figures")
def test_your_model_joins_the_others(clone, out, tmp_path, capsys):
  mine = tmp_path / "mine.npz"
  ids = np.array([f"test_{i:05d}" for i in range(40)])
  np.savez(
    mine,
    image_id=ids,
    top5=cifar_files.wrong("original", 3)[:, None],
    label=cifar_files.labels("original"),
  )
  new = tmp_path / "new.csv"
  lines = [
    f"cifar10.1-v4_{i:05d},{label}"
    for i, label in enumerate(cifar_files.wrong("v4", 8))
  ]
  new.write_text("\n".join(["image_id,label1", *lines]))
  run(
    clone,
    tmp_path / "out",
    f"--predictions=mine@cifar10-test={mine}",
    f"--predictions=mine@cifar10.1-v4={new}",
  )
  found = scripts.csv_rows(tmp_path / "out")
  own = [row for row in found if row["model"] == "mine"]
  assert [int(row["correct"]) for row in own] == [37, 22]
  assert [row for row in found if row not in own] == scripts.csv_rows(out)
  # It moves neither lines nor ranks.
  assert (tmp_path / "out/fits.csv").read_bytes() == (
    out / "fits.csv"
  ).read_bytes()
  places = scripts.csv_rows(tmp_path / "out", "ranks.csv")
  (place,) = (row for row in places if row["model"] == "mine")
  assert (place["rank_base"], place["rank_dataset"]) == ("2", "2")
  assert [p for p in places if p != place] == scripts.csv_rows(out, "ranks.csv")
  (note,) = capsys.readouterr().err.splitlines()
  assert "cifar10.1-v6: " in note and note.endswith(": mine")


def test_equal_input_gives_equal_bytes(clone, out, tmp_path):
  run(clone, tmp_path)
  assert scripts.texts(tmp_path) == scripts.texts(out)


@pytest.mark.usefixtures("without_figures")
def test_published_figures_of_our_own_table_agree(clone, out, tmp_path, capsys):
  run(clone, tmp_path, f"--published={out / 'table.csv'}")
  last = capsys.readouterr().out.splitlines()[-1]
  assert last.startswith("0 of 27 ")
  assert "published" in (tmp_path / "table.md").read_text()


def test_bad_input_ends_in_one_line(clone):
  done = scripts.run("cifar10_1", f"--repo={clone[0]}", "--labels=absent.npy")
  assert done.returncode == errors.EXIT_USAGE
  assert "absent.npy" in done.stderr
  assert len(done.stderr.splitlines()) == 1


@pytest.mark.usefixtures("without_figures")
def test_reviewed_label_errors_of_the_real_files(tmp_path, capsys):
  data = shared_files.shared_path("data")
  clone = data / "CIFAR-10.1", data / "CIFAR-10.1/cifar10_test_labels.npy"
  path = data / "label-errors/cifar10_mturk.json"
  run(clone, tmp_path, f"--label_errors={path}")
  corrected, neither = np.load(clone[1]).astype(int), []
  for entry in json.loads(path.read_text()):
    if entry["mturk"]["guessed"] >= 3:
      corrected[entry["id"]] = entry["our_guessed_label"]
    neither += [entry["id"]] * (entry["mturk"]["neither"] >= 3)
  rows = scripts.csv_rows(tmp_path)
  rows = [row for row in rows if ".corrected" in row["metric"]]
  assert len(rows) == 60
  for row in rows:  # Workers never said "both".
    file = f"original_predictions/{row['model']}_predictions.json"
    top1 = json.loads((clone[0] / "model_predictions" / file).read_text())
    hits = np.delete(np.array(top1) == corrected, neither)
    assert (int(row["correct"]), int(row["n"])) == (hits.sum(), 9996)
  assert "97.10 [96.75, 97.42]" in capsys.readouterr().out


@pytest.mark.usefixtures("without_figures")
def test_the_real_files_agree_with_published_figures(tmp_path, capsys):
  folder = shared_files.shared_path("data", "CIFAR-10.1")
  clone = folder, folder / "cifar10_test_labels.npy"
  run(clone, tmp_path, f"--published={folder / 'published.csv'}")
  last = capsys.readouterr().out.splitlines()[-1]
  assert last.startswith("2 of 29 ")
  verdicts = {"yes": "agrees", "no": "differs"}
  given = scripts.csv_rows(folder, "published.csv")
  given = [row for row in given if row["agrees"] != "not testable"]
  compared = scripts.csv_rows(tmp_path, "comparison.csv")
  for mine, theirs in zip(compared, given, strict=True):
    wanted = verdicts.get(theirs["agrees"])
    if wanted:
      assert mine["verdict"] == wanted, theirs
    # That file gives ours with two decimals.
    assert float(mine["ours"]) == pytest.approx(
      float(theirs["computed"]), abs=0.0051
    ), theirs
