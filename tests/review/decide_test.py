"""Consensus by hand-worked votes, undo, leases, campaigns; the log of votes."""

import contextlib
import itertools

from hypothesis import HealthCheck
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import pytest

from imgbench import errors
from imgbench.labels import review_database
from imgbench.review import decide
from imgbench.review import importer
from imgbench.review import store
from tests.review import sites

WRONG, UNCLEAR, CORRECT, PASS = 1, 2, 3, 4
CLIENTS = itertools.count()
ANN, BEN, PAT = 1, 2, 3  # rows of sites.USERS


@pytest.fixture(name="database")
def fixture_database(tmp_path):
  with contextlib.closing(sites.create(tmp_path / "a.db")) as connection:
    yield connection


def event(target, state, kind="vote", reason="", **values):
  client = f"c{next(CLIENTS)}"
  return decide.Event(client, kind, target, state, reason, **values)


def write(connection, user, image, *events, campaign=1, **values):
  with store.transaction(connection):
    return decide.apply(connection, user, image, events, campaign, **values)


def undo(connection, user, campaign=1, client=None):
  with store.transaction(connection):
    client = client or f"c{next(CLIENTS)}"
    return decide.undo(connection, user, client, campaign)


def read_tables(connection):
  """Returns the rows of all tables but the log, without leases."""
  queries = {
    name: f"SELECT * FROM {name}"
    for name in ("vote", "prediction", "image", "category", "saved")
  }
  queries["item"] = "SELECT campaign, position, image, open FROM item"
  return {
    name: sorted(map(repr, map(tuple, connection.execute(query))))
    for name, query in queries.items()
  }


def cast(*states, policy="single", needed=1, panel=()):
  votes = [decide.Vote(s, False, "", policy, needed) for s in states]
  return [*votes, *(decide.Vote(s, True, "", policy, needed) for s in panel)]


@pytest.mark.parametrize(
  "policy, needed, states, panel, expected",
  [
    ("single", 1, [], [], (0, False)),
    ("single", 1, [PASS], [], (0, False)),
    ("single", 1, [WRONG], [], (WRONG, False)),
    ("single", 1, [WRONG, CORRECT], [], (UNCLEAR, False)),
    ("majority", 3, [CORRECT, CORRECT], [], (0, False)),
    ("majority", 3, [CORRECT, CORRECT, WRONG], [], (CORRECT, False)),
    ("majority", 3, [CORRECT, UNCLEAR, WRONG], [], (UNCLEAR, False)),
    ("majority", 3, [CORRECT, PASS, CORRECT], [], (0, False)),
    ("majority", 3, [CORRECT, PASS, WRONG, CORRECT], [], (CORRECT, False)),
    ("majority", 2, [CORRECT, CORRECT, WRONG, WRONG], [], (UNCLEAR, False)),
    ("unanimous", 2, [CORRECT], [], (0, False)),
    ("unanimous", 2, [CORRECT, CORRECT], [], (CORRECT, False)),
    ("unanimous", 2, [CORRECT, WRONG], [], (0, True)),
    ("unanimous", 2, [CORRECT, PASS, WRONG], [PASS], (0, True)),
    ("unanimous", 2, [CORRECT, WRONG], [WRONG], (WRONG, False)),
    ("unanimous", 2, [CORRECT, WRONG], [WRONG, CORRECT], (UNCLEAR, False)),
  ],
)
def test_states_of_classes_by_hand(policy, needed, states, panel, expected):
  votes = cast(*states, policy=policy, needed=needed, panel=panel)
  assert decide.decide_class(votes, 0) == expected


def test_imported_state_stays_until_there_are_enough_votes():
  votes = cast(WRONG, policy="majority", needed=2)
  assert decide.decide_class(votes, CORRECT) == (CORRECT, False)
  assert decide.decide_class([*votes, *votes], CORRECT) == (WRONG, False)
  panel = cast(CORRECT, WRONG, policy="unanimous", needed=2, panel=[WRONG])
  assert decide.decide_class(panel, 0, panel_votes=2) == (0, True)


