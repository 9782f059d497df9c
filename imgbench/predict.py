"""Predicts the classes of pictures with the model of a run.

imgbench predict runs/demo image.jpg

prints a line per picture: its path, and the best classes with their
probabilities. Pictures are JPEG or PNG files, or folders of them, prepared as
the run evaluates its images. RUN@STEP takes the checkpoint of a step. A picture
that is damaged ends the program with code 2; lines before it are whole.

--out=FILE.npy writes the logits, which `imgbench paper` and `imgbench score`
read; then there may be one .npy file, uint8 [N, H, W, C], instead of pictures.
"""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import csv
import os
import pathlib
from typing import IO

from absl import flags
import numpy as np

from imgbench import cli
from imgbench import commands
from imgbench import errors
from imgbench import paths
from imgbench import predictor
from imgbench import startup
from imgbench import texts
from imgbench.papers.readers import predictions
from imgbench.tables import formats

ENDINGS = (".jpg", ".jpeg", ".png")
COLUMNS = ("image", "rank", "class_index", "class_name", "probability")


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines --k, --ema, --out."""
  flags.DEFINE_integer(
    "k",
    5,
    "How many of the best classes to print.",
    lower_bound=1,
    flag_values=flag_values,
  )
  define_ema_flag(flag_values)
  flags.DEFINE_string(
    "out",
    "",
    f"CSV file to write instead of lines, with {', '.join(COLUMNS)}; or .npy.",
    flag_values=flag_values,
  )


def define_ema_flag(flag_values: flags.FlagValues) -> None:
  """Defines --ema."""
  flags.DEFINE_bool(
    "ema",
    None,
    "Take the moving average of the parameters; default: if the run has it.",
    flag_values=flag_values,
  )


def list_pictures(arguments: list[str]) -> list[str]:
  """Returns paths of pictures; a folder gives all that are below it, sorted.

  Raises:
    InputError: no argument, or a folder without pictures.
  """
  found = []
  for argument in arguments:
    errors.check(argument != "", "IMAGES", "paths", "an empty one")
    if not os.path.isdir(argument):
      found.append(argument)
      continue
    below = pathlib.Path(argument).rglob("*")
    pictures = [str(p) for p in below if p.suffix.lower() in ENDINGS]
    expected = f"a folder with {', '.join(ENDINGS)} files"
    errors.check(bool(pictures), "IMAGES", expected, argument)
    found += sorted(pictures)
  errors.check(bool(found), "IMAGES", "at least one picture or folder", "none")
  return found


def predict(
  loaded: predictor.Predictor, pictures: Sequence[str], k: int
) -> Iterator[tuple[str, list[tuple[int, str, float]]]]:
  """Yields path, and index, name and probability of the k best classes."""
  names = iter(pictures)
  for found in loaded.iterate(pictures):
    rows = zip(found.classes(k).tolist(), found.probabilities, strict=True)
    for best, row in rows:
      listed = [(i, found.class_names[i], float(row[i])) for i in best]
      yield next(names), listed


@contextlib.contextmanager
def _open(path: str, mode: str, encoding: str | None = None) -> Iterator[IO]:
  """Opens --out, and its folder if need be. Raises InputError."""
  target = paths.as_path(path, "--out")
  try:
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open(mode, encoding=encoding) as file:
      yield file
  except OSError as error:
    given = f"{path}: {errors.find_reason(error)}"
    expected = "a file that can be written"
    raise errors.InputError("--out", expected, given) from error


def write_csv(path: str, results: Iterable) -> None:
  """Writes what `predict` yields as it comes. Raises InputError."""
  with _open(path, "w", encoding="utf-8") as file:
    table = csv.writer(file, lineterminator="\n")
    table.writerow(COLUMNS)
    for picture, best in results:
      # Names of files may be in another encoding.
      name = picture.encode(errors="backslashreplace").decode()
      ranked = enumerate(best, 1)
      table.writerows((name, rank, *found) for rank, found in ranked)


def write_logits(
  path: str, loaded: predictor.Predictor, pictures: Sequence[str]
) -> None:
  """Writes the logits of pictures, or of one .npy file. Raises InputError."""
  target = paths.as_path(path, "--out")
  paths.check_writable(target.parent, "--out")
  errors.check(not target.is_dir(), "--out", "a file", f"a folder: {path}")
  images = pictures
  if len(pictures) == 1 and pictures[0].endswith(".npy"):
    images = predictions.read_array(pathlib.Path(pictures[0]), mmap=True)
  logits = loaded.predict(images).logits
  with _open(path, "wb") as file:
    np.save(file, logits)


def main(argv: list[str]) -> int:
  """Predicts and prints."""
  values = flags.FLAGS
  run, pictures = argv[1], list_pictures(argv[2:])
  cli.show_log()
  startup.log_start()
  cli.keep_compiled("default")
  loaded = predictor.load(run, values.ema)
  if values.out.endswith(".npy"):
    write_logits(values.out, loaded, pictures)
    return errors.EXIT_DONE
  results = predict(loaded, pictures, values.k)
  if values.out:
    write_csv(values.out, results)
    return errors.EXIT_DONE
  for picture, best in results:
    cells = [f"{name} {formats.share(share)}" for _, name, share in best]
    print(texts.printable(f"{picture}: {', '.join(cells)}"))
  return errors.EXIT_DONE


def parse_flags(argv: list[str]) -> list[str]:
  """Returns the program's name, RUN, and pictures. Raises InputError."""
  flags.FLAGS.set_gnu_getopt()  # Flags may follow the others.
  arguments = cli.parse_flags(argv, required=(), positional=True)
  if len(arguments) < 2:
    raise errors.InputError("RUN", "the workdir of a run", "none", "see --help")
  return arguments


if __name__ == "__main__":
  commands.start("predict")
