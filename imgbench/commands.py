"""The command table: each program has a name, a module and one line of help.

`imgbench NAME ...` and `python -m MODULE ...` run a program with `start`. Its
module has

  define_flags(flag_values)   defines its flags
  main(argv) -> code or None  runs it; argv: program name, positional arguments
  REQUIRED                    names of the flags that must have a value

A program with positional arguments has `parse_flags(argv)` instead of REQUIRED;
one whose flags depend on the command line, `define_flags_for(flag_values,
argv)`. This module imports neither JAX nor NumPy, so that the help appears at
once.
"""

import dataclasses
import functools
import importlib
import logging as python_logging
import sys

import imgbench
from imgbench import errors
from imgbench import interrupts
from imgbench import registry
from imgbench import streams


@dataclasses.dataclass(frozen=True)
class Command:
  """A program.

  Attributes:
    name: one or two words, as on the command line.
    module: full name of its module.
    help: one line.
  """

  name: str
  module: str
  help: str


DEFAULT = "train"
COMMANDS = {
  command.name: command
  for command in (
    Command(DEFAULT, "imgbench.main", "Train a model and evaluate it."),
    Command("evaluate", "imgbench.evaluate", "Evaluate a checkpoint of a run."),
    Command("predict", "imgbench.predict", "Predict the classes of pictures."),
    Command("export", "imgbench.export", "Export a model for other programs."),
    Command("config", "imgbench.show_config", "Print all keys of a config."),
    Command("describe", "imgbench.describe", "Describe a model by its layers."),
    Command("report", "imgbench.report.__main__", "Rewrite a run's report."),
    Command("check", "imgbench.check", "Check a run against requirements."),
    Command("compare", "imgbench.compare", "Compare runs on the same images."),
    Command("cost", "imgbench.cost", "Join accuracy and speed of models."),
    Command(
      "score", "imgbench.score.__main__", "Score predictions of any framework."
    ),
    Command(
      "operating-points",
      "imgbench.operating_points",
      "Choose the threshold of a class.",
    ),
    Command(
      "leakage",
      "imgbench.leakage.__main__",
      "Find test images that the training data has too.",
    ),
    Command(
      "review init", "imgbench.review.init", "Make the database of a review."
    ),
    Command(
      "review import",
      "imgbench.review.imports",
      "Import predictions and labels into a review.",
    ),
    Command(
      "review export",
      "imgbench.review.exports",
      "Export the labels or events of a review.",
    ),
    Command(
      "review status", "imgbench.review.status", "Print how far a review is."
    ),
    Command(
      "review agreement",
      "imgbench.review.agreement",
      "Print how far reviewers agree.",
    ),
    Command(
      "review tasks",
      "imgbench.review.tasks",
      "List and create labeling tasks.",
    ),
    Command(
      "review guide", "imgbench.review.guides", "Import labeling guides."
    ),
    Command(
      "review pending",
      "imgbench.review.pending",
      "List a run's unreviewed predictions for review.",
    ),
    Command(
      "review merge",
      "imgbench.review.merge",
      "Merge filled reviews into the annotations.",
    ),
    Command(
      "review serve",
      "imgbench.review.serve",
      "Serve a review database to annotators.",
    ),
    Command(
      "bench", "imgbench.bench.__main__", "Benchmark models on this machine."
    ),
    Command(
      "bench report",
      "imgbench.bench.pages.html_report",
      "Write the HTML page of a benchmark.",
    ),
    Command(
      "bench compare",
      "imgbench.bench.compare",
      "Compare two benchmarks and find regressions.",
    ),
    Command(
      "bench scaling",
      "imgbench.bench.scaling",
      "Measure weak and strong scaling over devices.",
    ),
    Command(
      "bench compile-only",
      "imgbench.bench.compile_only",
      "Compile a config for an absent accelerator.",
    ),
    Command(
      "bench input",
      "imgbench.experiments.benchmarks.input.__main__",
      "Compare the input pipeline with other loaders.",
    ),
    Command(
      "bench metrics",
      "imgbench.experiments.benchmarks.metric_kernels.__main__",
      "Compare the metric kernels with other libraries.",
    ),
    Command(
      "bench step",
      "imgbench.experiments.benchmarks.step",
      "Time a config's training step and startup.",
    ),
    Command(
      "bench papers",
      "imgbench.experiments.benchmarks.paper_scripts.__main__",
      "Measure time and memory of the paper scripts.",
    ),
    Command("sweep", "imgbench.launch.__main__", "Run a sweep of a config."),
    Command(
      "sweep table",
      "imgbench.launch.sweep_table.__main__",
      "Tabulate a sweep's runs.",
    ),
    Command(
      "prepare", "imgbench.prepare.__main__", "Prepare data sets with TFDS."
    ),
    Command(
      "fake-imagenet",
      "imgbench.prepare.fake_imagenet.__main__",
      "Write small synthetic files in ImageNet's layout.",
    ),
    Command(
      "papers",
      "imgbench.experiments.all_papers",
      "Make the tables of all papers whose files are there.",
    ),
    Command(
      "paper cifar10-1",
      "imgbench.experiments.cifar10_1",
      "Tables of Do CIFAR-10 classifiers generalize to CIFAR-10?",
    ),
    Command(
      "paper imagenet-v2",
      "imgbench.experiments.imagenet_v2",
      "Tables of Do ImageNet classifiers generalize to ImageNet?",
    ),
    Command(
      "paper imagenet-x",
      "imgbench.experiments.imagenet_x",
      "Tables of ImageNet-X.",
    ),
    Command(
      "paper multilabel",
      "imgbench.experiments.multilabel",
      "Tables of Evaluating machine accuracy on ImageNet.",
    ),
    Command(
      "paper real-labels",
      "imgbench.experiments.real_labels",
      "Tables of Are we done with ImageNet?",
    ),
    Command(
      "paper error-analysis",
      "imgbench.experiments.error_analysis",
      "Tables of When does dough become a bagel?",
    ),
    Command(
      "accelerator",
      "imgbench.experiments.accelerator.__main__",
      "Run the accelerator suite.",
    ),
    Command(
      "accelerator cifar",
      "imgbench.experiments.accelerator.cifar",
      "Compare time to accuracy on CIFAR-10 with airbench.",
    ),
    Command(
      "accelerator results",
      "imgbench.experiments.accelerator.results",
      "Check the suite's results and list them in the README.",
    ),
    Command(
      "compile-only h200",
      "imgbench.experiments.compile_only_h200",
      "Count kernels and bytes of steps compiled for an H200.",
    ),
    Command(
      "compile-only v5e",
      "imgbench.experiments.compile_only_v5e",
      "Count bytes sent by steps compiled for TPU v5e pods.",
    ),
    Command(
      "leakage check",
      "imgbench.experiments.leakage_check",
      "Measure the recall and precision of imgbench leakage.",
    ),
    Command(
      "review load",
      "imgbench.experiments.review_load",
      "Measure the review server with several users.",
    ),
    Command(
      "weights-parity",
      "imgbench.experiments.weights_parity",
      "Compare models with timm and torchvision, equal weights.",
    ),
    Command(
      "size", "imgbench.experiments.benchmarks.size", "Count lines per folder."
    ),
    Command(
      "derive-classes",
      "imgbench.experiments.derive_classes",
      "Derive the table of ImageNet's classes from WordNet.",
    ),
  )
}


