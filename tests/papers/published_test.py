"""Tests of reading published figures."""

import numpy as np
import pytest

from imgbench import errors
from imgbench.papers import program
from imgbench.papers import published
from imgbench.papers.readers import datasets
from imgbench.tables import frame
from tests import raising
from tests.data import shared_files

VAL, MF = datasets.VALIDATION, datasets.MATCHED_FREQUENCY
PAPER = (
  "model,val_top1,val_low,val_high,matched_frequency_top1,mf_low,mf_high,"
  "val_rank_of_67,accuracies_confirmed_by_a_second_public_text\n"
)
TIMM = (
  "model,timm_model,img_size,same_preprocessing,timm_val_top1,timm_val_top5,"
  "timm_real_top1,timm_real_top5,timm_v2mf_top1,timm_v2mf_top5\n"
)
CIFAR = (
  "source,section,model,name_in_source,quantity,published,as_stated,computed,"
  "difference,tolerance,agrees,note\n"
)


def read(folder, text):
  path = folder / "figures.csv"
  path.write_text(text)
  return published.read(path)


def short(figures):
  return [(*figure.key, figure.number, figure.half_unit) for figure in figures]


def test_the_papers_main_table(tmp_path):
  got = read(tmp_path, PAPER + "alexnet,56.5,56.1,57.0,44,43.0,,64,yes\n")
  top1 = "top1_accuracy"
  assert short(got) == [
    ("alexnet", VAL, "all", top1, "value", 56.5, 0.05),
    ("alexnet", VAL, "all", top1, "ci_low", 56.1, 0.05),
    ("alexnet", VAL, "all", top1, "ci_high", 57.0, 0.05),
    ("alexnet", MF, "all", top1, "value", 44.0, 0.5),
    ("alexnet", MF, "all", top1, "ci_low", 43.0, 0.05),
    ("alexnet", VAL, "all", top1, "rank", 64.0, 0.0),
  ]
  assert {figure.source for figure in got} == {"figures.csv"}
  assert not any(figure.not_counted for figure in got)


def test_float32_in_full(tmp_path):
  text = "model,val,imagenetv2-matched-frequency\na,82.5060043334961,72\n"
  first, second = read(tmp_path, text)
  assert abs(first.number - 82.506) <= first.half_unit < 1e-5
  assert second.half_unit == np.spacing(np.float32(72))


def test_rows_that_may_differ(tmp_path):
  text = (
    TIMM + "a,a.tv,224,yes,70.1,,80.1,,60.1,\nb,b.tv,224,no,70.1,,80.1,,60.1,\n"
  )
  got = read(tmp_path, text)
  assert [figure.not_counted for figure in got] == [
    *("", "", "other JPEG files"),
    *("other preprocessing", "other preprocessing", "other JPEG files"),
  ]
  assert got[1].key.metric == "real_accuracy"


def test_humans_and_their_line(tmp_path):
  text = "# a comment\nsubset,classifier,kind,val,v2\nno_dogs,me,human,9.10,8\n"
  first, second = read(tmp_path, text)
  metric = "multilabel_accuracy.icml2020"
  assert first.key == ("me", VAL, "not_dog", metric, "value")
  assert (second.key.dataset, second.half_unit) == (MF, 0.5)
  text = "subset,slope,intercept,r\nobjects,1.05,-12.16,0.9937\n"
  slope, intercept, r = read(tmp_path, text)
  assert slope.key == (published.FIT, MF, "object", metric, "slope")
  assert published.is_plain("slope") and published.is_plain(r.key.field)
  assert not published.is_plain(intercept.key.field)
  assert (intercept.number, intercept.half_unit) == (-12.16, 0.005)


