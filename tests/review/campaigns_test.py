"""Tests of the orders of a campaign's images."""

import contextlib

import pytest

from imgbench.review import campaigns
from imgbench.review import store
from tests.review import filled

LISTED = [(f"n{k}", "") for k in range(3)]
# Image: label, predictions of four models.
PREDICTED = [
  (0, (0, 0, 0, 0)),
  (0, (0, 0, 0, 1)),
  (1, (1, 1, 2, 2)),
  (1, (2, 1, 0, 1)),
  (2, (0, 0, 0, 0)),
]
# Of images 0 to 4: class 0 has two that count, class 1 one or two, class 2 one.
STATES = {(0, 0): 3, (1, 0): 3, (2, 1): 3, (2, 2): 1, (4, 2): 3}


@pytest.fixture(name="connection")
def make_connection(tmp_path):
  images = [(f"i{i}", label) for i, (label, _) in enumerate(PREDICTED)]
  models = {f"m{m}": [p[m] for _, p in PREDICTED] for m in range(4)}
  created = filled.create(tmp_path / "a.db", images, models, STATES, LISTED)
  with contextlib.closing(created) as connection:
    yield connection


@pytest.mark.parametrize(
  "name, wanted",
  [
    # 1 / 1 image of class 2, 1 / 2 and four models, 1 / 2 and one, then none.
    ("effect", [5, 4, 2]),
    ("models", [4, 5, 2]),
    ("disagreement", [3, 4, 2]),
  ],
)
def test_orders_by_hand(connection, name, wanted):
  found = campaigns.order(connection, range(1, 6), name)
  assert sorted(found) == list(range(1, 6))
  if name == "models":
    assert set(found[:2]) == {4, 5} and found[2] == 2
  elif name == "disagreement":
    assert set(found[:2]) == {3, 4} and found[2] == 2
    rows = store.fetch(connection, "priority", images="[1]")
    shares = [row["disagreement"] for row in rows]
    assert shares == [0, 0.25, 0.5, 0.5, 0]
  else:
    assert found[:3] == wanted


def test_random_order_depends_on_the_secret_alone(connection):
  found = campaigns.order(connection, [5, 1, 3], "random")
  assert campaigns.order(connection, [1, 3, 5], "random") == found
  assert sorted(found) == [1, 3, 5]


@pytest.mark.parametrize("name", campaigns.PRIORITIES)
def test_campaigns_take_every_priority(connection, name):
  connection.execute("BEGIN")
  number = campaigns.create(connection, name, "single", priority=name)
  query = "SELECT count(*) FROM item WHERE campaign = ?"
  assert connection.execute(query, (number,)).fetchone()[0] == 3