@pytest.mark.parametrize(
  "policy, needed, flags, expected",
  [
    ("single", 1, "a", ("a", False)),
    ("single", 1, "-", (None, False)),
    ("majority", 2, "a", ("old", False)),
    ("majority", 3, "ab", ("a", False)),
    ("majority", 3, "abb", ("b", False)),
    ("majority", 3, "a--", (None, False)),
    ("unanimous", 2, "a", ("old", True)),
    ("unanimous", 2, "a-", ("old", True)),
    ("unanimous", 2, "ba", ("b", False)),
    ("unanimous", 2, "--", (None, False)),
  ],
)
def test_problematic_by_hand(policy, needed, flags, expected):
  """A letter is a flag with this reason, a dash says that the image counts."""
  votes = [
    decide.Vote(1 if x == "-" else 3, False, x, policy, needed) for x in flags
  ]
  assert decide.decide_problem(votes, "old") == expected
  yes, no = (decide.Vote(state, True, "p") for state in (3, 1))
  assert decide.decide_problem([*votes, yes], "old") == ("p", False)
  assert decide.decide_problem([*votes, no], "old") == (None, False)


def test_consensus_is_an_event_and_closes_the_item(database):
  sites.add_campaign(database)
  write(database, ANN, 1, event(0, CORRECT), event(3, WRONG))
  query = "SELECT open FROM item WHERE image = 1"
  assert database.execute(query).fetchone()[0] == 1
  write(database, ANN, 1, event(4, WRONG))
  assert database.execute(query).fetchone()[0] == 0
  query = "SELECT target, previous, state FROM event WHERE kind = 'consensus'"
  rows = [tuple(row) for row in database.execute(query)]
  assert rows == [(0, 0, CORRECT), (3, 0, WRONG), (4, 0, WRONG)]


def test_undo_of_a_bulk_action_restores_the_exact_rows(database):
  sites.add_campaign(database, policy="majority", votes=2)
  states = [read_tables(database)]
  flag = event(-1, 3, reason="edited", note="a note")
  for user, events, action in (
    (ANN, [event(3, UNCLEAR)], None),
    (BEN, [event(3, WRONG), event(4, WRONG), event(0, CORRECT)], "b1"),
    (BEN, [event(3, CORRECT), flag, event(4, 0)], "b2"),
    (BEN, [event(3, 3, "category", "crowded")], None),
    (BEN, [event(-1, 0, "save")], None),
    (BEN, [event(-1, 0, "save"), event(3, 0, "category", "crowded")], "b3"),
  ):
    now = 1e9 * user  # The lease of the other has ended.
    write(database, user, 1, *events, action=action, now=now)
    states.append(read_tables(database))
  for expected in reversed(states[1:-1]):
    assert undo(database, BEN) == 1
    assert read_tables(database) == expected
  assert undo(database, BEN) is None
  assert undo(database, ANN, client="once") == 1
  assert read_tables(database) == states[0]
  assert undo(database, ANN, client="once") == 1  # sent again
  assert read_tables(database) == states[0]


def test_an_event_that_comes_twice_counts_once(database):
  sites.add_campaign(database)
  vote = event(3, WRONG)
  assert write(database, ANN, 1, vote) == 1
  before = read_tables(database)
  assert write(database, ANN, 1, vote, event(3, WRONG)) == 1
  assert write(database, ANN, 1, vote) == 0
  after = read_tables(database)
  assert before["prediction"] == after["prediction"]


def test_a_lease_ends_or_is_released(database):
  sites.add_campaign(database)
  start = lambda user, now: decide.lease_next(database, 1, user, now)
  first = start(ANN, 0.0)
  assert start(ANN, 1.0) == first  # renewed
  second = start(BEN, 2.0)
  assert second != first
  with pytest.raises(decide.LeaseError):
    write(database, BEN, first, event(3, WRONG), now=600.0)
  again = event(3, WRONG)
  write(database, ANN, first, again, event(-1, 0, "save"), now=600.0)
  write(database, BEN, first, event(3, WRONG), now=600.0)
  assert undo(database, ANN) == first  # It is not saved any more.
  assert write(database, ANN, first, again, now=600.0) == 0  # sent again
  with pytest.raises(decide.LeaseError):
    write(database, ANN, first, event(3, WRONG), now=600.0)
  write(database, BEN, first, event(-1, 0, "save"), now=600.0)
  write(database, ANN, first, event(-1, 0, "save"), now=600.0)
  write(database, ANN, first, event(3, WRONG), now=601.0)  # saved by ann
  assert start(ANN, 601.5) not in (first, second)
  assert start(ANN, 603.0 + 2 * decide.LEASE_S) == second


