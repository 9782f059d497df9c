"""Sets of a run that papers know, and the commands that add the run to them."""

from collections.abc import Mapping
import shlex

from imgbench import run_files
from imgbench import writers
from imgbench.papers.readers import cifar
from imgbench.papers.readers import datasets

# Key of a set -> the name that public repositories and tables have for it.
PUBLIC_NAMES = {
  "imagenet2012:validation": datasets.VALIDATION,
  "imagenet2012_real:validation": datasets.VALIDATION,
  "imagenet2012_multilabel:validation": datasets.VALIDATION_20K,
  "imagenet2012_multilabel:imagenet_m": datasets.VALIDATION_20K,
  "imagenet_v2-matched-frequency:test": datasets.MATCHED_FREQUENCY,
  "imagenet_v2-threshold-0.7:test": datasets.THRESHOLD,
  "imagenet_v2-topimages:test": datasets.TOP_IMAGES,
  "imagenet_a:test": datasets.ADVERSARIAL,
  "imagenet_r:test": datasets.RENDITIONS,
  "cifar10:test": cifar.TEST,
  "cifar10_1-v4:test": cifar.V4,
  "cifar10_1-v6:test": cifar.V6,
}
_V2 = [key for key in PUBLIC_NAMES if key.startswith("imagenet_v2-")]
# Command -> the sets of a run whose predictions it reads.
_COMMANDS = {
  "imagenet-v2 --repo=ImageNetV2": ["imagenet2012:validation", *_V2],
  "cifar10-1 --repo=CIFAR-10.1 --labels=test_batch.bin": ["cifar10:test"],
}


def format_commands(results: Mapping[str, Mapping], folder: str) -> list[str]:
  """Returns the commands that put a run into the tables of papers.

  Args:
    results: content of results.json; synthetic images are in no paper.
    folder: of the run.
  """
  folder = folder.rstrip("/")
  model = folder.rpartition("/")[2].strip().replace("@", "_") or "mine"
  commands = []
  for start, keys in _COMMANDS.items():
    parts = [f"imgbench paper {start}"]
    for key in keys:
      for suffix in ("", "+ema"):
        own = key.replace(":", f"{suffix}:")
        found = results.get(f"{own}/all/top1_accuracy")
        if found and "synthetic" not in found["definition"]:
          file = f"{run_files.PREDICTIONS}/{writers.make_file_key(own)}.npz"
          text = f"{model}{suffix}@{PUBLIC_NAMES[key]}={folder}/{file}"
          parts.append(shlex.quote(f"--predictions={text}"))
    if len(parts) > 1:
      commands.append(" \\\n    ".join(parts))
  return commands
