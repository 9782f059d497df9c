"""Requirements: their form, what they hold for, exit codes of programs."""

import csv
import json

from hypothesis import given
from hypothesis import strategies as st
import pytest

from imgbench import check
from imgbench import errors
from imgbench.metrics import specs
from imgbench.report import inputs
from tests import forked
from tests import raising
from tests.parallel import jobs
from tests.report import imagenet_samples
from tests.report import samples
from tests.train import processes

TINY = f"--config={processes.ROOT / 'configs/tiny.py'}"
QUICK = ("--config.steps.total=2 steps", "--config.logging.report=False")


def parts(text: str, also=()) -> list[tuple]:
  """Returns the fields of requirements, without their text."""
  return [term[1:] for term in check.parse([text], also)]


@pytest.mark.parametrize(
  "text, expected",
  [
    ("top1_accuracy>=0.75", ("", "all", "top1_accuracy", "", ">=", 0.75)),
    (" nll  <  1e-1 ", ("", "all", "nll", "", "<", 0.1)),
    ("top10_accuracy>.5", ("", "all", "top10_accuracy", "", ">", 0.5)),
    (
      "real_accuracy.drop<=-0.1",
      ("", "all", "real_accuracy.drop", "", "<=", -0.1),
    ),
    (
      "cifar10_1-v6:test[:5]+train/dog/nll<2",
      ("cifar10_1-v6:test[:5]+train", "dog", "nll", "", "<", 2.0),
    ),
    ("recall[otter]>=0.5", ("", "all", "recall", "otter", ">=", 0.5)),
    ("f1[17]<1", ("", "all", "f1", "17", "<", 1.0)),
    (
      "a:b/all/precision[crane, a>=1 [bird]]>0",
      ("a:b", "all", "precision", "crane, a>=1 [bird]", ">", 0.0),
    ),
    ("multilabel", ("", "all", "multilabel", "", "", 0.0)),
  ],
)
def test_terms(text, expected):
  assert parts(text) == [expected]
  assert parts(f"{text}, shift,{text}")[::2] == [expected, expected]


@pytest.mark.parametrize(
  "text, given, expected",
  [
    ("", "", ""),
    ("nll<1,", "", ""),
    ("nll", "nll", ""),
    ("nll<1 ece<1", "nll<1 ece<1", ""),
    ("nll=1", "nll=1", ""),
    ("nll<nan", "nll<nan", ""),
    ("val/all/nll<1", "val/all/nll<1", ""),
    ("multilabl", "multilabl", ""),
    ("shift[3]", "shift[3]", ""),
    ("recall[a], recall[b]>=0.5", "recall[a]", ""),
    ("top1_acuracy>=1", "top1_acuracy>=1", "a known metric"),
    ("nothing.drop>=1", "nothing.drop>=1", "a known metric"),
    ("top1_accuracy>=75", "top1_accuracy>=75", "a fraction in [0, 1]"),
    ("recall[a]>=75", "recall[a]>=75", "a fraction in [0, 1]"),
  ],
)
def test_other_texts_are_refused(text, given, expected):
  about = raising.about(
    "--require", given=repr(given), expected=expected or None
  )
  with pytest.raises(errors.InputError, check=about):
    check.parse([text])


def test_near_names_and_the_form_of_rates():
  with pytest.raises(errors.InputError) as error:
    check.parse(["top1_acuracy>=1"])
  assert "top1_accuracy" in error.value.fix
  for text in ("recall>=0.5", "nll[3]<1", "a:b/dog/recall[3]>0"):
    with pytest.raises(errors.InputError) as error:
      check.parse([text])
    assert "precision, recall, f1" in error.value.expected


def test_metrics_of_the_run_are_known_too():
  assert parts("own<2", also=["own"]) == [("", "all", "own", "", "<", 2.0)]
  assert check.parse([]) == []
  assert len(check.parse(["nll<1, shift", "ece<1"])) == 3


NAMES = st.sampled_from(
  [*specs.METRICS, "top3_accuracy", "real_accuracy.drop", *specs.RATES]
)
PLACES = st.sampled_from(["", "cifar10:test/all/", "a+ema:b[1:]/dog/"])
LABELS = st.text(st.characters(exclude_characters="[]"), min_size=1)


