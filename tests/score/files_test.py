"""Formats of files with predictions and labels, and their errors."""

import numpy as np
import pytest

from imgbench import errors
from imgbench.labels import classes
from imgbench.score import files
from tests import raising
from tests.score import scoring

LOGITS = np.array(
  [[3.0, 1.0, -2.0], [0.5, 2.5, 0.0], [1.0, 0.0, 4.0]], np.float32
)
PROBS = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
RANKING = np.argsort(-LOGITS, axis=1)
VALUES = {
  files.LOGITS: LOGITS,
  files.PROBABILITIES: PROBS,
  files.RANKING: RANKING,
}
NAMES = [("ant", "bee", "cat")]


def write(path, text: str):
  path.write_text(text)
  return path


def write_csv(path, values, header="", ids=()):
  lines = [header] if header else []
  for row, cells in enumerate(np.asarray(values).tolist()):
    lines.append(",".join([*ids[row : row + 1], *map(str, cells)]))
  return write(path, "\n".join(lines) + "\n")


@pytest.mark.parametrize("kind", VALUES)
@pytest.mark.parametrize("form", ["npy", "npz", "one.npz", "csv", "header.csv"])
def test_every_format_tells_or_shows_its_kind(tmp_path, kind, form):
  values, path = VALUES[kind], tmp_path / f"file.{form}"
  if form == "npy":
    np.save(path, values)
  elif form == "npz":
    np.savez(path, **{kind: values, "image_id": np.array(["a", "b", "c"])})
  elif form == "one.npz":
    np.savez(path, values)
  elif form == "csv":
    write_csv(path, values)
  else:
    name = {"logits": "logit", "probabilities": "prob"}.get(kind, "index")
    header = ",".join(["filename", *(f"{name}_{i}" for i in range(3))])
    write_csv(path, values, header, ["a", "b", "c"])
  for given in ("", kind):
    found = files.read(path, given)
    assert found.kind == kind and len(found) == 3
    with_ids = form in ("npz", "header.csv")
    assert found.image_ids == (["a", "b", "c"] if with_ids else None)
    taken = found.take(np.array([2, 0]))
    if kind == files.RANKING:
      assert taken.dtype == np.int32
      np.testing.assert_array_equal(taken, RANKING[[2, 0]])
    else:
      assert taken.dtype == np.float32
      softmax = np.exp(taken) / np.exp(taken).sum(axis=1, keepdims=True)
      np.testing.assert_allclose(softmax, PROBS[[2, 0]], atol=1e-6)


@pytest.mark.parametrize("name", ["logit", "index"])
def test_columns_are_sorted_by_their_numbers(tmp_path, name):
  values = VALUES["logits" if name == "logit" else files.RANKING]
  header = ",".join(f"{name}_{i}" for i in (2, 0, 1))
  path = write_csv(tmp_path / "file.csv", values[:, [2, 0, 1]], header)
  np.testing.assert_array_equal(files.read(path).values, values)


def test_scores_beside_a_label_are_read_if_asked_for(tmp_path):
  path = write_csv(
    tmp_path / "file.csv",
    np.concatenate([np.zeros((3, 1), int), LOGITS], axis=1),
    "label,logit_0,logit_1,logit_2",
  )
  found = files.read(path, files.LOGITS)
  np.testing.assert_array_equal(found.values, LOGITS)


def test_probabilities_may_be_rounded_to_more_than_1(tmp_path):
  probs = np.array([[1.00001, 0.0], [0.25, 0.75]], np.float32)
  np.save(tmp_path / "file.npy", probs)
  found = files.read(tmp_path / "file.npy")
  assert found.kind == files.PROBABILITIES
  assert found.take(np.array([0]))[0, 0] == pytest.approx(0, abs=2e-5)


@pytest.mark.parametrize("kind", VALUES)
def test_safetensors(tmp_path, kind):
  numpy = pytest.importorskip("safetensors.numpy")
  numpy.save_file({kind: VALUES[kind]}, tmp_path / "file.safetensors")
  found = files.read(tmp_path / "file.safetensors")
  assert found.kind == kind
  np.testing.assert_array_equal(found.values, VALUES[kind])
  path = write(tmp_path / "bad.safetensors", "nothing")
  with pytest.raises(errors.InputError, check=raising.about(str(path))):
    files.read(path)


