"""Tests of accuracy joined with speed, on measured rows of bench_quick."""

import dataclasses
import json
import shutil

from absl import flags
import pandas as pd
import pytest

from imgbench import cost
from imgbench import errors
from imgbench.bench import rows as bench_rows
from imgbench.papers import program
from imgbench.tables import frame
from tests import raising
from tests.experiments import scripts
from tests.papers import rows
from tests.train import processes

QUICK = processes.ROOT / "experiments/results/cpu_2_cores/bench_quick"
TOP1, DROP = "top1_accuracy", "top1_accuracy.drop"


def write_run(folder, model, right, size=32, dtype="float32", **sections):
  """Writes the results of a run with so many of 100 images right."""
  folder.mkdir()
  found = rows.of(
    rows.row(model, "cifar10:train", 99),
    rows.row(model, "cifar10:test", right, metric="top5_accuracy"),
    **{"cifar10:test": {model: right}},
  )
  results = json.dumps(frame.to_results(found))
  (folder / "results.json").write_text(results)
  config = {"model": {"name": model, "dtype": dtype}, "input": {"size": size}}
  (folder / "config.json").write_text(json.dumps(config | sections))
  (folder / "environment.json").write_text('{"platform": "cpu"}')
  return str(folder)


def join(out, runs, *args, bench=QUICK):
  """Returns the rows of cost.csv."""
  values = flags.FlagValues()
  cost.define_flags(values)
  values(["cost", f"--bench={bench}", *args])
  output = program.Output(out)
  cost.report(values, output, runs)
  output.close()
  return scripts.csv_rows(out, "cost.csv")


def test_runs_have_the_speed_of_their_models(tmp_path):
  runs = [
    write_run(tmp_path / "resnet", "resnet18", 80),
    write_run(tmp_path / "vit", "vit_ti16", 70),
    write_run(tmp_path / "worse", "resnet18", 70),
    write_run(tmp_path / "large", "resnet18", 90, size=224),
    write_run(tmp_path / "bfloat16", "resnet18", 90, dtype="bfloat16"),
  ]
  found = join(tmp_path / "out", runs, "--task=train")
  assert tuple(found[0]) == cost.COLUMNS
  assert [(x["model"], x["metric"]) for x in found] == [
    (run, TOP1) for run in runs[:3]
  ]
  assert {x["dataset"] for x in found} == {"cifar10:test"}
  assert [x["on_front"] for x in found] == ["True", "True", "False"]
  measured = {r.key.text(): r for r in bench_rows.read_folder(QUICK).rows}
  row = measured["train vit_ti16 b16 32px float32"]
  assert float(found[1]["images_per_s"]) == pytest.approx(row.images_per_s)
  assert float(found[1]["mfu"]) == pytest.approx(0.374, abs=5e-4)
  assert (found[1]["batch"], found[1]["device"]) == ("16", "AMD EPYC")
  names = {path.name for path in (tmp_path / "out").iterdir()}
  assert {"cost.md", "cost.png", "cost.pdf", "manifest.json"} <= names
  (note,) = json.loads((tmp_path / "out/manifest.json").read_text())["notes"]
  assert f"{runs[4]}, {runs[3]}" in note
  # Inference is the default, which bench_quick has of the transformer only.
  (only,) = join(tmp_path / "infer", runs)
  assert (only["model"], only["task"]) == (runs[1], "infer")


def test_sizes_and_dtypes_are_those_of_the_evaluation(tmp_path):
  # An "auto" dtype is that of the run's device.
  auto = write_run(tmp_path / "auto", "vit_ti16", 70, dtype="auto")
  (found,) = join(tmp_path / "a", [auto])
  assert found["dtype"] == "float32"
  (tmp_path / "auto/environment.json").write_text('{"platform": "gpu"}')
  with pytest.raises(errors.InputError, check=raising.about("--bench")):
    join(tmp_path / "b", [auto])
  # Trained on images of another size than it is evaluated on.
  larger = write_run(
    tmp_path / "larger",
    "vit_ti16",
    70,
    size=24,
    evaluation={"input": {"size": 32}},
  )
  (found,) = join(tmp_path / "c", [larger])
  assert found["image_size"] == "32"
  with pytest.raises(errors.InputError, check=raising.about("--bench")):
    join(tmp_path / "d", [larger], "--task=train")