def test_all_images_are_offered_once(database):
  sites.add_campaign(database, policy="majority", votes=2)
  for user in (ANN, BEN):
    seen = []
    while (image := decide.lease_next(database, 1, user, 0.0)) is not None:
      write(database, user, image, event(-1, 0, "save"), now=0.0)
      seen.append(image)
    assert sorted(seen) == [1, 2, 3, 4, 5, 6]
  counts = decide.count_items(database, 1, ANN)
  assert counts == {"saved": 6, "open": 0}


def test_control_items_look_open_and_decide_nothing(database):
  with pytest.raises(errors.InputError, match="control"):
    sites.add_campaign(database, control=0.6)
  sites.add_campaign(database, control=1 / 3)
  query = "SELECT image FROM item WHERE control ORDER BY image"
  assert [row[0] for row in database.execute(query)] == [7, 8]
  state = decide.describe_item(database, 1, 7, ANN)
  assert {row["class"]: row["state"] for row in state["rows"]} == {
    0: 0, 3: 0, 4: 0
  }  # fmt: skip
  before = read_tables(database)
  write(database, ANN, 7, event(3, CORRECT), event(-1, 3, reason="other"))
  after = read_tables(database)
  assert len(after.pop("vote")) == 2
  before.pop("vote")
  assert before == after
  assert decide.replay(database) == {}


def test_control_votes_leave_earlier_ones(database):
  sites.add_campaign(database, "all")
  sites.add_campaign(database, "control")
  database.execute("UPDATE item SET control = 1 WHERE campaign = 2")
  write(database, ANN, 1, event(3, CORRECT), event(0, WRONG), event(4, WRONG))
  first = read_tables(database)
  rows = decide.describe_item(database, 2, 1, ANN)["rows"]
  assert {row["class"]: row["state"] for row in rows} == {0: 0, 3: 0, 4: 0}
  write(database, ANN, 1, event(3, WRONG), event(-1, 1), campaign=2)
  rows = decide.describe_item(database, 2, 1, ANN)["rows"]
  assert {row["class"]: row["state"] for row in rows} == {0: 0, 3: 1, 4: 0}
  assert read_tables(database)["prediction"] == first["prediction"]
  undo(database, ANN, 2)
  undo(database, ANN, 2)
  assert read_tables(database)["vote"] == first["vote"]


def test_annotations_imported_after_votes(database, tmp_path):
  sites.add_campaign(database)
  write(database, ANN, 1, event(3, CORRECT), event(-1, 3, reason="other"))
  undo(database, ANN)
  undo(database, ANN)
  write(database, ANN, 2, event(-1, 1))
  write(database, ANN, 3, event(3, WRONG))
  others = [f"n{i:08}" for i in (0, 1, 2, 4)]
  entry = {"correct": ["n00000003"], "wrong": others}
  names = ("000", "001", "002")
  content = {
    "initial_annots": dict.fromkeys(names, entry),
    "problematic_images": dict.fromkeys(names[:2], ["edited"]),
    "imagenet_m": None,
  }
  with store.transaction(database):
    writer = importer.Importer(database, "")
    writer.add_annotations("", content)
    writer.finish()
  found = review_database.read(tmp_path / "a.db")
  assert found["initial_annots"]["000"] == entry
  assert "n00000003" in found["initial_annots"]["002"]["wrong"]
  assert found["problematic_images"] == {"000": ["edited"]}
  (event_id,) = database.execute("SELECT max(id) FROM event").fetchone()
  assert review_database.read(tmp_path / "a.db", f"{event_id}") == found
  query = "SELECT image FROM item WHERE NOT open ORDER BY image"
  assert [row[0] for row in database.execute(query)] == [1, 2, 3]


def test_undo_keeps_an_imported_category(database):
  sites.add_campaign(database)
  with store.transaction(database):
    writer = importer.Importer(database, "")
    writer.add_near_duplicates("", {"000": ["a", "b"]})
    writer.finish()
  first = read_tables(database)
  write(database, ANN, 1, event(-1, 3, "category", "near duplicate"))
  undo(database, ANN)
  assert read_tables(database) == first