def test_tolerances_of_cifar(tmp_path):
  text = (
    f"{CIFAR}s,t,a,A,v4_gap,4,about 4%,,,,,\n"
    "s,t,a,A,v4_error_ratio,3,3x,,,0.5,,\n"
    "s,u,a,A,v4_error_ratio,3.1,3.1x,,,0.05,,\n"
    "s,t,a|b,A,lowest v4_error_ratio,1.7,1.7x,,,0.05,,\n"
    "s,t,(none),A,gap,98.4 / 95.5,no,,,,,\n"
  )
  loose, ratio, again, lowest = read(tmp_path, text)
  assert loose.key[1:] == ("cifar10.1-v4", "all", "top1_accuracy", "drop")
  assert loose.not_counted == "loose statement" and not ratio.not_counted
  assert (ratio.number, ratio.half_unit, ratio.text) == (3.0, 0.5, "3x")
  assert again.key == ratio.key
  assert lowest.key.dataset == "" and published.is_plain(lowest.key.field)
  assert published.is_plain("count")
  assert not published.is_plain("v4_acc difference")


def test_the_long_form_and_our_own_table(tmp_path):
  text = ",".join(frame.COLUMNS) + "\na,x,all,m,4,3,0.75000000,0.5,\n"
  assert short(read(tmp_path, text)) == [
    ("a", "x", "all", "m", "value", 75.0, pytest.approx(5e-7)),
    ("a", "x", "all", "m", "ci_low", 50.0, pytest.approx(5.0)),
  ]
  text = "model,dataset,subset,metric,value_percent,rank\na,x,all,m,75.1,3\n"
  assert short(read(tmp_path, text)) == [
    ("a", "x", "all", "m", "value", 75.1, 0.05),
    ("a", "x", "all", "m", "rank", 3.0, 0.0),
  ]


LONG = "model,dataset,subset,metric,value\n"


FRACTION, PERCENT = "a fraction in [0, 1]", "percent in [0, 100]"
AT_LEAST_1 = "a rank of at least 1"


@pytest.mark.parametrize(
  ("text", "setting", "expected", "given"),
  [
    ("", "", None, "none"),
    ("model,top1\na,1\n", "", None, "model,top1"),
    (
      "model,dataset,subset,metric,n\na,x,all,m,1\n",
      "",
      None,
      "model,dataset,subset,metric,n",
    ),
    (LONG, "", "figures", "none"),
    (LONG + "a,x,all,m,high\n", ", line 2: value", "a number", "'high'"),
    (LONG + "a,x,all,m,nan\n", ", line 2: value", "a number", "'nan'"),
    ("# c\n" + LONG + "a,x,all,m\n", ", line 3", "5 cells", 4),
    (LONG + ",x,all,m,1\n", ", line 2: model", "a name", "none"),
    (
      LONG + "a,x,all,m,1\na,x,all,m,0\n",
      "",
      "one figure of a/x/all/m/value",
      "two",
    ),
    (LONG + f"{'a' * 140_000},x,all,m,1\n", ", line 2", "CSV", None),
    (LONG + "a,x,all,m,63.3\n", ", line 2: value", FRACTION, "'63.3'"),
    (LONG + "a,x,all,m,-0.1\n", ", line 2: value", FRACTION, "'-0.1'"),
    (LONG + "a,x,all,m,1e999\n", ", line 2: value", "a number", "'1e999'"),
    (
      LONG.replace("value", "value_percent") + "a,x,all,m,100.1\n",
      ", line 2: value_percent",
      PERCENT,
      "'100.1'",
    ),
    (
      LONG.replace("value", "ci_low") + "a,x,all,m,2\n",
      ", line 2: ci_low",
      FRACTION,
      "'2'",
    ),
    (
      LONG.replace("value", "rank") + "a,x,all,m,1.5\n",
      ", line 2: rank",
      AT_LEAST_1,
      "'1.5'",
    ),
    (
      LONG.replace("value", "rank") + "a,x,all,m,0\n",
      ", line 2: rank",
      AT_LEAST_1,
      "'0'",
    ),
    (PAPER + "a,563,,,,,,,\n", ", line 2: val_top1", PERCENT, "'563'"),
  ],
)
def test_bad_files_are_refused(tmp_path, text, setting, expected, given):
  path = tmp_path / "figures.csv"
  check = raising.about(f"{path}{setting}", expected=expected, given=given)
  with pytest.raises(errors.InputError, check=check):
    read(tmp_path, text)


RESULTS = (
  "model,img_size,top1,top1_err,top5,top5_err,param_count,crop_pct,"
  "interpolation"
)


