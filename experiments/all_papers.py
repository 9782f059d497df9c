"""All tables and figures of the papers, from one folder of public files.

imgbench papers --data=DIR --out=results/papers

DIR holds clones and files under their public names; imgbench/papers/papers.toml
lists them. Each paper whose files are there gets a folder in --out; the others'
files are listed with their address. Published figures in DIR are compared with
ours. --predictions and --published go to the papers of their data set.
"""

import contextlib
import functools
import importlib.util
import io
import itertools
import pathlib
import tomllib

from absl import flags

from imgbench import commands
from imgbench import errors
from imgbench.papers import program
from imgbench.papers import published
from imgbench.papers.readers import own

REQUIRED = ("data",)
TABLE = tomllib.loads(
  pathlib.Path(program.__file__)
  .with_name("papers.toml")
  .read_text(encoding="utf-8")
)
PAPERS, FILES, KNOWN = (TABLE[x] for x in ("papers", "files", "published"))


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines --data and common flags."""
  names = (program.OUT, program.PUBLISHED, program.PREDICTIONS)
  text = f"Folder with some of {', '.join(FILES)}."
  program.define_flags(flag_values, names, data=text)


def make_all(values: flags.FlagValues, output: program.Output) -> None:
  """Makes the papers whose files are there, and lists the missing files.

  Raises:
    InputError: no paper has its files; predictions or published figures that
      none of these papers takes; the error of the first paper that fails, after
      all others are made.
  """
  data = pathlib.Path(values.data)
  specs = [own.parse(text) for text in values.predictions]
  known = tuple(name for p in PAPERS.values() for name in p["datasets"])
  for spec in specs:
    if not spec.dataset.startswith(known):
      expected = f"a data set of {', '.join(PAPERS)}"
      raise errors.InputError(spec.flag, expected, repr(spec.dataset))
  places = itertools.product([data], KNOWN["folders"], KNOWN["names"])
  paths = [p for p in itertools.starmap(pathlib.Path, places) if p.is_file()]
  paths += values.published
  figures = {path: {f.key for f in published.read(path)} for path in paths}
  jobs, missing, made, failed = {}, {}, [], []
  for name, paper in PAPERS.items():
    args, absent = _find(data, paper["flags"])
    for entry in absent.values():
      missing.setdefault(entry, {})[name] = None
    if not all(flag.startswith("?") for flag in absent):
      continue
    begin, metrics = (tuple(paper[x]) for x in ("datasets", "metrics"))
    args += [s.flag for s in specs if s.dataset.startswith(begin)]
    for path, keys in figures.items():
      keys = [key for key in keys if key.dataset.startswith(begin)]
      if any(key.metric.startswith(metrics) for key in keys):
        args.append(f"--published={path}")
    jobs[name] = args
  for entry, names in missing.items():
    address = ", ".join(FILES[entry]["address"])
    output.note(f"missing: {entry} of {', '.join(names)}: {address}")
  if not jobs:
    raise errors.InputError("--data", "files of a paper", data, "see above")
  used = {arg for args in jobs.values() for arg in args}
  given = [f"--published={path}" for path in values.published]
  for flag in [*given, *(spec.flag for spec in specs)]:
    expected = f"something for {', '.join(jobs)}"
    errors.check(flag in used, flag, expected, "nothing for them")
  for name, args in jobs.items():
    try:
      _make(name, args, values.out)
      made.append(name)
    except errors.InputError as error:
      output.note(f"{name}: not made: {error}")
      failed.append(error)
  if failed:
    raise failed[0]
  print(f"made: {', '.join(made)}")


def _find(
  data: pathlib.Path, texts: list[str]
) -> tuple[list[str], dict[str, str]]:
  """Returns flags with paths, and flag -> entry of FILES of absent files."""
  args, absent = [], {}
  for text in texts:
    flag, _, file = text.rpartition("=")
    entry = next(key for key in FILES if file.startswith(key))
    name = pathlib.Path(file).name
    others = [x.format(name) for x in FILES[entry].get("others", ())]
    if package := FILES[entry].get("package"):
      found = importlib.util.find_spec(package)
      others += found.submodule_search_locations if found else []
    there = [data / x for x in (file, *others) if (data / x).exists()]
    if there:
      args.append(f"--{flag.removeprefix('?')}={there[0]}")
    else:
      absent[flag] = entry
  return args, absent


def _make(name: str, args: list[str], out: str | None) -> None:
  """Runs the script of a paper; without a folder its tables are printed."""
  command = PAPERS[name].get("command", f"paper {name}")
  module = importlib.import_module(commands.COMMANDS[command].module)
  values = flags.FlagValues()
  module.define_flags(values)
  values([command, *args])
  with contextlib.redirect_stdout(io.StringIO()) as printed:
    output = program.Output(pathlib.Path(out, name) if out else None)
    module.reproduce(values, output)
  print(f"{name}:\n{'' if out else printed.getvalue()}", end="")
  output.close()


main = functools.partial(program.run, make_all)


if __name__ == "__main__":
  commands.start("papers")