def test_timm_files_with_names_lists_and_background(tmp_path):
  path = tmp_path / "timm.csv"
  write(path, 'filename,label\n"a",cat\nb,ant\n')
  found = files.read(path, names=NAMES)
  assert found.kind == files.RANKING
  assert found.values.tolist() == [[2], [0]]
  write(path, "filename,index,label,prob\na,[2 0],x,0.5\nb,[1 2],x,0.5\n")
  found = files.read(path, names=NAMES)
  assert found.values.tolist() == [[2, 0], [1, 2]]
  table = classes.imagenet_classes()
  texts = [classes.short_names(), table.wnids, table.names]
  write(path, f"filename,label_0,label_1\na,{table.wnids[7]},goldfish\n")
  names = files.read(path, names=texts)
  assert names.values[0, 0] == 7
  write(path, 'filename,label\na,"tench, Tinca tinca"\n')
  assert files.read(path, names=texts).values.tolist() == [[0]]
  write(path, "filename,label\na,crane\n")
  with pytest.raises(errors.InputError, check=raising.about(f"{path}, row 0")):
    files.read(path, names=texts)


def test_a_background_class_is_dropped(tmp_path):
  np.save(tmp_path / "logits.npy", LOGITS)
  found = files.read(tmp_path / "logits.npy", background_first=True)
  np.testing.assert_array_equal(found.values, LOGITS[:, 1:])
  np.save(tmp_path / "top.npy", np.array([[3, 0, 1], [2, 1, 3]]))
  found = files.read(tmp_path / "top.npy", background_first=True)
  # The third class of the first row is unknown.
  assert found.values.tolist() == [[2, 0], [1, 0]]
  np.save(tmp_path / "top.npy", np.array([[3, 2], [2, 1]]))
  found = files.read(tmp_path / "top.npy", background_first=True)
  assert found.values.tolist() == [[2, 1], [1, 0]]
  np.save(tmp_path / "top.npy", np.array([[0], [1]]))
  with pytest.raises(errors.InputError) as caught:
    files.read(tmp_path / "top.npy", background_first=True)
  assert caught.value.given.startswith("1 ")


def bad_npy(values):
  def build(folder):
    np.save(folder / "bad.npy", values)
    return folder / "bad.npy"

  return build


def bad_text(name, text):
  return lambda folder: write(folder / name, text)


@pytest.mark.parametrize(
  ("build", "kind", "where"),
  [
    # Neither logits nor probabilities for certain.
    (bad_npy(np.array([[0.2, 0.3], [0.9, 0.8]])), "", ""),
    (bad_npy(np.array([[1.0, 0.0], [3.0, 2.0]])), "", ""),
    (bad_npy(PROBS * 1.1), files.PROBABILITIES, ", row 0"),
    (bad_npy(LOGITS), files.PROBABILITIES, ", row 0"),
    (bad_npy(LOGITS), files.RANKING, ""),
    (bad_npy(np.array([[1, 1]])), "", ": ranking[0]"),
    (bad_npy(np.array([[-2, 1]])), "", ": ranking[0]"),
    (bad_npy(LOGITS[0]), "", ""),
    (bad_npy(np.zeros((0, 3))), "", ""),
    (bad_npy(np.array(["a"])), "", ""),
    (bad_text("bad.npy", "text"), "", ""),
    (bad_text("bad.npz", "text"), "", ""),
    (bad_text("bad.pt", "text"), "", ""),
    (bad_text("bad.csv", "id,label_0\n"), "", ""),
    (bad_text("bad.csv", "id,x,y\na,1,2\n"), "", ", line 1"),
    (bad_text("bad.csv", "id,prob_0,prob_1\na,0.5,\n"), "", None),
    (bad_text("bad.csv", "id,prob_0,prob_2\na,0.5,0.5\n"), "", ", line 1"),
    # The label may be the true one.
    (
      bad_text("bad.csv", "id,label,prob_0,prob_1\na,0,0.5,0.5\n"),
      "",
      ", line 1",
    ),
    (bad_text("bad.csv", "1,2,3\n4,5,x\n"), "", None),
    (bad_text("bad.csv", "1,2,3\n4,5,6,7\n"), "", ""),
    (bad_text("bad.csv", ""), "", ""),
    (bad_text("bad.csv", "filename,index\na,[1 2]\nb,[1]\n"), "", ""),
  ],
)
def test_errors_name_the_file(tmp_path, build, kind, where):
  path = build(tmp_path)
  with pytest.raises(errors.InputError) as caught:
    files.read(path, kind)
  setting = caught.value.setting
  assert (
    setting == f"{path}{where}" if where is not None else str(path) in (setting)
  )


