"""The top of a run's page: its variables and its HTML."""

import json

from imgbench.metrics import specs
from imgbench.report import inputs
from imgbench.report import overview
from imgbench.report import selection
from imgbench.tables import formats
from imgbench.tables import page
from imgbench.tables import table
from tests.report import imagenet_samples
from tests.report import samples

WARNING = {"name": "few", "dataset": "toy:test", "message": "a<b"}
HEADER = """\
<header>
<p class="kicker">imgbench run</p>
<h1>toy</h1>
<div class="banner synthetic"><p><strong>Synthetic data:</strong> Drawn.</p></div>
<div class="tiles">
<div class="tile">
<div class="set">top-1 accuracy on toy:test</div>
<div class="value" title="share">50.00%</div>
<div class="range">n = 9<span class="below note" title="why">all</span></div>
<ul>
<li title="of 5"><span>top-5 accuracy</span> <span><b>90.00%</b> <span class="muted">(89 – 91)</span></span></li>
</ul>
</div>
</div>
<div class="banner warning"><p><strong>Not finished.</strong> It &lt;ended&gt;.</p></div>
<div class="banner warning">
<p><strong>1 warning.</strong></p>
<ul>
<li><code>few</code> toy:test: a&lt;b</li>
</ul>
</div>
</header>
"""  # noqa: E501  (lines of HTML)


def drawn(**changes) -> str:
  context = {
    "title": "toy",
    "kicker": "imgbench run",
    "heading": "toy",
    "facts": {},
    "tiles": [],
    "unfinished": "",
    "synthetic": "",
    "warnings": [],
    "sections": [],
    "coverage": "95%",
  }
  html = page.render("report/templates/run.html.j2", **context | changes)
  header = html[html.index("<header>") : html.index("<nav>")]
  return "".join(f"{line}\n" for line in header.splitlines() if line)


def test_a_tile_shows_the_band_of_its_data_set(tmp_path):
  for write, found in ((samples.cifar, ["typical"]), (samples.scenes, [])):
    workdir, _ = write(tmp_path / write.__name__)
    (tile, *_) = overview.build_header(inputs.read(workdir))["tiles"]
    below = " ".join(str(line) for line in tile.interval.below)
    assert [
      word for word in ("typical", "good", "bad") if word in below
    ] == found


def test_golden():
  tile = overview.Tile(
    "top-1 accuracy on toy:test",
    table.RichText("50.00%", help="share"),
    table.RichText("n = 9", below=(table.RichText("all", help="why"),)),
    [
      (
        "top-5 accuracy",
        table.RichText("90.00%", help="of 5", beside="(89 – 91)"),
      )
    ],
  )
  header = drawn(
    tiles=[tile],
    unfinished="It <ended>.",
    synthetic="Drawn.",
    warnings=[{"name": "few", "place": "toy:test", "message": "a<b"}],
  )
  assert header == HEADER


def test_many_warnings_are_folded():
  warning = {"name": "few", "place": "toy:test", "message": "m"}
  header = drawn(warnings=[warning] * 10)
  assert "10 warnings." in header and "<summary>2 more</summary>" in header
  shown, folded = header.split("<details>")
  assert (shown.count("<li>"), folded.count("<li>")) == (8, 2)


def test_what_the_top_says(tmp_path):
  sample = samples.Sample("toy:test", ("ant", "bee"), 40, 0.5, 1)
  command = ["imgbench", "--config=configs/toy.py:fast"]
  workdir = samples.write(tmp_path, [sample], command, synthetic=["toy:test"])
  (workdir / "warnings.json").write_text(
    json.dumps([WARNING, {**WARNING, "subset": "dog"}])
  )
  (workdir / "status.json").write_text(
    json.dumps({"state": "preempted", "step": 9, "message": "at 9"})
  )
  run = inputs.read(workdir)
  header = overview.build_header(run)
  (row, top5) = run.results[:2]
  correct = round(40 * row.value)
  assert header["title"] == f"toy:fast: {100 * row.value:.2f}% on toy:test"
  assert header["heading"] == "toy:fast"
  assert header["facts"] == {
    "Data": "toy",
    "Model": "fast_convnet",
    "Optimizer": "muon",
    "Trained for": "1,000 steps, 10 epochs",
    "Training time": "1 min 54 s",
    "Devices": "1 × cpu (Example CPU 2.0 GHz)",
    "Commit": "3f9c1d2ab4e7",
    "Started": "2025-01-31 10:20 UTC",
  }
  (tile,) = header["tiles"]
  low, high = samples.wilson(correct, 40)
  assert str(tile.heading) == "top-1 accuracy on toy:test"
  assert str(tile.value) == f"{100 * correct / 40:.2f}%"
  assert str(tile.interval) == (
    f"95% interval {100 * low:.2f} – {100 * high:.2f}, n = 40"
  )
  ((label, value),) = tile.others
  assert label == "top-5 accuracy"
  assert str(value) == f"{100 * top5.value:.2f}%"
  assert header["unfinished"].endswith(" at 9")
  assert "toy:test" in header["synthetic"]
  places = [warning["place"] for warning in header["warnings"]]
  assert places == ["toy:test", "toy:test/dog"]


def test_imagenet_leads_with_four_tiles(tmp_path):
  workdir, _ = imagenet_samples.family(tmp_path / "run", share=0.3)
  run = inputs.read(workdir)
  tiles = overview.build_header(run)["tiles"]
  v2 = "imagenet_v2-matched-frequency:test"
  assert [tile.heading for tile in tiles] == [
    "top-1 accuracy on imagenet2012:validation",
    "ReaL accuracy on imagenet2012_real:validation",
    "multi-label accuracy (tfds) on imagenet2012_multilabel:validation",
    f"top-1 accuracy on {v2}",
  ]
  assert [[name for name, _ in tile.others] for tile in tiles] == [
    ["top-5 accuracy", "top-1 accuracy (+ema)"],
    ["ReaL accuracy (+ema)"],
    ["multi-label accuracy (tfds) (+ema)"],
    [
      "drop from imagenet2012:validation",
      "top-5 accuracy",
      "top-1 accuracy (+ema)",
    ],
  ]
  (row,) = [
    row
    for row in run.results
    if (row.dataset, row.subset, row.metric) == (v2, "all", "top1_accuracy")
  ]
  assert str(tiles[3].others[0][1]) == formats.value(row.shift.drop)
  # Of many sets, those have all figures.
  assert selection.select_drawn(run) == ["imagenet2012:validation", v2]


def test_training_data_has_no_tile(tmp_path):
  keys = ("toy:train[:60]", "toy:test")
  drawn = [samples.Sample(key, ("ant", "bee"), 60, 0.7, 5) for key in keys]
  workdir = samples.write(tmp_path / "run", drawn, "imgbench")
  header = overview.build_header(inputs.read(workdir))
  assert [tile.heading for tile in header["tiles"]] == [
    "top-1 accuracy on toy:test"
  ]
  assert header["title"].endswith("on toy:test")


def test_test_time_augmentation_is_named(tmp_path):
  drawn = [samples.Sample("toy:test", ("ant", "bee"), 60, 0.7, 5)]
  workdir = samples.write(tmp_path / "run", drawn, "imgbench")
  path = workdir / "results.json"
  results = json.loads(path.read_text())
  for entry in results.values():
    entry["definition"] += f"; {specs.MIRRORED}"
  path.write_text(json.dumps(results))
  header = overview.build_header(inputs.read(workdir))
  assert header["title"].endswith(specs.AUGMENTED)
  below = [str(line) for line in header["tiles"][0].interval.below]
  assert below == [specs.AUGMENTED]
