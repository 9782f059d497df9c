"""The page of a run: its content, its errors, and missing files."""

import html.parser
import json
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

import numpy as np
from PIL import Image
import pytest

from imgbench import errors
from imgbench import report
from imgbench import writers
from imgbench.metrics import specs
from imgbench.report import confusions
from imgbench.report import entry_tables
from imgbench.report import overview
from imgbench.tables import entries
from imgbench.tables import formats
from imgbench.tables import themes
from tests.report import imagenet_samples
from tests.report import samples

HOSTILE = '</table><script>alert("x")</script> & \'$\\frac{1}{0}$'


class Parser(html.parser.HTMLParser):
  """Collects tags, attributes and text, and checks that tags are closed."""

  VOID = {"meta", "img", "source", "br"}

  def __init__(self, page: str):
    super().__init__()
    self.tags, self.loads, self.texts, self.open = set(), [], [], []
    self.feed(page.replace("<wbr>", ""))  # within names
    assert self.open == []

  def handle_starttag(self, tag, attrs):
    self.tags.add(tag)
    self.loads += [v for k, v in attrs if k in ("src", "srcset", "data")]
    assert not any(name.startswith("on") for name, _ in attrs)
    if tag not in self.VOID:
      self.open.append(tag)

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    self.texts.append(data)

  @property
  def text(self) -> str:
    return " ".join(" ".join(self.texts).split())


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
  workdir, drawn = samples.scenes(tmp_path_factory.mktemp("scenes") / "demo")
  path = report.write_report(workdir, samples.lookup(drawn))
  return workdir, path.read_text()


@pytest.fixture
def small(tmp_path, monkeypatch):
  """Returns a run of three classes, quick to draw."""
  monkeypatch.setattr(themes, "DPI", 40)
  drawn = [samples.Sample("toy:test", ("ant", "bee", "cow"), 60, 0.7, 5)]
  workdir = samples.write(tmp_path / "toy", drawn, "imgbench")
  for name in ("metrics.jsonl", "per_class.csv"):  # Each costs a figure.
    (workdir / name).unlink()
  return workdir, drawn


def test_page_loads_nothing_and_runs_nothing(scenes):
  page = Parser(scenes[1])
  assert page.tags.isdisjoint({"script", "link", "iframe", "object", "base"})
  assert page.loads
  assert all(v.startswith("data:image/png;base64,") for v in page.loads)
  assert "http://" not in scenes[1] and "https://" not in scenes[1]
  style = re.search(r"<style>(.*)</style>", scenes[1], re.S)[1]
  assert "url(" not in style and "@import" not in style


def test_every_number_of_the_results_is_on_the_page(scenes):
  workdir, page = scenes
  shown = Parser(page).text
  results = json.loads((workdir / "results.json").read_text())
  assert len(results) == 72
  for row in entries.parse(results):
    assert formats.value(row) in shown
    assert f"{row.n:,}" in shown
    if row.ci_low is not None:
      low, high = 100 * row.ci_low, 100 * row.ci_high
      assert f"{low:.2f} – {high:.2f}" in shown
    words = row.definition.replace("; the images are synthetic", "")
    assert words in shown
    assert formats.unreviewed(row) in shown


def test_the_command_of_a_threshold_has_two_splits_if_there_are(scenes):
  shown = Parser(scenes[1]).text
  command = f"imgbench operating-points {scenes[0]} --choose=scenes:validation"
  assert f"{command} --judge=scenes:v2 --class=" in shown
  assert "--dataset=scenes" not in shown


def test_the_command_of_a_threshold_can_be_pasted(tmp_path):
  drawn = [samples.Sample("toy:test[:90]", ("crane", "ant", "crane"), 90, 1, 3)]
  workdir = samples.write(tmp_path / "my run", drawn, "imgbench")
  samples.write_probabilities(workdir, drawn)
  report.write_report(workdir, None)
  shown = Parser((workdir / "report.html").read_text()).text
  words = ["--dataset=toy:test[:90]", "--class=0", "--recall=0.9"]
  found = re.search("imgbench operating-points (.*?--recall=0.9)", shown)
  assert found and shlex.split(found[1]) == [str(workdir), *words]


def test_header_names_the_run(scenes):
  shown = Parser(scenes[1]).text
  for fact in (
    "3f9c1d2ab4e7",
    "1 min 54 s",
    "1 × cpu (Example CPU 2.0 GHz)",
    "1,000 steps, 10 epochs",
    "2025-01-31 10:20 UTC",
    "optim.learning_rate 0.02",
  ):
    assert fact in shown
  assert "<h1>scenes</h1>" in scenes[1]


