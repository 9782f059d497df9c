"""Tests of reviews without a server: tables to fill in, and merging them."""

import csv
import json
import types

from absl import flags
import numpy as np
from PIL import Image
import pytest
from tensorflow_datasets.datasets.imagenet2012_multilabel import (
  imagenet2012_multilabel_dataset_builder as tfds_builder,
)

from imgbench import errors
from imgbench.data import scene_source
from imgbench.experiments import multilabel
from imgbench.experiments.benchmarks.paper_scripts import clone
from imgbench.labels import annotations
from imgbench.labels import classes
from imgbench.papers import program
from imgbench.papers.readers import datasets
from imgbench.papers.readers import reviews
from imgbench.review import merge
from imgbench.review import pending
from tests import raising
from tests.data import shared_files
from tests.experiments import scripts
from tests.papers import human_files
from tests.report import samples
from tests.score import scoring
from tests.train import processes

WNID = human_files.wnid
IMAGES = (*human_files.VALIDATION, *human_files.MORE)
# Two dogs of one class, so that each counts half.
LABELS = (151, 151, 10, 700, 701, 702, 703, 20, 30)
# Unreviewed ones are 500; image 6 is problematic, image 9 not annotated.
TOP = (151, 500, 12, 500, 702, 702, 500, 500, 30)
KEYS = ("server_username", "server_user_name")


def run(module, *args):
  """Returns the parsed flags and other arguments of a command line."""
  values = flags.FlagValues()
  module.define_flags(values)
  return values, values(["review", *map(str, args)])[1:]


def list_pending(out, *args):
  """Runs `review pending`; returns the rows of its table."""
  output = program.Output(out)
  pending.write_pending(run(pending, *args)[0], output)
  output.close()
  return scripts.csv_rows(out, "pending.csv")


def merge_files(*args):
  """Runs `review merge`."""
  return merge.merge_files(*run(merge, *args))


def fill(rows, path, states, **cells):
  """Writes rows with states by row number; returns the path."""
  states = dict(states)
  with path.open("w", newline="") as file:
    writer = csv.DictWriter(file, pending.COLUMNS)
    writer.writeheader()
    for row in rows:
      writer.writerow({**row, "state": states.get(int(row["row"]), "")} | cells)
  return path


@pytest.fixture(scope="module")
def small(tmp_path_factory):
  """Annotations, and a scored run on ten images, nine of them annotated."""
  folder = tmp_path_factory.mktemp("small")
  content = human_files.json_content()
  for key, image in zip(KEYS, IMAGES, strict=False):
    content["initial_annots"][image][key] = "someone"
  content["initial_annots"][IMAGES[7]] = {"correct": [WNID(20)]}
  human_files.write_json(folder / "old.json", content)
  ids = (*IMAGES, "ILSVRC2012_val_00000500.JPEG")
  top = np.array([*TOP, 500])[:, None] + np.arange(5)
  clone.write_class_info(folder)
  clone.write_dataset(folder, datasets.VALIDATION, ids, (*LABELS, 40))
  clone.write_predictions(folder, datasets.VALIDATION, "other", top)
  np.save(folder / "mine.npy", top)
  scoring.run(
    *(folder / "mine.npy", "--dataset=val", f"--repo={folder}"),
    *(f"--out={folder / 'run'}", scoring.write_config(folder)),
  )
  return folder


@pytest.fixture(scope="module")
def rows(small, tmp_path_factory):
  args = (f"--run={small / 'run'}", "--dataset=imagenet2012:validation")
  args += (f"--annotations={small / 'old.json'}",)
  folder = tmp_path_factory.mktemp("rows")
  Image.new("RGB", (40, 30)).save(folder / IMAGES[3])
  found = list_pending(folder / "out", *args, f"--images={folder}")
  assert (folder / "out/sheet_01.png").stat().st_size > 1000
  return found


def test_pending_by_effect_then_image(rows, small):
  expected = [(3, "0.001"), (7, "0.001"), (1, "0.0005")]
  assert [(r["image_id"], r["effect"]) for r in rows] == [
    (IMAGES[place], effect) for place, effect in expected
  ]
  assert [int(row["row"]) for row in rows] == [1, 2, 3]
  assert {row["wnid"] for row in rows} == {WNID(500)}
  assert {row["class_index"] for row in rows} == {"500"}
  assert [int(row["original_label"]) for row in rows] == [700, 20, 151]
  assert {row["state"] + row["problematic"] + row["note"] for row in rows} == {
    ""
  }