@st.composite
def terms(draw):
  """A term's text and its fields, in any spacing."""
  space = lambda: draw(st.sampled_from(["", " ", "\t "]))
  name, place = draw(NAMES), draw(PLACES)
  label = draw(LABELS) if name in specs.RATES else ""
  if label:
    place = place.replace("dog", "all")
    label += draw(st.sampled_from(["", f"[{label}]"]))
  is_rate = label or specs.describe(name).unit == specs.RATE
  limits = (0, 1) if is_rate else (-1e300, 1e300)
  number, compare = (
    draw(st.floats(*limits)),
    draw(st.sampled_from([*"<>", ">=", "<="])),
  )
  of_class = f"[{label}]" if label else ""
  dataset, subset = place.split("/")[:2] if place else ("", "all")
  text = f"{place}{name}{of_class}{space()}{compare}{space()}{number!r}"
  return space() + text + space(), (
    dataset,
    subset,
    name,
    label,
    compare,
    number,
  )


@given(st.lists(terms(), min_size=1, max_size=4))
def test_texts_of_terms_are_parsed_to_their_fields(found):
  text = ",".join(term for term, _ in found)
  assert parts(text) == [fields for _, fields in found]


def judge(workdir, text: str) -> list[dict]:
  found = check.judge(inputs.read(workdir), check.parse([text]))
  rows = found["requirements"]
  assert found["holds"] == all(row["holds"] for row in rows)
  assert [bool(row["reason"]) for row in rows] == [not r["holds"] for r in rows]
  return rows


def test_values_of_results_and_classes(tmp_path):
  workdir, _ = samples.cifar(tmp_path / "run")
  results = processes.read_json(workdir, "results.json")
  value = results["cifar10:test/all/top1_accuracy"]["value"]
  (row,) = judge(workdir, f"top1_accuracy>={value!r}")
  assert row == {
    "requirement": f"top1_accuracy>={value!r}",
    "dataset": "cifar10:test",
    "subset": "all",
    "metric": "top1_accuracy",
    "class": None,
    "expected": f">={value!r}",
    "value": value,
    "holds": True,
    "reason": "",
  }
  assert not judge(workdir, f"top1_accuracy>{value!r}")[0]["holds"]
  with (workdir / "per_class.csv").open(newline="") as file:
    (cat,) = (r for r in csv.DictReader(file) if r["class_name"] == "cat")
  for label in ("cat", "3"):
    for rate in ("precision", "recall", "f1"):
      (row,) = judge(workdir, f"{rate}[{label}]<={cat[rate]}")
      assert row["holds"] and row["class"] == "cat"
      assert row["value"] == float(cat[rate])


@pytest.mark.parametrize(
  "text", ["mse<=0.1", "a:b/all/nll<9", "recall[10]>0", "f1[wolf]>0", "subsets"]
)
def test_what_the_results_lack_does_not_hold(tmp_path, text):
  workdir, _ = samples.cifar(tmp_path / "run")
  (row,) = judge(workdir, text)
  assert not row["holds"]
  assert row["dataset"] is None and row["value"] is None


def test_training_data_counts_only_by_name(tmp_path):
  drawn = [
    samples.Sample(key, ("ant", "bee"), 60, skill, 3)
    for key, skill in (("toy:train", 0.1), ("toy:test", 0.9))
  ]
  workdir = samples.write(tmp_path / "run", drawn, "imgbench")
  keys = lambda text: [row["dataset"] for row in judge(workdir, text)]
  assert keys("top1_accuracy>0") == ["toy:test"]
  assert keys("recall[bee]>0") == ["toy:test"]
  assert keys("toy:train/all/top1_accuracy>0") == ["toy:train"]


def test_training_data_has_no_bands(tmp_path):
  keys = ("cifar10:train", "cifar10:test")
  drawn = [samples.Sample(key, ("ant", "bee"), 60, 0.9, 3) for key in keys]
  workdir = samples.write(tmp_path / "run", drawn, "imgbench")
  look = ["imgbench.check", str(workdir)]
  (done,) = forked.run_all([look], tmp_path / "folders")
  assert keys[1] in done.stdout and keys[0] not in done.stdout


def test_equal_and_odd_names_of_classes(tmp_path):
  drawn = [samples.Sample("toy:test", ("crane", "crane", "[x", "0"), 90, 1, 3)]
  workdir = samples.write(tmp_path / "run", drawn, "imgbench")
  names = lambda text: [row["class"] for row in judge(workdir, text)]
  assert names("recall[crane]>=0") == ["crane", "crane"]  # Both have to.
  assert names("recall[2]>=0") == ["[x"]
  assert names("recall[0]>=0") == ["0"]  # A name comes before an index.