def find_banner(page: str, kind: str) -> str:
  return page.partition(f'class="banner {kind}"')[2].partition("</div>")[0]


def find_mistakes(page: str) -> list[str]:
  """Returns the alternative texts of pictures of mistakes."""
  return re.findall(r'alt="([^"]* mistakes on [^"]*)"', page)


def test_synthetic_data_and_warnings_are_shown(scenes):
  shown = Parser(scenes[1]).text
  banner = find_banner(scenes[1], "synthetic")
  assert "scenes:validation" in banner and "scenes:v2" in banner
  # Once above all sections, and once in each section with results.
  above = scenes[1].partition("<header>")[2].partition("</header>")[0]
  assert Parser(above).text.lower().count("synthetic") == 1
  sections = re.findall("<section.*?</section>", scenes[1], re.S)
  counts = [Parser(text).text.count("synthetic") for text in sections[:-1]]
  assert counts == [1] * 8  # the last one is the config
  assert "1 warning." in shown
  assert "class husky has 7 examples" in shown
  assert confusions._CAPTION in shown


def test_synthetic_data_is_named_once_for_all_parameters(tmp_path):
  keys = ("toy:test", "toy+ema:test")
  drawn = [samples.Sample(key, ("ant", "bee"), 60, 0.7, 5) for key in keys]
  workdir = samples.write(tmp_path, drawn, "imgbench")
  path = workdir / "environment.json"
  described = json.loads(path.read_text())
  path.write_text(json.dumps({**described, "synthetic": keys}))
  page = report.write_report(workdir, samples.lookup(drawn)).read_text()
  banner = find_banner(page, "synthetic")
  assert "toy:test" in banner and "+ema" not in banner


def test_synthetic_sets_are_named_where_others_are_real(tmp_path, monkeypatch):
  monkeypatch.setattr(themes, "DPI", 40)
  keys = ("toy:test", "drawn:test")
  drawn = [
    samples.Sample(key, ("ant", "bee"), 60, 0.7, seed)
    for seed, key in enumerate(keys)
  ]
  workdir = samples.write(tmp_path, drawn, "imgbench", synthetic=keys[1:])
  page = report.write_report(workdir, samples.lookup(drawn)).read_text()
  badge = '<span class="badge">synthetic data'
  assert f"Results {badge}: drawn:test</span>" in page
  assert f"Mistakes on drawn:test {badge}</span>" in page
  assert "Mistakes on toy:test</h2>" in page


def test_training_data_comes_last_and_without_figures(tmp_path, monkeypatch):
  monkeypatch.setattr(themes, "DPI", 40)
  drawn = [
    samples.Sample(key, ("ant", "bee", "cow"), 60, 0.7, 5)
    for key in ("toy:train[:60]", "toy:test")
  ]
  workdir = samples.write(tmp_path / "toy", drawn, "imgbench")
  page = report.write_report(workdir, samples.lookup(drawn)).read_text()
  assert re.search(r"<title>toy: [\d.]+% on toy:test</title>", page)
  assert "toy:train[:60]: " in page
  assert [p.name for p in workdir.glob("mistakes_*")] == [
    "mistakes_toy-test.png"
  ]


def test_real_data_is_not_called_synthetic(small):
  page = report.write_report(small[0], None).read_text()
  assert "synthetic" not in page.partition("<body>")[2].lower()


def test_figures_are_written_in_a_sane_size(scenes):
  sets = ("scenes-validation", "scenes-v2")
  kinds = ["confusion", "worst_classes", "subsets", "mistakes"]
  kinds += ["reliability", "precision_recall"]
  names = {f"{kind}_{name}.png" for kind in kinds for name in sets}
  names.add("curves.png")
  assert {path.name for path in scenes[0].glob("*.png")} == names
  for name in names:
    if name.startswith("mistakes"):
      with Image.open(scenes[0] / name) as picture:
        assert picture.size == (confusions.MAX_MISTAKES * 32, 32)
      continue
    with Image.open(scenes[0] / name) as picture:
      assert 900 <= picture.width <= 2000 and 300 <= picture.height <= 2000
      assert picture.convert("RGB").getcolors(10) is None  # more than 10


def test_bounds_are_shown_with_their_accuracy_only(scenes):
  shown = Parser(scenes[1]).text
  # In the tile, beside top-1, in results and subsets; explained once.
  assert shown.count("1.23% never reviewed: ") == 2 * (1 + 1 + 1 + 4)
  assert shown.count(entry_tables.UNREVIEWED) == 1
  assert "bound" not in shown.replace(entry_tables.UNREVIEWED, "")