def start(name: str) -> None:
  """Runs a program on `sys.argv` and ends the process with its exit code.

  An error ends it in one line, see `cli.one_line_errors`.
  """
  streams.protect()
  if name in (DEFAULT, "evaluate"):
    interrupts.begin()
  from absl import app
  from absl import flags
  from absl import logging

  # `python -m` may have imported them before, with the streams of that time.
  logging.get_absl_handler().python_handler.stream = sys.stderr
  for handler in python_logging.root.handlers:
    if getattr(handler, "stream", None) is sys.__stderr__:
      handler.stream = sys.stderr  # Abseil removes it as its own.
  from imgbench import cli
  from imgbench.parallel import determinism

  with cli.one_line_errors():
    module = _module(COMMANDS[name].module)
    determinism.reset_prng()
    sys.argv = cli.read_flag_files(sys.argv)
    # absl's --help starts with this docstring.
    sys.modules["__main__"].__doc__ = module.__doc__
    before = set(flags.FLAGS)
    if hasattr(module, "define_flags_for"):
      module.define_flags_for(flags.FLAGS, sys.argv)
    else:
      module.define_flags(flags.FLAGS)
    cli.define_traceback_flag(flags.FLAGS)
    for flag in sorted(set(flags.FLAGS) - before):
      # --help lists only key flags of this module; its flags may be of others.
      flags.FLAGS.register_key_flag_for_module(sys.argv[0], flags.FLAGS[flag])
    parse = getattr(module, "parse_flags", None) or functools.partial(
      cli.parse_flags, required=module.REQUIRED
    )
    app.run(module.main, flags_parser=parse)


def _module(name: str):
  """Returns the module, which may be the running __main__."""
  spec = getattr(sys.modules["__main__"], "__spec__", None)
  # In a checkout, `python -m experiments.NAME` runs it under this name.
  if spec is not None and spec.name in (name, name.removeprefix("imgbench.")):
    return sys.modules["__main__"]
  return importlib.import_module(name)


def main() -> None:
  """Runs the console script `imgbench`: NAME and flags; default: train."""
  streams.protect()
  words = sys.argv[1:3]
  if words[:1] in (["--help"], ["-h"], ["help"]):
    print(format_usage())
    return
  if words[:1] == ["--version"]:
    print(f"imgbench {imgbench.__version__}")
    return
  for count in (2, 1):
    name = " ".join(words[:count])
    if name in COMMANDS:
      # Logs and results show the command as typed.
      sys.argv = [f"{sys.argv[0]} {name}", *sys.argv[1 + len(name.split()) :]]
      start(name)
      return
  if words and not words[0].startswith("-"):
    near = registry.near_names(words[0], COMMANDS)
    error = errors.InputError("COMMAND", "a known command", words[0], near)
    print(f"imgbench: error: {error}", file=sys.stderr)
    sys.exit(errors.EXIT_USAGE)
  start(DEFAULT)


def format_usage() -> str:
  """Returns the command table as text."""
  width = max(map(len, COMMANDS))
  lines = [f"  {c.name:{width}}  {c.help}" for c in COMMANDS.values()]
  return "\n".join(
    [
      "usage: imgbench COMMAND [flags]; without COMMAND: train",
      "",
      *lines,
      "",
      "imgbench COMMAND --help lists the flags of a command.",
    ]
  )
