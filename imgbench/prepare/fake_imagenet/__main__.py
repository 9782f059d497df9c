"""Writes ImageNet's files with synthetic pictures, input for TFDS's builders.

imgbench fake-imagenet --out=DIR
imgbench prepare --manual_dir=DIR --skip_checksums \\
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

from imgbench import commands
from imgbench import cpus
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


def _pack(files: Iterator[tuple[str, bytes]]) -> bytes:
  buffer = io.BytesIO()
  with tarfile.open(fileobj=buffer, mode="w") as archive:
    for name, data in files:
      _add(archive, name, data)
  return buffer.getvalue()


def _map(function, items) -> Iterator:
  """Maps in threads, in order, with few results in memory."""
  items = list(items)
  threads = min(cpus.count_cpus(), 16)
  with futures.ThreadPoolExecutor(threads) as pool:
    for start in range(0, len(items), 4 * threads):
      yield from pool.map(function, items[start : start + 4 * threads])


def write_train(
  path: pathlib.Path, plan: fake_imagenet_plan.PicturePlan
) -> None:
  """Writes a tar with a <wnid>.tar per class."""
  wnids = classes.imagenet_classes().wnids

  def pack_class(label: int) -> tuple[str, bytes]:
    files = [
      (name, plan.encode_picture("train", label, i, kind=kind))
      for i, (name, kind) in enumerate(plan.train_pictures(label))
    ]
    return f"{wnids[label]}.tar", _pack(files)

  with tarfile.open(path, "w") as archive:
    for name, data in _map(pack_class, plan.labels):
      _add(archive, name, data)


def write_validation(
  path: pathlib.Path, plan: fake_imagenet_plan.PicturePlan
) -> None:
  """Writes one image per class under its number in ImageNet.

  TFDS takes the label of a file from its place among the sorted names.
  Therefore the numbers in between are empty folders, which TFDS skips.
  """
  pictures = plan.validation_pictures

  def draw(number: int) -> bytes:
    label, kind = pictures[number]
    return plan.encode_picture("validation", label, 0, kind=kind)

  drawn = _map(draw, pictures)
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
  path: pathlib.Path, plan: fake_imagenet_plan.PicturePlan, variant: str
) -> None:
  """Writes a variant of ImageNetV2: <folder>/<class index>/<hex>.jpeg."""
  _, folder, strength = V2_FILES[variant]
  first = list(V2_FILES).index(variant) * plan.shift_per_class

  def draw(item):
    label, i = item
    data = plan.encode_picture("v2", label, first + i, strength)
    digest = hashlib.sha1(data).hexdigest()
    return f"{folder}/{label}/{digest}.jpeg", data

  items = [(k, i) for k in plan.labels for i in range(plan.shift_per_class)]
  # No name and no time in the header: the same bytes every time.
  with (
    open(path, "wb") as file,
    gzip.GzipFile("", "wb", 1, file, mtime=0) as packed,
    tarfile.open(fileobj=packed, mode="w") as archive,
  ):
    for name, data in _map(draw, items):
      _add(archive, name, data)


def write_200_classes(
  path: pathlib.Path, plan: fake_imagenet_plan.PicturePlan, files: str
) -> None:
  """Writes imagenet-a.tar or imagenet-r.tar ("a", "r"): a fifth of all classes.

  Files are <folder>/<wnid>/<name>.jpg and a README.txt.
  """
  wnids = classes.imagenet_classes().wnids
  first, stem, strength = {
    "a": (0, "0.0001_{wnid} _ {wnid}_0.9{i}.jpg", 0.3),
    "r": (2 % plan.num_classes, "art_{i}.jpg", 0.4),
  }[files]
  folder = f"imagenet-{files}"

  def draw(item):
    label, i = item
    name = stem.format(wnid=wnids[label], i=i)
    data = plan.encode_picture(files, label, i, strength)
    return f"{folder}/{wnids[label]}/{name}", data

  labels = plan.labels[first::5]
  items = [(k, i) for k in labels for i in range(plan.shift_per_class)]
  with tarfile.open(path, "w") as archive:
    _add(archive, f"{folder}/README.txt", b"Drawn by a program.\n")
    for name, data in _map(draw, items):
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
  plan: fake_imagenet_plan.PicturePlan,
  only_base: bool = False,
) -> None:
  """Writes the files into a folder, each atomically.

  A mark in the folder (`synthetic.MARK`) lists each file before it appears.

  Args:
    out: folder, created if absent; TFDS's `manual_dir`.
    plan: the pictures to draw.
    only_base: write the training and the validation tar only.

  Raises:
    InputError: the mark of the folder cannot be read.
    OSError: the folder cannot be written.
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
  """Defines --out and the flags of the plan."""
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
    ("train_per_class", 1, "Training pictures per class."),
    ("shift_per_class", 1, "Pictures per class in each shifted set."),
    ("classes", 1000, "Number of classes with pictures, spread evenly."),
    ("seed", 0, "Seed of all pictures."),
  ):
    flags.DEFINE_integer(name, default, text, flag_values=flag_values)
  flags.DEFINE_bool(
    "oddities",
    False,
    "Include a few CMYK and grey JPEGs and PNGs named JPEG.",
    flag_values=flag_values,
  )
  flags.DEFINE_bool(
    "only_base",
    False,
    "Write the training and validation tars only.",
    flag_values=flag_values,
  )


def _build_plan(values) -> fake_imagenet_plan.PicturePlan:
  size = re.fullmatch(r"([0-9]{1,4})x([0-9]{1,4})", values.image_size)
  if not size:
    raise errors.InputError(
      "--image_size", "WIDTHxHEIGHT such as 500x375", repr(values.image_size)
    )
  return fake_imagenet_plan.PicturePlan(
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
  try:
    write(values.out, _build_plan(values), values.only_base)
  except OSError as error:
    raise errors.InputError(
      "--out", "a folder that can be written", error
    ) from error
  for path in sorted(pathlib.Path(values.out).iterdir()):
    print(f"{path.stat().st_size:>12,}  {path}")


if __name__ == "__main__":
  commands.start("fake-imagenet")
