"""Tests of the derivation of the class table from WordNet 3.0."""

import csv
import pathlib
import subprocess
import sys

import pytest

from imgbench import errors
from imgbench.experiments import derive_classes
from imgbench.labels import wordnet
from tests import raising
from tests.train import processes

WORDNET = pathlib.Path("/usr/share/wordnet")
HEAD = "  1 A line of the licence, not a synset  \n"

# The ten words of the borzoi are counted as 0a, in hexadecimal. The dog comes
# second among its hypernyms, and pointers of other kinds lead nowhere.
TINY = HEAD + (
  "00001740 03 n 01 entity 0 001 ~ 00004475 n 0000 | all there is\n"
  "00004475 03 n 02 organism 0 being 0 001 @ 00001740 n 0000 | it lives\n"
  "02084071 05 n 01 dog 0 002 @ 00004475 n 0000 ~ 02090000 n 0000 | barks\n"
  "02090000 05 n 0a borzoi 0 Russian_wolfhound 0 c 0 d 0 e 0 f 0 g 0 h 1 i 0"
  " j 0 002 @ 00001740 n 0000 @ 02084071 n 0000 | a dog | that runs\n"
  "02090001 05 n 01 Laika 0 001 @i 02084071 n 0000 | the dog in space\n"
  "02090002 05 n 01 cat 0 003 #m 02084071 n 0000 + 02084071 v 0101"
  " @ 00004475 n 0000 | it lives too\n"
  '02090003 06 n 01 dog_lead 0 002 @ 00001740 n 0000 %p 02084071 n 0000 | "@'
  ' 02084071 n 0000"\n'
)


@pytest.fixture
def nouns(tmp_path):
  (tmp_path / "data.noun").write_text(TINY)
  return wordnet.read_nouns(tmp_path)


def require_wordnet():
  if not (WORDNET / "data.noun").exists():
    pytest.skip(f"no WordNet: {WORDNET}/data.noun is absent (wordnet-base)")


def write_wnids(path, wnids):
  path.write_text("".join(f"{wnid}\n" for wnid in wnids))
  return path


def test_rows_by_hand(nouns):
  wnids = ["n02084071", "n02090000", "n02090001", "n02090002", "n02090003"]
  rows = derive_classes.derive(nouns, wnids)
  assert [row.wnid for row in rows] == wnids
  assert [row.is_organism for row in rows] == [True, True, True, True, False]
  assert [row.is_dog for row in rows] == [True, True, True, False, False]
  assert rows[1].names == ("borzoi", "Russian wolfhound", *"cdefghij")
  assert derive_classes.count_kinds(rows) == {
    "organism": 4,
    "object": 1,
    "dog": 3,
  }


def test_file_by_hand(nouns):
  rows = derive_classes.derive(nouns, ["n00004475", "n02090003"])
  assert derive_classes.to_csv(rows) == (
    b"index,wnid,names,is_organism,is_dog\n"
    b'0,n00004475,"organism, being",1,0\n'
    b"1,n02090003,dog lead,0,0\n"
  )


def test_a_circle_of_hypernyms_ends():
  nouns = {
    "n00000001": "00000001 03 n 01 a 0 001 @ 00000002 n 0000 | b",
    "n00000002": "00000002 03 n 01 b 0 001 @ 00000001 n 0000 | a",
  }
  assert wordnet.find_ancestors(nouns, "n00000001") == set(nouns)


@pytest.mark.parametrize(
  "line",
  [
    "02090000",
    "02090000 05 n 0g borzoi 0 000 | g is no digit",
    "02090000 05 n 00 000 | no word",
    "02090000 05 n 01 borzoi 0 002 @ 00001740 n 0000 | a pointer too few",
    "02090000 05 n 02 borzoi 0 001 @ 00001740 n 0000 | a word too few",
  ],
)
def test_broken_synsets_are_refused(line):
  check = raising.about("data.noun: n02090000")
  with pytest.raises(errors.InputError, check=check):
    wordnet.find_synset({"n02090000": line}, "n02090000")


def test_an_absent_synset_is_named(nouns):
  check = raising.about("data.noun", given="none")
  with pytest.raises(errors.InputError, match="n09999999", check=check):
    derive_classes.derive(nouns, ["n09999999"])


@pytest.mark.parametrize(
  ("wnids", "setting", "given"),
  [
    (["n00000001", "n00000002"], "", 2),
    ([f"n0000000{i}" for i in range(4)], "", 4),
    (
      ["n00000001", "n00000003", "n00000002"],
      ", line 3",
      "n00000002 after n00000003",
    ),
    (
      ["n00000001", "n00000001", "n00000002"],
      ", line 2",
      "n00000001 after n00000001",
    ),
    (["n00000001", "2", "n00000003"], ", line 2", "'2'"),
    (["n00000001", "", "n00000003"], ", line 2", "''"),
  ],
)
def test_other_than_sorted_distinct_ids_is_refused(
  tmp_path, wnids, setting, given
):
  path = write_wnids(tmp_path / "ids.txt", wnids)
  check = raising.about(f"{path}{setting}", given=given)
  with pytest.raises(errors.InputError, check=check):
    derive_classes.read_wnids(path, count=3)