def test_merge_changes_what_was_reviewed_alone(rows, small, tmp_path):
  old, out = small / "old.json", tmp_path / "new.json"
  states = {1: "Wrong ", 2: "correct", 3: "Don’t know"}
  table = fill(rows, tmp_path / "a.csv", states)
  flag = f"--annotations={old}"
  told = merge_files(table, flag, f"--out={out}", "--reviewer=ada")
  found, before = json.loads(out.read_text()), json.loads(old.read_text())
  expected = json.loads(old.read_text())
  annotated = expected["initial_annots"]
  annotated[IMAGES[3]]["wrong"].append(WNID(500))
  # Absent states stay absent.
  annotated[IMAGES[7]] = {"correct": [WNID(20), WNID(500)]}
  side = found.pop(merge.SIDE)
  assert found == expected and list(found) == list(before)
  assert [entry["state"] for entry in side] == [
    *("wrong", "correct", "don't know")
  ]
  assert side[2] == {
    "image_id": IMAGES[1],
    "wnid": WNID(500),
    "state": "don't know",
    "reviewer": "ada",
  }
  assert "1 correct" in told and "problematic" not in told
  # Once more, into the result.
  first = out.read_bytes()
  again = tmp_path / "again.json"
  merge_files(table, f"--annotations={out}", f"--out={again}", "--reviewer=ada")
  assert again.read_bytes() == first
  merge_files(table, flag, f"--out={out}", "--reviewer=ada")
  assert out.read_bytes() == first


def test_merge_without_reviews_and_with_a_mark(rows, small, tmp_path):
  old, out = small / "old.json", tmp_path / "new.json"
  flags_ = (f"--annotations={old}", f"--out={out}")
  merge_files(fill(rows, tmp_path / "a.csv", {}), *flags_)
  assert json.loads(out.read_text()) == json.loads(old.read_text())
  table = fill(rows[:1], tmp_path / "b.csv", {}, problematic="drawing")
  assert "1 problematic images" in merge_files(table, *flags_)
  found = json.loads(out.read_text())
  assert found["problematic_images"][IMAGES[3]] == "drawing"
  assert reviews.read(out).reasons[IMAGES[3]] == "drawing"
  # As spreadsheets save it.
  table.write_bytes(b"\xef\xbb\xbf" + table.read_bytes())
  assert "1 problematic images" in merge_files(table, *flags_)


def read_with_tfds(path, monkeypatch):
  """Returns what its builder reads of a file of annotations."""
  # Its function needs TensorFlow to open the file only.
  gfile = types.SimpleNamespace(GFile=open)
  fake = types.SimpleNamespace(io=types.SimpleNamespace(gfile=gfile))
  monkeypatch.setattr(tfds_builder, "tf", fake)
  manager = types.SimpleNamespace(download=lambda url: path)
  return tfds_builder._get_multi_labels_and_problematic_images(manager)


def test_tfds_reads_the_result(rows, small, tmp_path, monkeypatch):
  out = tmp_path / "new.json"
  table = fill(rows, tmp_path / "a.csv", {1: "unclear", 2: "don't know"})
  merge_files(table, f"--annotations={small / 'old.json'}", f"--out={out}")
  labels, problematic, in_m = read_with_tfds(out, monkeypatch)
  assert labels.keys() == set(IMAGES)
  assert labels[IMAGES[3]]["unclear"] == [WNID(701), WNID(500)]
  assert IMAGES[6] in problematic and in_m == [IMAGES[0], IMAGES[3]]


@pytest.mark.parametrize(
  ("state", "old", "new", "place"),
  [
    ("corect", "", "", ", line 3"),
    ("correct", WNID(500), "n1", ", line 2: wnid"),
    ("correct", IMAGES[7], "other", ", line 3"),
    ("correct", ",correct", ",,correct", ", line 2"),
    ("wrong", WNID(500), WNID(20), ", line 3"),  # correct, as annotated
    ("wrong", IMAGES[3], IMAGES[7], ", line 3"),  # line 2 is correct
    ("correct", ",", ";", ""),
    ("correct", "wnid", "id", ""),
    ("correct", "row", "ä", ""),  # not UTF-8
  ],
)
def test_refused_tables(rows, small, tmp_path, state, old, new, place):
  table = fill(rows, tmp_path / "a.csv", {1: "correct", 2: state})
  text = table.read_text().replace(old, new) if old else table.read_text()
  table.write_bytes(text.encode("latin-1"))
  out = tmp_path / "new.json"
  out.write_text("old")
  check = raising.about(f"{table}{place}")
  with pytest.raises(errors.InputError, check=check):
    merge_files(table, f"--annotations={small / 'old.json'}", f"--out={out}")
  assert out.read_text() == "old"