def test_figures_of_probabilities_say_how_to_read_them(scenes):
  shown = Parser(scenes[1]).text
  entries = json.loads((scenes[0] / "calibration.json").read_text())
  for key, bins in entries.items():
    assert f'id="probabilities-{writers.make_file_key(key)}"' in scenes[1]
    assert f"{bins['ece']:.4f}" in shown
  assert "overconfident" in shown and " 8 classes " in shown


def test_few_predictions_have_no_reliability_figure(small):
  workdir, drawn = small
  bins = {
    "edges": [0, 0.5, 1],
    "count": [9, 9],
    "confidence": [0.4, 0.7],
    "accuracy": [0.5, 0.6],
    "ece": 0.1,
  }
  (workdir / "calibration.json").write_text(json.dumps({"toy:test": bins}))
  page = report.write_report(workdir).read_text()
  assert 'id="probabilities-' not in page
  bins["count"] = [9, 10]
  (workdir / "calibration.json").write_text(json.dumps({"toy:test": bins}))
  shown = Parser(report.write_report(workdir).read_text()).text
  assert " 1 bin " in shown and " 10 images" in shown
  assert not (workdir / "precision_recall_toy-test.png").exists()
  assert (workdir / "reliability_toy-test.png").is_file()


def test_temperature_scaling_follows_the_diagram_where_defined(small):
  workdir, _ = small
  bins = dict(edges=[0, 1], count=[20], confidence=[0.4], accuracy=[0.5])
  bins = {"toy:test": {**bins, "ece": 0.1}}
  (workdir / "calibration.json").write_text(json.dumps(bins))
  path = workdir / "results.json"
  results = json.loads(path.read_text())
  for value in (None, 1.2345):
    for name in specs.SCALING:
      results[f"toy:test/all/{name}"] = samples.plain(value, 10, "T")
    path.write_text(json.dumps(results))
    page = report.write_report(workdir).read_text()
    section = page[page.index('id="probabilities-toy-test"') :]
    shown = 5 if value else 0
    assert section.count("1.2345") == shown


def test_areas_of_classes_are_columns_where_known(tmp_path, monkeypatch):
  monkeypatch.setattr(themes, "DPI", 40)
  drawn = [samples.Sample("toy:test", ("ant", "bee", "cow"), 60, 0.7, 5)]
  workdir = samples.write(tmp_path / "toy", drawn, "imgbench")
  (workdir / "metrics.jsonl").unlink()
  shown = Parser(report.write_report(workdir).read_text()).text
  assert "ROC AUC" not in shown
  path = workdir / "per_class.csv"
  head, *rest = path.read_text().splitlines()
  lines = [f"{head},average_precision,roc_auc"]
  ends = ("0.6543,0.75", "0.6543,", "0.6543,")
  lines += [",".join(pair) for pair in zip(rest, ends, strict=True)]
  path.write_text("\n".join(lines))
  shown = Parser(report.write_report(workdir).read_text()).text
  assert "Average precision ROC AUC" in shown
  assert "0.654 0.750" in shown and "0.654 –" in shown


def test_intervals_of_another_coverage_are_called_so(small):
  config = {"evaluation": {"alpha": 0.1}}
  (small[0] / "config.json").write_text(json.dumps(config))
  shown = Parser(report.write_report(small[0]).read_text()).text
  assert "90% interval" in shown and "95%" not in shown
  assert shown.count("90%") > shown.count("90% interval")


def test_thousand_classes_show_pairs_and_the_worst(tmp_path):
  workdir, drawn = imagenet_samples.alone(tmp_path / "run")
  path = report.write_report(workdir, samples.lookup(drawn))
  shown = Parser(path.read_text()).text
  assert re.search(r"\b25 [a-z ]+ 1,000 classes", shown)
  assert re.search(r"\b60 [a-z ]+ 1,000 classes", shown)
  assert path.stat().length < 3_000_000


def test_same_input_same_bytes_and_mistakes_are_kept(small):
  workdir, drawn = small
  first = report.write_report(workdir, samples.lookup(drawn)).read_bytes()
  second = report.write_report(workdir, samples.lookup(drawn)).read_bytes()
  assert first == second
  picture = (workdir / "mistakes_toy-test.png").read_bytes()
  kept = report.write_report(workdir).read_text()
  assert (workdir / "mistakes_toy-test.png").read_bytes() == picture
  assert len(find_mistakes(kept)) == min(
    18, sum(drawn[0].label != drawn[0].top5[:, 0])
  )
  images = lambda page: re.findall(r'src="(data:image/png;base64,[^"]*)"', page)
  assert images(kept)[-18:] == images(first.decode())[-18:]


