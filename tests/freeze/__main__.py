"""Runs the freeze: python -m tests.freeze --base=COMMIT

--fast leaves out what trains. The last line is `N differences`; exit codes: 0
none, 2 bad input, 3 some. With --keep outputs of the base are made once for
each commit, kind of CPU and set of versions.
"""

from concurrent import futures
import contextlib
import functools
import pathlib
import tempfile

from absl import app
from absl import flags
import pytest

from imgbench import cli
from imgbench import errors
from imgbench import timing
from tests.freeze import comparing
from tests.freeze import items as items_lib
from tests.freeze import times
from tests.freeze import trees

EXIT_DIFFERENT = 3


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines the base, what is compared, and where outputs are kept."""
  flags.DEFINE_string(
    "base", None, "Commit to compare with.", flag_values=flag_values
  )
  flags.DEFINE_bool(
    "fast", False, "Only programs and tables.", flag_values=flag_values
  )
  flags.DEFINE_list(
    "only",
    [],
    f"Items: {', '.join(items_lib.ITEMS)}; empty: all.",
    flag_values=flag_values,
  )
  flags.DEFINE_string(
    "keep", "", "Folder of outputs; empty: temporary.", flag_values=flag_values
  )
  flags.DEFINE_bool(
    "times",
    None,
    "Paired times; default: in the whole form.",
    flag_values=flag_values,
  )
  flags.DEFINE_bool(
    "text", False, "List the text that differs.", flag_values=flag_values
  )
  flags.DEFINE_integer(
    "pairs", 5, "Pairs of runs of each time.", 2, flag_values=flag_values
  )


def chosen(values: flags.FlagValues) -> dict[str, items_lib.Item]:
  """Returns the items that flags ask for, and those that they need."""
  names = values.only or [
    name for name, item in items_lib.ITEMS.items() if item.fast >= values.fast
  ]
  unknown = set(names) - set(items_lib.ITEMS)
  if unknown:
    raise errors.InputError(
      f"--only: expected names of {', '.join(items_lib.ITEMS)}, got"
      f" {', '.join(sorted(unknown))}"
    )
  needed = {items_lib.ITEMS[name].needs for name in names}
  return {n: i for n, i in items_lib.ITEMS.items() if n in {*names, *needed}}


def run_item(tree: trees.Tree, base: trees.Tree, name: str, done=None) -> float:
  """Runs an item in a tree unless its output is there; returns its seconds.

  Args:
    tree: where.
    base: whose outputs the item may read.
    name: of the item.
    done: future of what it needs of the base; None: nothing.
  """
  folder = tree.out / name
  mark = tree.out / f"{name}.seconds"
  if mark.exists():
    return float(mark.read_text())
  if done is not None:
    done.result()
  trees.make_empty(folder)
  started = timing.clock()
  items_lib.ITEMS[name].run(tree, folder, base)
  seconds = timing.clock() - started
  mark.write_text(str(seconds))
  return seconds


def compare(base: trees.Tree, new: trees.Tree, chosen_items) -> int:
  """Prints a line for each item, and how it differs; returns how many do."""
  total = 0
  paths = {str(tree.out): "<out>" for tree in (base, new)}
  paths |= {str(tree.root): "<tree>" for tree in (base, new)}
  with futures.ThreadPoolExecutor(2) as pool:
    of_base, of_new = {}, {}
    for name, item in chosen_items.items():
      # Of the base itself nothing is there yet where an item needs itself.
      done = of_base.get(item.needs)
      of_base[name] = pool.submit(run_item, base, base, name, done)
      if not item.of_base:
        done = of_base.get(item.needs)
        of_new[name] = pool.submit(run_item, new, base, name, done)
    for name, side in of_new.items():
      try:
        seconds = [of_base[name].result(), side.result()]
        found = comparing.compare_folders(
          base.out / name, new.out / name, paths
        )
      except pytest.skip.Exception as absent:
        print(f"{name:16} NOT COMPARED: {absent}", flush=True)
        continue
      except Exception as error:
        seconds = [0.0, 0.0]
        found = comparing.Found(0, [f"failed: {error}"])
      total += len(found.differences)
      shown = found.texts if flags.FLAGS.text else []
      print(
        f"{name:16} {found.count:>9,} values {len(found.differences):>6,}"
        f" differences {len(found.texts):>6,} text  {seconds[0]:.1f} s +"
        f" {seconds[1]:.1f} s",
        *found.lines(),
        *(f"  text {line}" for line in shown),
        sep="\n",
        flush=True,
      )
  return total


def main(argv: list[str]) -> int:
  """Compares, times, and returns the exit code."""
  del argv
  values = flags.FLAGS
  with cli.one_line_errors(), contextlib.ExitStack() as stack:
    chosen_items = chosen(values)
    sha = trees.commit(values.base)
    keep = values.keep or stack.enter_context(
      tempfile.TemporaryDirectory(prefix="freeze-")
    )
    folder = pathlib.Path(keep).resolve() / trees.key(sha)
    base = trees.Tree(folder / "tree", folder / "base")
    new = trees.Tree(trees.ROOT, folder / "new")
    trees.check_out(sha, base.root)
    trees.make_empty(new.out)
    total = compare(base, new, chosen_items)
    whole = not values.fast and not values.only
    if whole if values.times is None else values.times:
      times.report(base, new, values.pairs)
  print(f"{total} differences")
  return EXIT_DIFFERENT if total else errors.EXIT_DONE


if __name__ == "__main__":
  define_flags(flags.FLAGS)
  app.run(
    main,
    flags_parser=functools.partial(cli.parse_flags, required=("base",)),
  )