@pytest.mark.parametrize("key", ["imagenet_m", "initial_annots"])
def test_refused_annotations(rows, tmp_path, key):
  """Images of ImageNet-M that are not annotated, and unknown classes."""
  content = human_files.json_content()
  if key == "imagenet_m":
    content[key].append("other")
  else:
    content[key][IMAGES[0]]["wrong"] = ["n1"]
  path = human_files.write_json(tmp_path / "old.json", content)
  out = tmp_path / "new.json"
  with pytest.raises(errors.InputError, match=key):
    merge_files(
      fill(rows, tmp_path / "a.csv", {}),
      *(f"--annotations={path}", f"--out={out}"),
    )
  assert not out.exists()


def test_images_of_imagenet_v2_in_another_form(tmp_path):
  """Reviews have 40 digits; TFDS, and so a run, has folder and file name."""
  found = human_files.json_content()
  images = human_files.VERSION_2
  names = tuple(classes.short_names())
  top = np.array([500, *human_files.CLASSES[1:]])[:, None] + np.arange(5)
  predictions = types.SimpleNamespace(
    image_id=np.array([f"{n}/{image}.jpeg" for n, image in enumerate(images)]),
    label=np.array(human_files.CLASSES),
    top5=top,
  )
  run_ = types.SimpleNamespace(
    key="imagenet_v2:test", class_names=names, predictions=predictions
  )
  old = reviews.read(human_files.write_json(tmp_path / "old.json", found))
  rows_, result = pending.evaluate_reviewed(run_, old)
  listed = pending.list_pending(run_, rows_, result.outcomes.code)
  assert [row[1] for row in listed] == [f"0/{images[0]}.jpeg"]
  table = tmp_path / "a.csv"
  lines = [",".join(merge._COLUMNS), f"0/{images[0]}.jpeg,{WNID(500)},wrong,,"]
  table.write_text("\n".join([*lines, ""]))
  merged, seen = merge.merge(found, [table])
  assert seen == {"wrong": 1}
  assert merged["initial_annots"].keys() == found["initial_annots"].keys()
  assert merged["initial_annots"][images[0]]["wrong"][-1] == WNID(500)
  assert merge.merge(merged, [table])[0] == merged


def test_killed_while_writing_leaves_the_old_file(rows, small, tmp_path):
  out = tmp_path / "new.json"
  out.write_text("old")
  table = fill(rows, tmp_path / "a.csv", {1: "wrong"})
  args = [str(table), f"--annotations={small / 'old.json'}", f"--out={out}"]
  code = (
    "import os, signal, sys\nfrom imgbench import commands\n"
    "os.fsync = lambda file: os.kill(os.getpid(), signal.SIGKILL)\n"
    f"sys.argv = ['imgbench', 'review', 'merge', *{args!r}]\ncommands.main()"
  )
  assert processes.run_python("-c", code).returncode == -9
  assert out.read_text() == "old"


def write_scenes(folder):
  """Writes a run on the scenes; returns their examples and source."""
  options = {"image_size": 16, "validation_examples": 72}
  source = scene_source.ScenesSource("validation", **options)
  examples = source.load()
  folder.mkdir()
  sets = {"val": {"type": "multilabel", "split": "validation"}}
  data = {"name": "scenes", "data_dir": "", "options": options}
  config = {"data": data, "evaluation": {"sets": sets}}
  (folder / "config.json").write_text(json.dumps(config))
  key, top1 = "scenes:validation", np.arange(72) % 24
  row = {f"{key}/all/top1_accuracy": samples.accuracy(5, 72, "share")}
  (folder / "results.json").write_text(json.dumps(row))
  names = {"scenes-validation.class_names": source.info.class_names}
  matrix = {"scenes-validation": np.zeros((24, 24), np.int64)}
  np.savez(folder / "confusion.npz", **names, **matrix)
  (folder / "predictions").mkdir()
  review = examples.label_codes[np.arange(72), top1]
  np.savez(
    folder / "predictions/scenes-validation.npz",
    image_id=examples.image_id,
    label=examples.label,
    top5=(top1[:, None] + np.arange(5)) % 24,
    top5_prob=np.full((72, 5), 0.2, np.float32),
    review=review,
    left_out=examples.left_out,
  )
  return examples, source