@pytest.mark.parametrize(
  ("name", "dataset", "metrics", "counted"),
  [
    ("imagenet", VAL, ("top1_accuracy", "top5_accuracy"), True),
    ("imagenet-real", VAL, ("real_accuracy", "real_top5_accuracy"), True),
    (
      "imagenetv2-matched-frequency",
      MF,
      ("top1_accuracy", "top5_accuracy"),
      False,
    ),
    ("imagenet-a", "imagenet-a", ("top1_accuracy", "top5_accuracy"), True),
  ],
)
def test_results_of_timm_are_of_the_set_that_the_name_tells(
  tmp_path, name, dataset, metrics, counted
):
  path = tmp_path / f"results-{name}.csv"
  more = "" if name == "imagenet" else ",top1_diff,top5_diff,rank_diff"
  path.write_text(
    f"{RESULTS}{more}\n"
    'm.a1,224,80.12,19.88,95.1,4.9,"1,013.01",0.9,bicubic'
    f"{',' * more.count(',')}\n"
  )
  found = published.read(path)
  assert short(found) == [
    ("m.a1:224", dataset, "all", metrics[0], "value", 80.12, 0.005),
    ("m.a1:224", dataset, "all", metrics[1], "value", 95.1, 0.05),
  ]
  assert {not figure.not_counted for figure in found} == {counted}
  other = path.rename(tmp_path / "results-other.csv")
  with pytest.raises(errors.InputError, check=raising.about(str(other))):
    published.read(other)


def test_a_file_that_is_not_there(tmp_path):
  path = tmp_path / "no.csv"
  with pytest.raises(errors.InputError, check=raising.about(str(path))):
    published.read(path)
  path = tmp_path / "binary.csv"
  path.write_bytes(b"\xff\xfe\x00")
  with pytest.raises(errors.InputError, check=raising.about(str(path))):
    published.read(path)


@pytest.mark.parametrize(
  ("name", "count"),
  [
    ("imagenet/published/imagenetv2_paper_rows.csv", 56),
    ("imagenet/published/imagenet_testbed_top1.csv", 58),
    ("imagenet/published/timm_same_weights.csv", 156),
    ("imagenet/published/human_accuracy_icml2020.csv", 76),
    ("imagenet/published/human_accuracy_icml2020_fits.csv", 12),
    ("CIFAR-10.1/published.csv", 56),
    ("imagenet/published/timm_results-imagenet.csv", 3112),
    ("imagenet/published/timm_results-imagenet-real.csv", 3112),
    ("imagenet/published/timm_results-imagenetv2-matched-frequency.csv", 3112),
  ],
)
def test_shared_files_are_known(name, count):
  assert len(published.read(shared_files.shared_path("data", name))) == count


@pytest.mark.parametrize("name", ["=cmd()", "-a", "@b", "'=c", "+1 d", "a"])
def test_fault_22_our_table_is_read_back_with_its_names(tmp_path, name):
  """It marks texts that a spreadsheet takes for formulas."""
  output = program.Output(tmp_path)
  row = (name, MF, "all", "top1_accuracy", 10, 5, 0.5, None, None)
  output.csv("table.csv", frame.COLUMNS, [row])
  output.close()
  path = tmp_path / "table.csv"
  marked = f"\n{'' if name == 'a' else chr(39)}{name},"
  assert marked in path.read_text()
  (found,) = published.read(path)
  assert (found.key.model, found.number) == (name, 50)


def test_statistics_of_other_authors(tmp_path):
  path = tmp_path / "stats.csv"
  path.write_text(
    "model_dir_id,num_params,training_data,mla_all\n"
    "torchvision--vgg19_bn,1,x,83.35512694184523\n"
    "torchvision--resnet50,1,x,90\ntimm--vit,1,x,91.5\n"
  )
  found = published.read(path)
  assert [f.key.model for f in found] == ["vgg19_bn", "resnet50", "timm--vit"]
  assert {f.key[1:] for f in found} == {
    (datasets.VALIDATION, "all", "multilabel_accuracy.tfds", "value")
  }
  assert [f.not_counted for f in found] == ["", "other weights", ""]
  assert 0 < found[0].half_unit < 1e-5
