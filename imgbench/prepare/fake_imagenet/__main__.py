"""ImageNet's files with drawn pictures: what TFDS's builders prepare from.

python -m imgbench.data.fake_imagenet --out=DIR
python -m imgbench.data.prepare --manual_dir=DIR --skip_checksums \
  --data_dir=DATA --dataset=imagenet2012,imagenet2012_real

The same flags give the same bytes.
"""

from collections.abc import Iterator
from concurrent import futures
import functools
import gzip
import hashlib
import io
import os
import pathlib
import re
import tarfile

from absl import flags

from imgbench import cli
from imgbench import commands
from imgbench import errors
from imgbench.data import synthetic
from imgbench.labels import classes
from imgbench.prepare.fake_imagenet import label_files
from imgbench.prepare.fake_imagenet import plan as fake_imagenet_plan

# Variant of imagenet_v2 -> (file, folder in it, strength of the structure).
V2_FILES = {
  "matched-frequency": (
    "imagenetv2-matched-frequency.tar.gz",
    "imagenetv2-matched-frequency-format-val",
    0.6,
  ),
  "threshold-0.7": (
    "imagenetv2-threshold0.7.tar.gz",
    "imagenetv2-threshold0.7-format-val",
    0.7,
  ),
  "topimages": (
    "imagenetv2-top-images.tar.gz",
    "imagenetv2-top-images-format-val",
    0.8,
  ),
}


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
  member = tarfile.TarInfo(name)  # time 0, no owner: the same bytes every time
  member.size = len(data)
  archive.addfile(member, io.BytesIO(data))


def _tar(files: Iterator[tuple[str, bytes]]) -> bytes:
  buffer = io.BytesIO()
  with tarfile.open(fileobj=buffer, mode="w") as archive:
    for name, data in files:
      _add(archive, name, data)
  return buffer.getvalue()


def _map(function, items) -> Iterator:
  """Maps in threads, in order, with few results waiting: Pillow lets go."""
  items = list(items)
  threads = min(os.cpu_count() or 1, 16)
  with futures.ThreadPoolExecutor(threads) as pool:
    for start in range(0, len(items), 4 * threads):
      yield from pool.map(function, items[start : start + 4 * threads])


def write_train(path: pathlib.Path, plan: fake_imagenet_plan.Plan) -> None:
  """Writes a tar of one <wnid>.tar for each class."""
  wnids = classes.imagenet_classes().wnids

  def class_tar(label: int) -> tuple[str, bytes]:
    files = [
      (name, plan.encoded("train", label, i, kind=kind))
      for i, (name, kind) in enumerate(plan.train_pictures(label))
    ]
    return f"{wnids[label]}.tar", _tar(files)

  with tarfile.open(path, "w") as archive:
    for name, data in _map(class_tar, plan.labels):
      _add(archive, name, data)


def write_validation(path: pathlib.Path, plan: fake_imagenet_plan.Plan) -> None:
  """Writes one image per class under its number in ImageNet.

  TFDS tells the label of a file by its place among the sorted names. The
  numbers in between therefore have to stand there too: as empty folders, which
  TFDS passes over.
  """
  pictures = plan.validation_pictures

  def picture(number: int) -> bytes:
    label, kind = pictures[number]
    return plan.encoded("validation", label, 0, kind=kind)

  drawn = _map(picture, pictures)
  with tarfile.open(path, "w") as archive:
    for number in range(1, max(pictures) + 1):
      name = fake_imagenet_plan.validation_name(number)
      if number in pictures:
        _add(archive, name, next(drawn))
      else:
        folder = tarfile.TarInfo(name)
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)


def write_v2(
  path: pathlib.Path, plan: fake_imagenet_plan.Plan, variant: str
) -> None:
  """Writes a variant of ImageNetV2: <folder>/<class index>/<hex>.jpeg."""
  _, folder, strength = V2_FILES[variant]
  first = list(V2_FILES).index(variant) * plan.shift_per_class

  def picture(item):
    label, i = item
    data = plan.encoded("v2", label, first + i, strength)
    digest = hashlib.sha1(data).hexdigest()
    return f"{folder}/{label}/{digest}.jpeg", data

  items = [(k, i) for k in plan.labels for i in range(plan.shift_per_class)]
  # A name or a time in the header would make it another file.
  with (
    open(path, "wb") as file,
    gzip.GzipFile("", "wb", 1, file, mtime=0) as packed,
    tarfile.open(fileobj=packed, mode="w") as archive,
  ):
    for name, data in _map(picture, items):
      _add(archive, name, data)