def test_absent_files_are_named(tmp_path):
  path = tmp_path / "ids.txt"
  with pytest.raises(errors.InputError, check=raising.about(str(path))):
    derive_classes.read_wnids(path)
  check = raising.about(str(tmp_path / "data.noun"))
  with pytest.raises(errors.InputError, match="wordnet-base", check=check):
    wordnet.read_nouns(tmp_path)


def thousand(dogs, organisms):
  """A data.noun with 1,000 made-up classes, and their ids."""
  offsets = [f"{20_000_000 + i}" for i in range(derive_classes.NUM_CLASSES)]
  above = ["02084071"] * dogs + ["00004475"] * (organisms - dogs)
  above += ["00001740"] * (len(offsets) - organisms)
  lines = [
    f"{offset} 05 n 01 thing_{offset} 0 001 @ {parent} n 0000 | made up\n"
    for offset, parent in zip(offsets, above, strict=True)
  ]
  return TINY + "".join(lines), [f"n{offset}" for offset in offsets]


def run_program(*flags):
  return subprocess.run(
    [sys.executable, "-m", "imgbench.labels.derive_classes", *flags],
    env=processes.environment(),
    capture_output=True,
    text=True,
    check=False,
  )


def test_program_writes_the_table(tmp_path):
  text, wnids = thousand(dogs=118, organisms=410)
  (tmp_path / "data.noun").write_text(text)
  ids = write_wnids(tmp_path / "ids.txt", wnids)
  output = tmp_path / "table.csv"
  result = run_program(
    f"--wordnet={tmp_path}", f"--wnids={ids}", f"--output={output}"
  )
  assert result.returncode == errors.EXIT_DONE, result.stderr
  assert "organism 410, object 590, dog 118" in result.stdout
  with output.open(newline="") as file:
    rows = list(csv.DictReader(file))
  assert [row["wnid"] for row in rows] == wnids
  assert [row["index"] for row in rows] == [str(i) for i in range(1000)]
  assert [row["is_dog"] for row in rows] == ["1"] * 118 + ["0"] * 882


def test_program_ends_in_one_line_on_bad_input(tmp_path):
  (tmp_path / "data.noun").write_text(TINY)
  ids = write_wnids(tmp_path / "ids.txt", ["n02084071"])
  for flags in ([], [f"--wordnet={tmp_path}", f"--wnids={ids}"]):
    result = run_program(*flags)
    assert result.returncode == errors.EXIT_USAGE
    assert result.stderr.startswith("imgbench: error: ")
    assert result.stderr.count("\n") == 1


def test_other_counts_write_nothing(tmp_path):
  text, wnids = thousand(dogs=117, organisms=410)
  (tmp_path / "data.noun").write_text(text)
  ids = write_wnids(tmp_path / "ids.txt", wnids)
  output = tmp_path / "table.csv"
  counts = {"organism": 410, "object": 590, "dog": 117}
  check = raising.about(f"{tmp_path} and {ids}", given=counts)
  with pytest.raises(errors.InputError, match="'dog': 118", check=check):
    derive_classes.write_table(tmp_path, ids, output)
  assert not output.exists()


def test_an_output_that_cannot_be_written_is_named(tmp_path):
  text, wnids = thousand(dogs=118, organisms=410)
  (tmp_path / "data.noun").write_text(text)
  ids = write_wnids(tmp_path / "ids.txt", wnids)
  with pytest.raises(errors.InputError, check=raising.about("--output")):
    derive_classes.write_table(tmp_path, ids, ids / "table.csv")


def test_the_list_of_ids_comes_without_importing_tfds():
  wnids = derive_classes.read_wnids(derive_classes.find_tfds_wnids())
  assert wnids[0] == "n01440764" and wnids[-1] == "n15075141"
  code = (
    "import sys\nfrom experiments import derive_classes\n"
    "derive_classes.find_tfds_wnids()\n"
    "assert 'tensorflow_datasets' not in sys.modules"
  )
  environment = processes.environment()
  subprocess.run([sys.executable, "-c", code], env=environment, check=True)


def test_shipped_table_is_what_wordnet_gives(tmp_path):
  require_wordnet()
  output = tmp_path / "table.csv"
  derive_classes.write_table(WORDNET, derive_classes.find_tfds_wnids(), output)
  assert output.read_bytes() == derive_classes.TABLE.read_bytes()


def test_shipped_notice_is_the_one_of_wordnet():
  """Each of its lines has a number in data.noun."""
  require_wordnet()
  notice = derive_classes.TABLE.with_name("WORDNET_LICENSE").read_text()
  with (WORDNET / "data.noun").open() as file:
    head = [line for line in file if line.startswith("  ")]
  lines = [line.strip().partition(" ")[2] for line in head]
  assert notice.splitlines() == lines


def test_the_table_is_the_one_that_is_shipped():
  assert derive_classes.TABLE.is_file()
  assert derive_classes.TABLE.with_name("WORDNET_LICENSE").is_file()