def test_scenes_have_sheets_of_their_images(tmp_path):
  """The unreviewed predictions are those of the run's evaluation."""
  folder = tmp_path / "run"
  examples, source = write_scenes(folder)
  top1 = np.arange(72) % 24
  review = examples.label_codes[np.arange(72), top1]
  found = list_pending(tmp_path / "a", f"--run={folder}")
  open_ = (review == annotations.UNREVIEWED) & ~examples.left_out
  assert {(r["image_id"], r["wnid"]) for r in found} == {
    (examples.image_id[i], source.info.class_names[top1[i]])
    for i in np.flatnonzero(open_)
  }
  effects = [float(row["effect"]) for row in found]
  assert effects == sorted(effects, reverse=True) and 0 < len(found) < 72
  assert len(list(tmp_path.glob("a/*.png"))) == -(-len(found) // 48)
  list_pending(tmp_path / "b", f"--run={folder}")
  for name in ("pending.csv", "sheet_01.png"):
    first, second = (tmp_path / f / name for f in "ab")
    assert first.read_bytes() == second.read_bytes()
  # Sheets of an earlier list go, with other rows by the same numbers.
  review[:] = annotations.FIELD_CODES["wrong_multi_labels"]
  path = folder / "predictions/scenes-validation.npz"
  np.savez(path, **{**np.load(path), "review": review})
  (tmp_path / "b/sheet_99.png").touch()
  assert list_pending(tmp_path / "b", f"--run={folder}") == []
  assert sorted(path.name for path in (tmp_path / "b").iterdir()) == [
    *("manifest.json", "pending.csv")
  ]
  with pytest.raises(errors.InputError, check=raising.about("--dataset")):
    old = human_files.write_json(tmp_path / "h.json")
    list_pending(tmp_path / "c", f"--run={folder}", f"--annotations={old}")


def test_reviews_of_a_public_model(tmp_path):
  """Merged rows move the published tables by exactly their effect."""
  repo = shared_files.shared_path("data", "ImageNetV2")
  old = shared_files.shared_path("data/imagenet/multilabel_annotations.json")
  name = datasets.VALIDATION
  for part in ("metadata", "datasets", f"predictions/{name}"):
    (tmp_path / "data" / part).parent.mkdir(parents=True, exist_ok=True)
  for part in ("metadata", "datasets"):
    (tmp_path / "data" / part).symlink_to(repo / "data" / part)
  (tmp_path / f"data/predictions/{name}").mkdir()
  file = f"data/predictions/{name}/alexnet.npy"
  (tmp_path / file).symlink_to(repo / file)
  run_ = tmp_path / "run"
  scoring.run(
    *(repo / file, "--dataset=val,multilabel", f"--repo={tmp_path}"),
    *("--model=mine", f"--annotations={old}", f"--out={run_}"),
    scoring.write_config(tmp_path),
  )
  args = (f"--run={run_}", f"--annotations={old}")
  found = list_pending(tmp_path / "a", *args)
  text = (tmp_path / "a/pending.csv").read_text()
  assert "alexnet" not in text and "mine" not in text
  list_pending(tmp_path / "b", args[0])
  assert (tmp_path / "b/pending.csv").read_text() == text

  def measure(path):
    out = tmp_path / path.stem
    flag = f"--annotations={path}"
    scripts.main(multilabel, out, f"--repo={tmp_path}", flag)
    return {
      r["metric"].removeprefix("multilabel_accuracy."): (r["value"], r["n"])
      for r in scripts.csv_rows(out)
      if r["model"] == "alexnet" and r["subset"] == "all"
    }

  before = measure(old)
  share = float(before["lenient_mean.unreviewed"][0])
  assert len(found) == round(share * 18_692) and before["tfds"][1] == "18692"
  states = {int(row["row"]): "wrong" for row in found}
  states |= {int(row["row"]): "correct" for row in found[::2]}
  table = fill(found, tmp_path / "filled.csv", states)
  new = tmp_path / "new.json"
  told = merge_files(table, *args, f"--out={new}")
  after = measure(new)
  for definition in ("icml2020", "tfds", "lenient_mean"):
    assert float(after[f"{definition}.unreviewed"][0]) == 0
  accepted = found[::2]
  moved = float(after["icml2020"][0]) - float(before["icml2020"][0])
  assert moved == pytest.approx(len(accepted) / 18_692, abs=2e-8)
  moved = float(after["tfds"][0]) - float(before["tfds"][0])
  effect = sum(float(row["effect"]) for row in accepted)
  assert moved == pytest.approx(effect, abs=2e-8)
  assert f"{100 * float(after['tfds'][0]):.3f}" in told