def test_mistakes_of_other_predictions_are_not_shown(small):
  workdir, drawn = small
  (workdir / "results.json").unlink()
  report.write_report(workdir, samples.lookup(drawn))
  others = [samples.Sample("toy:test", ("ant", "bee", "cow"), 60, 0.7, 6)]
  samples.write_arrays(workdir, others)
  page = report.write_report(workdir).read_text()
  assert find_mistakes(page) == []
  assert 'id="errors-toy-test"' in page and confusions._CAPTION in page


def test_names_are_escaped(tmp_path, monkeypatch):
  monkeypatch.setattr(themes, "DPI", 40)
  drawn = [samples.Sample("toy:test", ("ant", HOSTILE, "\x00é"), 60, 0.6, 5)]
  workdir = samples.write(tmp_path / "<b>", drawn, f"imgbench {HOSTILE}")
  results = json.loads((workdir / "results.json").read_text())
  for entry in results.values():
    entry["definition"] = HOSTILE
  (workdir / "results.json").write_text(json.dumps(results))
  warning = {"name": HOSTILE, "dataset": HOSTILE, "message": HOSTILE}
  (workdir / "warnings.json").write_text(json.dumps([warning]))
  page = report.write_report(workdir, samples.lookup(drawn)).read_text()
  parsed = Parser(page)
  assert "script" not in parsed.tags and "b" in parsed.tags  # <b> of a tile
  assert HOSTILE in parsed.text


@pytest.mark.parametrize(
  "missing",
  [
    ("results.json", "per_class.csv", "confusion.npz", "warnings.json"),
    ("config.json", "environment.json", "status.json"),
    ("confusion.npz", "predictions"),
  ],
)
def test_missing_files_are_left_out(small, missing):
  workdir, _ = small
  for name in missing:
    path = workdir / name
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
  page = report.write_report(workdir).read_text()
  shown = Parser(page).text
  assert ("no results.json" in shown) == ("results.json" in missing)


def test_torn_last_line_and_null_losses_are_tolerated(small):
  path = small[0] / "metrics.jsonl"
  lines = [{"step": 3, "train/loss": 2.5}, {"step": 9, "train/loss": None}]
  path.write_text("".join(json.dumps(x) + "\n" for x in lines) + '{"step": 1')
  shown = Parser(report.write_report(small[0]).read_text()).text
  assert "step 3 to 9" in shown


@pytest.mark.smoke
def test_a_failed_run_shows_its_error(small):
  status = {"state": "diverged", "message": "not finite at step 7"}
  (small[0] / "status.json").write_text(json.dumps(status))
  shown = Parser(report.write_report(small[0]).read_text()).text
  assert "Not finished." in shown and overview._STATES["diverged"] in shown
  assert status["message"] in shown


def test_without_a_command_the_folder_names_the_run(small):
  (small[0] / "environment.json").unlink()
  assert "<h1>toy</h1>" in report.write_report(small[0]).read_text()


def test_lookup_of_another_shape_is_rejected(small):
  lookup = lambda key, indices: np.zeros((1, 8, 8, 3), np.float32)
  with pytest.raises(ValueError, match="uint8"):
    report.write_report(small[0], lookup)


def test_gray_pictures_are_drawn(small):
  lookup = lambda key, indices: np.zeros((len(indices), 8, 6, 1), np.uint8)
  report.write_report(small[0], lookup)
  assert (small[0] / "mistakes_toy-test.png").is_file()


def test_command_line_renders_again(small):
  run = lambda *args: subprocess.run(
    [sys.executable, "-m", "imgbench.report", *args],
    capture_output=True,
    text=True,
    cwd=pathlib.Path(__file__).parents[2],
  )
  done = run(f"--workdir={small[0]}")
  assert done.returncode == errors.EXIT_DONE
  assert done.stdout.strip() == str(small[0] / "report.html")
  (small[0] / "results.json").write_text("{")
  broken = run(f"--workdir={small[0]}")
  assert broken.returncode == errors.EXIT_USAGE
  assert f"{small[0] / 'results.json'}: " in broken.stderr
  assert "Traceback" not in broken.stderr


def test_importing_the_package_is_light():
  code = (
    "import sys, imgbench.report, imgbench.report.terminal;"
    "assert not {'matplotlib', 'PIL', 'jax', 'jinja2'} & set(sys.modules)"
  )
  root = pathlib.Path(__file__).parents[2]
  subprocess.run([sys.executable, "-c", code], check=True, cwd=root)


def test_pyplot_is_never_loaded_and_settings_are_left_alone(small):
  import matplotlib

  before = dict(matplotlib.rcParams)
  report.write_report(small[0])
  assert dict(matplotlib.rcParams) == before
  folder = pathlib.Path(report.__file__).parent
  for path in folder.glob("*.py"):
    assert "import pyplot" not in path.read_text()