def test_undefined_values_do_not_hold(tmp_path):
  drawn = [samples.Sample("toy:test", ("ant", "bee"), 9, 1.0, 3, classes=[1])]
  workdir = samples.write(tmp_path / "run", drawn, "imgbench")
  path = workdir / "results.json"
  results = json.loads(path.read_text())
  name = "toy:test/all/multilabel_accuracy.tfds"
  results[name] = samples.plain(None, 0, "share; undefined: no example; flips")
  results[f"{name}.unreviewed"] = samples.plain(0.5, 9, "share")
  path.write_text(json.dumps(results))
  for text in ("multilabel_accuracy.tfds>=0", "multilabel"):
    (row,) = judge(workdir, text)
    assert row["value"] is None and not row["holds"]
    assert row["reason"] == "undefined: no example; flips"
  (row,) = judge(workdir, "recall[ant]>=0")
  assert row["value"] is None and row["reason"].startswith("undefined: 0 ")


def test_words_and_drops_of_imagenet(tmp_path):
  names = ("imagenet2012", "imagenet2012_multilabel", "imagenet_a")
  workdir, _ = imagenet_samples.family(tmp_path / "run", names, ("",), 0.2)
  rows = judge(workdir, "multilabel, subsets, shift")
  assert all(row["holds"] and row["value"] is not None for row in rows)
  assert rows[0]["metric"] == "multilabel_accuracy.tfds"
  assert rows[1]["subset"] != "all"
  assert rows[2]["metric"].endswith(".drop")
  (row,) = judge(workdir, "top1_accuracy.drop>=-1")
  assert row["dataset"] == "imagenet_a:test"


def test_programs_end_with_code_3_and_resume_without_training(tmp_path):
  """Train, again, evaluate, score and check, each as a process."""
  run, out = tmp_path / "run", tmp_path / "out"
  train = ["imgbench.main", TINY, f"--workdir={run}", *QUICK]
  fails, holds = "--require=top1_accuracy>0.9,shift", "--require=nll<99"
  score = ["imgbench.score", str(run / "predictions/scenes-validation.npz")]
  score += [TINY, "--dataset=val", f"--out={out}", *QUICK]
  evaluate = ["imgbench.evaluate", str(run), f"--workdir={tmp_path / 'again'}"]
  look = ["imgbench.check", str(run), f"--json={tmp_path / 'c.json'}"]
  bad = f"--workdir={tmp_path / 'bad'}"
  lines = {
    3: [[*train, fails], [*evaluate, QUICK[1], fails], [*score, fails]],
    0: [[*train, holds], score, [*look, holds], look[:2]],
    2: [[*train[:2], bad, "--require=nl<1"], [*look, "--require=nl<1"]],
  }
  lines[3].append([*look, "--bands", fails])
  lines[2].append([*train[:2], bad, holds, "--smoke_steps=2"])
  lines[2].append([*look[:1], str(tmp_path), holds])
  codes = [code for code in (3, 0, 2) for _ in lines[code]]
  done = forked.run_all(sum(lines.values(), []), tmp_path / "folders")
  assert [one.code for one in done] == codes, [one.stderr for one in done]
  # The table of `imgbench check` has them.
  for one, least in zip(done[:4], (2, 2, 2, 0), strict=True):
    lines = one.stdout.splitlines()
    count = sum(line.startswith("check: ") for line in lines)
    assert count >= least and bool(count) == bool(least)
  assert done[3].stdout.count("is not >0.9") == 2
  assert "step 2/2" in done[0].stderr and "is done already" in done[4].stderr
  assert "step 2/2" not in done[4].stderr
  assert processes.read_json(run, "check.json")["holds"]
  assert not processes.read_json(tmp_path / "again", "check.json")["holds"]
  assert not (out / "check.json").exists()  # It was of older results.
  assert processes.read_json(tmp_path, "c.json")["holds"]
  assert not (tmp_path / "bad").exists()


@pytest.mark.slow
def test_all_processes_end_with_the_code_and_the_first_writes(tmp_path):
  workdir = tmp_path / "run"
  job = jobs.start(workdir, QUICK[0], "--require=top1_accuracy>0.9")
  assert job.wait() == [errors.EXIT_CHECK] * 2, job.logs()
  assert "check: top1" in job.log(0) and "check: top1" not in job.log(1)
  assert not processes.read_json(workdir, "check.json")["holds"]
  assert processes.read_json(workdir, "status.json")["state"] == "done"