def test_campaigns_of_wrong_values(database):
  for values in (
    {"name": ""},
    {"policy": "all"},
    {"votes": 0, "policy": "majority"},
    {"datasets": ["other"]},
    {"priority": "fast"},
  ):
    with pytest.raises(errors.InputError):
      sites.add_campaign(database, **values)
  sites.add_campaign(database)
  with pytest.raises(errors.InputError, match="name"):
    sites.add_campaign(database)
  for image in range(1, 7):
    write(database, ANN, image, event(-1, 3, reason="other"))
  with pytest.raises(errors.InputError, match="unreviewed"):
    sites.add_campaign(database, "second")


@pytest.mark.parametrize(
  "bad",
  [
    event(5, WRONG),
    event(3, 5),
    event(3, WRONG, reason="edited"),
    event(-1, 3),
    event(-1, 3, reason="ugly"),
    event(3, 3, "category", "edited"),
    event(3, WRONG, "import"),
    event(3, WRONG, "panel"),
    event(3, WRONG, note="x" * 2001),
    event(3, WRONG, ms=-1),
  ],
)
def test_events_that_do_not_fit(database, bad):
  sites.add_campaign(database)
  before = read_tables(database)
  with pytest.raises(errors.InputError):
    write(database, ANN, 1, event(3, WRONG), bad)
  assert read_tables(database) == before


def test_order_within_blocks_is_random_but_stable(tmp_path):
  orders = []
  for folder in ("a", "b"):
    path = tmp_path / folder / "a.db"
    with contextlib.closing(sites.create(path, 122)) as connection:
      sites.add_campaign(connection, control=1 / 60)
      query = "SELECT image, control FROM item ORDER BY position"
      orders.append([tuple(row) for row in connection.execute(query)])
  assert orders[0] == orders[1]
  images = [image for image, _ in orders[0]]
  assert sorted(images) == list(range(1, 123)) != images


ACTIONS = st.lists(
  st.one_of(
    st.tuples(
      st.sampled_from(["vote", "vote", "vote", "panel"]),
      st.sampled_from([ANN, BEN, PAT]),
      st.sampled_from([1, 2]),  # campaign
      st.sampled_from([1, 2]),  # image
      st.lists(
        st.tuples(st.sampled_from([-1, 3, 4]), st.integers(0, 4)),
        min_size=1,
        max_size=3,
      ),
    ),
    st.tuples(
      st.just("undo"), st.sampled_from([ANN, BEN, PAT]), st.sampled_from([1, 2])
    ),
    st.tuples(st.just("undo"), st.just(PAT), st.none()),
  ),
  max_size=25,
)
POLICIES = st.tuples(st.sampled_from(decide.POLICIES), st.integers(1, 3))


@settings(
  max_examples=40,
  deadline=None,
  suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(actions=ACTIONS, policies=st.lists(POLICIES, min_size=2, max_size=2))
def test_the_log_gives_the_states_of_the_tables(tmp_path, actions, policies):
  """Also: undoing everything gives the first tables again."""
  path = tmp_path / "hypothesis.db"
  for file in tmp_path.glob("hypothesis.db*"):
    file.unlink()
  with contextlib.closing(sites.create(path, 4)) as connection:
    for name, policy in zip("ab", policies, strict=True):
      sites.add_campaign(connection, name, *policy)
    first = read_tables(connection)
    for action, (kind, user, campaign, *more) in enumerate(actions):
      if kind == "undo":
        undo(connection, user, campaign)
        continue
      image, votes = more
      events = [
        event(t, s, kind, "other" if (t, s) == (-1, 3) else "")
        for t, s in votes
      ]
      campaign = None if kind == "panel" else campaign
      now = 1e9 * (action + 1)  # All leases have ended.
      with contextlib.suppress(errors.InputError):  # nothing for the panel
        write(
          connection, user, image, *events,
          campaign=campaign, action=f"{action}", now=now,
        )  # fmt: skip
    replayed = decide.replay(connection)
    query = "SELECT image, class, state, panel, imported FROM prediction"
    for image, target, state, panel, imported in connection.execute(query):
      expected = replayed.get((image, target), (imported, 0))
      assert (state, bool(panel)) == expected
    query = "SELECT id, problematic, panel FROM image"
    for image, reason, panel in connection.execute(query):
      expected = replayed.get((image, -1), (None, False))
      assert (reason, bool(panel)) == expected
    for user in (ANN, BEN, PAT):
      for campaign in (1, 2, None):
        while undo(connection, user, campaign) is not None:
          pass
    assert read_tables(connection) == first