def test_arrays_are_chosen_by_name_and_kind(tmp_path):
  path = tmp_path / "file.npz"
  np.savez(path, probs=PROBS, top5=RANKING, top5_prob=PROBS)
  assert files.read(path).kind == files.PROBABILITIES
  assert files.read(path, files.RANKING).kind == files.RANKING
  with pytest.raises(errors.InputError, check=raising.about(str(path))):
    files.read(path, files.LOGITS)
  np.savez(path, a=PROBS, b=PROBS)
  with pytest.raises(errors.InputError, check=raising.about(str(path))):
    files.read(path)


@pytest.fixture
def labelled(tmp_path):
  """A label file of four images and files to score on it."""
  write(tmp_path / "labels.csv", "image_id,label\na,0\nb,1\nc,2\nd,1\n")
  write(tmp_path / "names.txt", "ant\nbee\ncat\n")
  np.save(tmp_path / "mine.npy", np.concatenate([LOGITS, LOGITS[:1]]))
  return tmp_path


def score(folder, *flags, file="mine.npy", labels="labels.csv"):
  return scoring.run(
    folder / file,
    *("--dataset=mine", f"--labels={folder / labels}"),
    *(f"--out={folder / 'out'}", scoring.write_config(folder)),
    *flags,
  )


def test_any_set_with_a_label_file(labelled):
  found = score(labelled, f"--class_names={labelled / 'names.txt'}")
  entry = found["mine:test/all/top1_accuracy"]
  assert (entry["correct"], entry["n"]) == (3, 4)
  lines = (labelled / "out/per_class.csv").read_text().splitlines()
  assert [line.split(",")[2] for line in lines[1:]] == ["ant", "bee", "cat"]


@pytest.mark.parametrize("form", ["names.csv", "labels.txt", "labels.npy"])
def test_forms_of_label_files(labelled, form):
  if form == "names.csv":
    write(labelled / form, "label,id\nant,a\nbee,b\ncat,c\nbee,d\n")
  elif form == "labels.txt":
    write(labelled / form, "0\nbee\n2\n1\n")
  else:
    np.save(labelled / form, np.array([0, 1, 2, 1], np.int8))
  names = f"--class_names={labelled / 'names.txt'}"
  found = score(labelled, names, labels=form)
  assert found["mine:test/all/top1_accuracy"]["correct"] == 3


def test_a_ranking_needs_no_class_names(labelled):
  np.save(labelled / "top.npy", np.array([[0], [1], [0], [0]]))
  found = score(labelled, file="top.npy")
  entry = found["mine:test/all/top1_accuracy"]
  assert (entry["correct"], entry["n"]) == (2, 4)


def test_non_finite_rows_are_counted_and_wrong(labelled):
  values = np.concatenate([LOGITS, LOGITS[:1]])
  values[0, 1], values[1, 0], values[2] = np.nan, -np.inf, np.inf
  np.save(labelled / "mine.npy", values)
  found = score(labelled, "--scores=logits")
  assert found["mine:test/all/non_finite"]["value"] == 2
  assert found["mine:test/all/top1_accuracy"]["correct"] == 1


def test_a_probability_of_0_is_not_a_non_finite_row(labelled):
  values = np.array([[1.0, 0, 0], [0.5, 0.25, 0.25], [0, 0, 1], [0, 1, 0]])
  np.save(labelled / "mine.npy", values)
  found = score(labelled)
  assert found["mine:test/all/non_finite"]["value"] == 0
  assert found["mine:test/all/top1_accuracy"]["correct"] == 3
  nll = found["mine:test/all/nll"]["value"]
  assert nll == pytest.approx(np.log(4) / 4, rel=1e-6)


