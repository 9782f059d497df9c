"""Tests of accuracy by selection frequency."""

import json

import numpy as np
import pytest

from imgbench import errors
from imgbench.experiments import imagenet_v2
from imgbench.papers import frequencies
from imgbench.papers.readers import datasets
from tests import raising
from tests.experiments import scripts
from tests.papers import clones
from tests.papers import rows

VAL, MF = datasets.VALIDATION, datasets.MATCHED_FREQUENCY
TOP1 = "top1_accuracy"


def write_csv(repo, dataset, values):
  """Writes frequencies of the first images; returns the flag."""
  path = repo.parent / f"{dataset}.csv"
  text = (repo / f"data/datasets/{dataset}.json").read_text()
  images = json.loads(text)["image_filenames"]
  lines = [f"x,{i},{v}" for (i, _), v in zip(images, values, strict=False)]
  path.write_text(
    "\n".join(["kind,image_id,selection_frequency", *lines[::-1]])
  )
  return f"--frequencies={dataset}={path}"


@pytest.fixture(name="repo")
def small_repo(tmp_path):
  return clones.small(tmp_path / "ImageNetV2")


def test_bins_and_drops_agree_with_plain_numpy(repo, tmp_path):
  rng = np.random.default_rng(0)
  given = {
    VAL: rng.integers(2, 11, 300) / 10,
    MF: rng.integers(0, 11, 400) / 10,
  }
  args = [write_csv(repo, name, values) for name, values in given.items()]
  scripts.main(imagenet_v2, tmp_path / "out", f"--repo={repo}", *args)
  found = {
    (r["model"], r["dataset"], r["subset"]): r
    for r in scripts.csv_rows(tmp_path / "out", "frequency.csv")
  }
  assert len(found) == 2 * 2 * 6
  right, place = {}, {}
  for seed, (name, values) in enumerate(given.items()):
    ranking = np.load(repo / "data/predictions" / name / "good.npy")
    hits = ranking[:, 0] == clones.labels_of(400, seed)
    right[name] = hits[: len(values)]
    place[name] = np.minimum((values * 10).round().astype(int) // 2, 4)
    for i, subset in enumerate(frequencies.BINS):
      row = found["good", name, subset]
      n = int((place[name] == i).sum())
      assert (row["n"], row["correct"]) == (
        str(n),
        str(int(right[name][place[name] == i].sum())) if n else "",
      )
  assert found["good", VAL, "frequency_0.0_0.2"]["value"] == ""
  assert found["good", VAL, frequencies.KNOWN]["n"] == "300"
  lost = scripts.csv_rows(tmp_path / "out", "frequency_drops.csv")
  assert tuple(lost[0]) == frequencies.DROP_COLUMNS
  by_bin = [right[MF][place[MF] == i].mean() for i in range(5)]
  plain = right[VAL].mean() - right[MF].mean()
  rest = right[VAL].mean() - np.mean([by_bin[i] for i in place[VAL]])
  assert lost[0]["model"] == "good"
  assert float(lost[0]["drop"]) == pytest.approx(plain, abs=1e-8)
  assert float(lost[0]["reweighted_drop"]) == pytest.approx(rest, abs=1e-8)
  manifest = json.loads((tmp_path / "out/manifest.json").read_text())
  assert f"{TOP1}-by-frequency.png" in manifest["files"]
  assert any("100 images" in note for note in manifest["notes"])
  assert sum(path.endswith(".csv") for path in manifest["inputs"]) == 2


def test_frequencies_of_one_set_give_no_drops(repo, tmp_path):
  flag = write_csv(repo, MF, [0.5] * 400)
  scripts.main(imagenet_v2, tmp_path / "out", f"--repo={repo}", flag)
  assert (tmp_path / "out/frequency.csv").exists()
  assert not (tmp_path / "out/frequency_drops.csv").exists()


def of_bins(model, dataset, hits, counts):
  """Measurements of a model with hits in the bins of a data set."""
  subsets = [*frequencies.BINS, frequencies.KNOWN]
  cells = zip(subsets, [*hits, sum(hits)], [*counts, sum(counts)], strict=True)
  return [
    rows.row(model, dataset, int(k), int(n), subset=s)
    if n
    else rows.undefined(model, dataset, subset=s)
    for s, k, n in cells
  ]


def drops_of(**models):
  """Returns drops of {model: (hits, counts) of the base and of the set}."""
  found = rows.of(
    *(
      row
      for model, (base, new) in models.items()
      for row in of_bins(model, VAL, *base) + of_bins(model, MF, *new)
    )
  )
  return frequencies._compute_drops(found, [(VAL, MF)]).set_index("model")


def test_known_drops():
  base = ((5, 0, 0, 0, 36), (10, 0, 0, 0, 40))
  found = drops_of(
    moved=(base, ((20, 0, 0, 0, 9), (40, 0, 0, 0, 10))),
    harder=(base, ((2, 0, 0, 0, 24), (10, 0, 0, 0, 40))),
    empty=(base, ((0, 3, 0, 0, 9), (0, 40, 0, 0, 10))),
  )
  # Accuracies in bins 0.5 and 0.9 on both sets, in other shares: 41/50 - 29/50.
  assert found["drop"].moved == pytest.approx(0.24)
  assert found.reweighted_drop.moved == pytest.approx(0, abs=1e-12)
  assert found.reweighted_low.moved < 0 < found.reweighted_high.moved
  assert found.reweighted_drop.harder == pytest.approx(found["drop"].harder)
  assert found.loc["empty", list(frequencies.REWEIGHTED)].isna().all()


def test_intervals_of_reweighted_drops_cover_the_truth():
  rng = np.random.default_rng(0)
  share, rates = np.array([0, 0.05, 0.15, 0.3, 0.5]), [0.3, 0.4, 0.5, 0.7, 0.8]
  models = {}
  for i in range(400):
    base, new = rng.multinomial(2000, share), rng.multinomial(500, [0.2] * 5)
    models[f"m{i}"] = (
      (rng.binomial(base, rates), base),
      (rng.binomial(new, np.subtract(rates, 0.1)), new),
    )
  found = drops_of(**models)
  covered = found.reweighted_low.le(0.1) & found.reweighted_high.ge(0.1)
  assert 0.92 < covered.mean() < 0.99
  assert found.reweighted_drop.mean() == pytest.approx(0.1, abs=0.005)


@pytest.mark.parametrize("absent", [[], [datasets.THRESHOLD]])
def test_sets_by_their_published_means(tmp_path, absent):
  names = [name for name in frequencies.MEANS if name not in absent]
  labels = clones.labels_of(50)
  public = {"a": clones.ranking_of(labels, 0.5)}
  repo = clones.write(
    tmp_path / "c", {name: (labels, public) for name in names}
  )
  scripts.main(imagenet_v2, tmp_path / "out", f"--repo={repo}")
  assert (tmp_path / "out" / f"{TOP1}-by-mean-frequency.png").stat().st_size
  assert not (tmp_path / "out/frequency.csv").exists()


@pytest.mark.parametrize(
  ("text", "about"),
  [
    ("image_id,other\na,1\n", "file"),
    ("image_id,selection_frequency\n{id},1.1\n", "file"),
    ("image_id,selection_frequency\n{id},\n", "file"),
    ("image_id,selection_frequency\n{id},x\n", "file"),
    ("image_id,selection_frequency\n{id},1\n{id},0.5\n", "file"),
    ("image_id,selection_frequency\nunknown,1\n", "file"),
    (None, "file"),
    ("", "--frequencies"),
    ("", "no file"),
  ],
)
def test_bad_files_are_refused(repo, tmp_path, text, about):
  path, name = tmp_path / "given.csv", MF if about == "file" else "other"
  if text is not None:
    path.write_text(text.format(id=clones.clone.image_ids(MF, 1)[0]))
  if about == "no file":
    name, path, about = MF, "", "--frequencies"
  setting = str(path) if about == "file" else about
  with pytest.raises(errors.InputError, check=raising.about(setting)):
    flag = f"--frequencies={name}={path}"
    scripts.main(imagenet_v2, None, f"--repo={repo}", flag)