def test_a_score_has_the_name_of_its_file(tmp_path):
  run = write_run(tmp_path / "score", "", 70)
  score = {"score": {"model": None, "files": ["of/vit_ti16.npy"]}}
  (tmp_path / "score/config.json").write_text(json.dumps(score))
  assert join(tmp_path / "out", [run])[0]["image_size"] == "32"


def test_unknown_devices_and_bounds_at_the_value_are_drawn(tmp_path):
  shutil.copytree(QUICK, tmp_path / "bench")
  (tmp_path / "bench/environment.json").write_text("{}")
  folder = tmp_path / "paper"
  folder.mkdir()
  found = rows.of(old={"vit_ti16": 70}).assign(ci_low=0.7 + 1e-15)
  found[list(frame.COLUMNS)].to_csv(folder / "table.csv", index=False)
  (found,) = join(tmp_path / "out", [str(folder)], bench=tmp_path / "bench")
  assert found["device"] == "unknown device"
  assert (tmp_path / "out/cost.png").is_file()


def test_tables_of_papers_have_drops_of_which_less_is_better(tmp_path):
  folder = tmp_path / "paper"
  folder.mkdir()
  found = rows.of(
    rows.row("resnet18", "new", 10, subset="dog"),
    old={"resnet18": 80, "vit_ti16": 70, "absent": 60},
    new={"resnet18": 60, "vit_ti16": 60, "absent": 50},
  )
  found[list(frame.COLUMNS)].to_csv(folder / "table.csv", index=False)
  lost = pd.DataFrame({"model": ["resnet18", "vit_ti16"], "drop": [0.2, 0.1]})
  lost = lost.assign(subset="all", metric=TOP1, base="old", dataset="new")
  lost = lost.assign(n_base=100, n=100, ci_low=0.0, ci_high=0.3)
  lost.to_csv(folder / "drops.csv", index=False)
  found = join(tmp_path / "out", [str(folder)], "--task=train")
  front = {
    (x["dataset"], x["metric"], x["model"]): x["on_front"] == "True"
    for x in found
  }
  assert front == {
    ("old", TOP1, "resnet18"): True,
    ("old", TOP1, "vit_ti16"): True,
    ("new", TOP1, "resnet18"): False,  # as accurate, but slower
    ("new", TOP1, "vit_ti16"): True,
    ("new", DROP, "resnet18"): False,
    ("new", DROP, "vit_ti16"): True,
  }


def test_several_image_sizes_are_ambiguous_without_a_config(tmp_path):
  shutil.copytree(QUICK, tmp_path / "bench")
  measured = {r.key.text(): r for r in bench_rows.read_folder(QUICK).rows}
  row = measured["infer vit_ti16 b16 32px float32"]
  larger = dataclasses.replace(row.key, image_size=64)
  bench_rows.append(tmp_path / "bench", dataclasses.replace(row, key=larger))
  run = write_run(tmp_path / "run", "vit_ti16", 70)
  assert join(tmp_path / "a", [run], bench=tmp_path / "bench")
  (tmp_path / "run/config.json").write_text('{"score": {"model": "vit_ti16"}}')
  with pytest.raises(errors.InputError, check=raising.about("--bench")):
    join(tmp_path / "b", [run], bench=tmp_path / "bench")
  assert join(tmp_path / "c", [run])[0]["image_size"] == "32"


@pytest.mark.parametrize(
  ("runs", "bench", "setting"),
  [
    ([], QUICK, "RUN"),
    (["{folder}"], QUICK, "RUN"),
    (["{folder}/broken"], QUICK, "{folder}/broken/table.csv"),
    (["{folder}/run"], "{folder}/none", "{folder}/none"),
    (["{folder}/run"], QUICK, "--bench"),
    (["{folder}/other"], QUICK, "RUN"),
  ],
)
def test_bad_input_is_refused(tmp_path, runs, bench, setting):
  write_run(tmp_path / "run", "unknown", 70)
  write_run(tmp_path / "other", "vit_ti16", 70)
  text = (tmp_path / "other/results.json").read_text()
  text = text.replace("top1_accuracy", "nll")
  (tmp_path / "other/results.json").write_text(text)
  (tmp_path / "broken").mkdir()
  (tmp_path / "broken/table.csv").write_text("model,value\na,1\n")
  fill = lambda text: str(text).format(folder=tmp_path)
  with pytest.raises(errors.InputError, check=raising.about(fill(setting))):
    join(tmp_path / "out", list(map(fill, runs)), bench=fill(bench))