@pytest.mark.parametrize(
  ("ids", "text"),
  [
    ("a b c c", "c again"),
    ("c c c c", "c again and 2 more"),
    ("a b c x", "1 others: x"),
    ("a b x y", "2 others: x, y"),
  ],
)
def test_ids_that_do_not_fit_are_counted(labelled, ids, text):
  write(labelled / "ids.txt", ids.replace(" ", "\n"))
  with pytest.raises(errors.InputError) as caught:
    score(labelled, f"--ids={labelled / 'ids.txt'}")
  assert str(labelled / "mine.npy") in caught.value.setting
  assert str(caught.value.given) == text
  assert not (labelled / "out/results.json").exists()


def test_missing_ids_are_counted(labelled):
  np.save(labelled / "mine.npy", LOGITS)
  write(labelled / "ids.txt", "d\na\nb")
  about = raising.about(
    str(labelled / "mine.npy"), expected="all 4 images of mine:test", given=3
  )
  with pytest.raises(errors.InputError, check=about):
    score(labelled, f"--ids={labelled / 'ids.txt'}")
  about = raising.about(str(labelled / "ids.txt"), given=2)
  write(labelled / "ids.txt", "d\na")
  with pytest.raises(errors.InputError, check=about):
    score(labelled, f"--ids={labelled / 'ids.txt'}")


@pytest.mark.parametrize(
  ("flags", "setting"),
  [
    (["--dataset=other"], "--dataset"),
    (["--ids=a", "--ids=b"], "--ids"),
    (["--repo=absent"], "--repo"),
    (["--model=x", "--labels=absent.csv"], "--labels"),
  ],
)
def test_flags_that_do_not_fit(labelled, flags, setting):
  with pytest.raises(errors.InputError, check=raising.about(setting)):
    score(labelled, *flags)


def test_class_names_are_different_and_at_least_one(labelled):
  for text, given in (("", "none"), ("ant\nbee\nant\n", 2)):
    path = write(labelled / "wrong.txt", text)
    check = raising.about("--class_names", given=given)
    with pytest.raises(errors.InputError, check=check):
      score(labelled, f"--class_names={path}")


@pytest.mark.parametrize(
  ("args", "setting"),
  [
    (["--dataset=val"], "FILE"),
    (["absent.npy", "--dataset=val"], "FILE"),
    (["mine.npy"], "--dataset"),
    (["mine.npy", "--dataset=vall"], "--dataset"),
    (["mine.npy", "--dataset=val"], "--dataset=val"),
    (["mine.npy", "--dataset=cifar10:test"], "--dataset=cifar10:test"),
    (["mine.npy", "--dataset=val", "--class_names=x"], "--class_names"),
  ],
)
def test_command_lines_that_do_not_fit(labelled, monkeypatch, args, setting):
  monkeypatch.chdir(labelled)
  with pytest.raises(errors.InputError, check=raising.about(setting)):
    scoring.run(*args, "--out=out")
  assert not (labelled / "out").exists()


def test_other_numbers_of_rows_or_classes(labelled):
  path = labelled / "mine.npy"
  np.save(path, LOGITS)
  with pytest.raises(
    errors.InputError, check=raising.about(str(path), given=3)
  ):
    score(labelled)
  np.save(path, np.tile(LOGITS, (2, 2))[:4, :4])
  names = f"--class_names={labelled / 'names.txt'}"
  with pytest.raises(errors.InputError) as caught:
    score(labelled, names)
  assert caught.value.given == "4"
  assert "--background_first" in caught.value.fix
  score(labelled, names, "--background_first")


def test_rows_may_be_sorted_by_id(labelled):
  write(labelled / "labels.csv", "image_id,label\nd,1\nb,1\nc,2\na,0\n")
  found = score(labelled, "--order=id")
  assert found["mine:test/all/top1_accuracy"]["correct"] == 3