def write_200_classes(
  path: pathlib.Path, plan: fake_imagenet_plan.Plan, files: str
) -> None:
  """Writes imagenet-a.tar or imagenet-r.tar ("a", "r"): a fifth of all classes.

  Files are <folder>/<wnid>/<name>.jpg beside a README.txt.
  """
  wnids = classes.imagenet_classes().wnids
  first, stem, strength = {
    "a": (0, "0.0001_{wnid} _ {wnid}_0.9{i}.jpg", 0.3),
    "r": (2 % plan.num_classes, "art_{i}.jpg", 0.4),
  }[files]
  folder = f"imagenet-{files}"

  def picture(item):
    label, i = item
    name = stem.format(wnid=wnids[label], i=i)
    data = plan.encoded(files, label, i, strength)
    return f"{folder}/{wnids[label]}/{name}", data

  labels = plan.labels[first::5]
  items = [(k, i) for k in labels for i in range(plan.shift_per_class)]
  with tarfile.open(path, "w") as archive:
    _add(archive, f"{folder}/README.txt", b"Drawn by a program.\n")
    for name, data in _map(picture, items):
      _add(archive, name, data)


def _writers(only_base: bool):
  """Returns file name -> function that writes it: (path, plan) -> None."""
  writers = {
    "ILSVRC2012_img_train.tar": write_train,
    "ILSVRC2012_img_val.tar": write_validation,
  }
  if only_base:
    return writers
  writers |= {
    "human_accuracy_v3.0.0.json": label_files.write_annotations,
    "real.json": label_files.write_real,
    "imagenet-a.tar": functools.partial(write_200_classes, files="a"),
    "imagenet-r.tar": functools.partial(write_200_classes, files="r"),
  }
  for percent in (1, 10):
    writers[f"{percent}percent.txt"] = functools.partial(
      label_files.write_subset_list, percent=percent
    )
  for variant, (name, _, _) in V2_FILES.items():
    writers[name] = functools.partial(write_v2, variant=variant)
  return writers


def write(
  out: str | os.PathLike[str],
  plan: fake_imagenet_plan.Plan,
  only_base: bool = False,
) -> None:
  """Writes the files into a folder, each whole or not at all.

  A mark beside them (`synthetic.MARK`) names them before they are there.

  Args:
    out: folder, made if absent; what TFDS calls `manual_dir`.
    plan: what to draw.
    only_base: write the training and the validation tar only.

  Raises:
    InputError: the folder has a mark that is not readable.
    OSError: cannot be written.
  """
  out = pathlib.Path(out)
  out.mkdir(parents=True, exist_ok=True)
  sizes = synthetic.read(out)
  for name, writer in _writers(only_base).items():
    part = out / f".{name}.part"
    writer(part, plan)
    sizes[name] = part.stat().st_size
    synthetic.write(out, sizes)
    part.rename(out / name)


REQUIRED = ("out",)


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines --out, what is drawn, and how much of it."""
  flags.DEFINE_string(
    "out", None, "Folder to write the files to.", flag_values=flag_values
  )
  flags.DEFINE_string(
    "image_size",
    "500x375",
    "Width and height of most pictures.",
    flag_values=flag_values,
  )
  for name, default, text in (
    ("train_per_class", 1, "Training pictures of a class."),
    ("shift_per_class", 1, "Pictures of a class in each shifted set."),
    ("classes", 1000, "Classes that have pictures, spread evenly."),
    ("seed", 0, "Of everything drawn."),
  ):
    flags.DEFINE_integer(name, default, text, flag_values=flag_values)
  flags.DEFINE_bool(
    "oddities",
    False,
    "A few CMYK and grey JPEGs and PNGs named JPEG among the files.",
    flag_values=flag_values,
  )
  flags.DEFINE_bool(
    "only_base",
    False,
    "Training and validation tars only.",
    flag_values=flag_values,
  )


def _plan(values) -> fake_imagenet_plan.Plan:
  size = re.fullmatch(r"([0-9]{1,4})x([0-9]{1,4})", values.image_size)
  if not size:
    raise errors.InputError(
      "--image_size", "WIDTHxHEIGHT such as 500x375", values.image_size
    )
  return fake_imagenet_plan.Plan(
    image_size=tuple(map(int, size.groups())),
    train_per_class=values.train_per_class,
    shift_per_class=values.shift_per_class,
    num_classes=values.classes,
    seed=values.seed,
    oddities=values.oddities,
  )


def main(argv: list[str]) -> None:
  """Writes the files and lists them."""
  del argv
  values = flags.FLAGS
  with cli.one_line_errors():
    try:
      write(values.out, _plan(values), values.only_base)
    except OSError as error:
      raise errors.InputError(
        "--out", "a folder that can be written", error
      ) from error
  for path in sorted(pathlib.Path(values.out).iterdir()):
    print(f"{path.stat().st_size:>12,}  {path}")


if __name__ == "__main__":
  commands.start("fake-imagenet")
