"""Tests of human labelers' answers: time spans, fast images, majorities."""

import collections

import numpy as np
import pytest

from imgbench.papers.readers import people
from tests.papers import human_files


def _images(size=1):
  return {
    "set": people.ImageSet(
      tuple(f"image{i}" for i in range(size)), np.zeros(size, np.int32)
    )
  }


def _study(times, label=None):
  """One image, a person for each (start, end)."""
  label = human_files.wnid(0) if label is None else label
  annot_data = {
    f"human_{i}": {
      "image0": {
        "label": label,
        "extra_info": {"start_time": start, "end_time": end},
      }
    }
    for i, (start, end) in enumerate(times)
  }
  return people.read_labels("x: annot_data", annot_data, _images())


@pytest.mark.parametrize(
  ("start", "end", "seconds"),
  [
    ("2019-07-01 10:00:00", "2019-07-01 10:00:59.5", 59.5),
    ("2019-07-01T10:00:00Z", "2019-07-01T12:00:01+02:00", 1),
    # Over midnight, with dates and without.
    ("2019-07-31 23:59:50", "2019-08-01 00:00:10", 20),
    ("23:59:50", "00:00:10", 20),
    ("11:59:50 PM", "12:00:10 AM", 20),
    ("23:59:50.25", "00:00:10.75", 20.5),
    # A whole day more is no fast answer.
    ("2019-07-01 10:00:00", "2019-07-02 10:00:05", 86405),
    ("12/31/2019, 11:59:58 PM", "1/1/2020, 12:00:01 AM", 3),
    (
      "Tue Jan 07 2020 14:03:12 GMT-0800 (Pacific Standard Time)",
      "Tue Jan 07 2020 14:04:12 GMT-0800 (Pacific Standard Time)",
      60,
    ),
    ("Tue, 07 Jan 2020 22:03:12 GMT", "Tue, 07 Jan 2020 22:03:13 GMT", 1),
    ("Tue Jan  7 22:03:12 2020", "Tue Jan  7 22:03:14 2020", 2),
    ("2018-12-13_04-35-19_UTC", "2018-12-13_04-35-29_UTC", 10),
    ("1578434592", "1578434600", 8),
    (1578434592000, 1578434592500, 0.5),
    (1578434592.25, 1578434592.5, 0.25),
    # The clock was set back, or a time is missing.
    ("2019-07-01 10:00:10", "2019-07-01 10:00:00", None),
    (None, "2019-07-01 10:00:00", None),
    ("", "", None),
  ],
)
def test_spans(start, end, seconds):
  study = _study([(start, end)])
  expected = np.nan if seconds is None else seconds
  np.testing.assert_allclose(study.seconds["set"], [expected], rtol=1e-12)
  assert bool(study.notes) == (seconds is None)


@pytest.mark.parametrize(
  ("start", "end", "shown"),
  [
    ("soon", "later", "'soon'"),
    ("2019-07-01 10:00:00", ["x"], "['x']"),
    ("2019-07-01 10:00:00", True, "True"),
    ("2019-07-01T10:00:00Z", "2019-07-01 10:00:00", "'2019-07-01T10:00:00Z'"),
    (1e300, 1e300, "1e+300"),
  ],
)
def test_time_that_cannot_be_read_leaves_no_fast_image(start, end, shown):
  good = ("2019-07-01 10:00:00", "2019-07-01 10:00:01")
  study = _study([good, (start, end), good])
  assert np.isnan(study.seconds["set"]).all()
  assert len(study.kinds) == 3 and len(study.notes) == 1
  assert "annot_data['human_1']" in study.notes[0]
  assert shown in study.notes[0] and "fast" in study.notes[0]


def test_fast_is_below_sixty_seconds_in_the_median_over_people():
  day = "2019-07-01 10:"
  spans = [(f"{day}00:00", f"{day}0{s // 60}:{s % 60:02d}") for s in (10, 200)]
  assert people.is_fast(
    _study([*spans, (f"{day}00:00", f"{day}00:59")]).seconds["set"]
  )
  # Exactly 60 is not fast; of an even number the mean of the middle ones.
  assert not people.is_fast(
    _study([*spans, (f"{day}00:00", f"{day}01:00")]).seconds["set"]
  )
  assert _study(spans).seconds["set"] == [105]
  # Labelers without a time do not count.
  assert _study([spans[0], (None, None)]).seconds["set"] == [10]
  assert not people.is_fast(np.array([np.nan]))


@pytest.mark.parametrize("label", [None, "", "n00000000", 7, ["n01440764"]])
def test_label_that_is_no_class_is_wrong_and_noted(label):
  annot_data = {"human_a": {"image0": {"label": label}}, "m": {}}
  study = people.read_labels("x", annot_data, _images())
  np.testing.assert_array_equal(study.named["set"]["human_a"], [-1])
  assert "human_a: 1 labels" in study.notes[1]
  assert study.named["set"]["human_a"].dtype == np.int16


def test_who_lacks_a_label_is_left_out():
  entry = {"label": human_files.wnid(3)}
  annot_data = {
    "zed": {"image0": entry, "image1": entry, "image9": entry},
    "human_a": {"image1": entry},
    "human_b": {},
  }
  study = people.read_labels("x", annot_data, _images(2))
  assert list(study.kinds) == ["zed"]
  first, second = study.notes
  assert "human_a:" in first and "1 of the 2" in first
  assert "human_b:" in second and "0 of the 2" in second
  np.testing.assert_array_equal(study.named["set"]["zed"], [3, 3])


def test_kinds():
  kinds = {
    "human_a": people.PERSON,
    "human_majority": people.ENSEMBLE,
    "model_majority": people.ENSEMBLE,
    "resnet50": people.MODEL,
    "superhuman_net": people.MODEL,
  }
  assert {name: people.find_kind(name) for name in kinds} == kinds


def test_majority_by_hand():
  named = np.array(
    [
      [5, 5, 7, -1, -1, 0],
      [5, 2, 2, -1, 9, 999],
      [1, 2, 5, -1, -1, 999],
    ]
  )
  # Three votes: the lowest class; no vote: none; one vote: its class.
  np.testing.assert_array_equal(
    people.find_majority(list(named), 1000), [5, 2, 2, -1, 9, 999]
  )


def test_majority_like_counting_votes_one_by_one():
  rng = np.random.default_rng(0)
  named = rng.integers(-1, 4, (6, 5000))
  expected = []
  for votes in named.T:
    counts = collections.Counter(v for v in votes.tolist() if v >= 0)
    best = max(counts.values(), default=0)
    winners = [c for c, n in counts.items() if n == best]
    expected.append(min(winners) if winners else -1)
  found = people.find_majority(list(named.astype(np.int16)), 4)
  assert found.dtype == np.int16
  np.testing.assert_array_equal(found, expected)
