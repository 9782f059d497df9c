"""Evaluates a checkpoint of a run on its own and further sets.

imgbench evaluate runs/demo --workdir=runs/evaluated

--config.evaluation.sets.clean.split=train[:100] adds a set, with its other keys
alike, and --config.evaluation.sets.clean= removes one.

RUN is the newest checkpoint, RUN@STEP that of a step. --from=FILE are weights
of --model=NAME, such as timm/resnet50.a1_in1k, which are evaluated on all
ImageNet sets beside their published top-1 (docs/weights.md). Nothing is
trained, and the folder of the run is only read. The config is
configs/evaluate.py:from=RUN; its values are overridden with
--config.section.key=value. Exit codes: those of train.
"""

from absl import flags
from ml_collections import config_flags

from imgbench import cli
from imgbench import commands
from imgbench import errors
from imgbench import main as main_lib

main = main_lib.main


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines the flags of train, --from and --model."""
  main_lib.define_flags(flag_values)
  text = "File or folder of weights, instead of RUN."
  flags.DEFINE_string("from", "", text, flag_values=flag_values)
  text = "Their name, see imgbench/weights/published.toml."
  flags.DEFINE_string("model", "", text, flag_values=flag_values)


def parse_flags(argv: list[str]) -> list[str]:
  """Parses the flags; the first argument is the run, from which --config is."""
  weights = cli.peek(argv, "from", "model")
  named = cli.name_argument(argv, "config", "evaluate:from=")
  if named != argv and (weights["from"].value or weights.model):
    expected = "RUN alone, or --from and --model without it"
    raise errors.InputError("RUN", expected, repr(argv[1]))
  if named == argv and weights["from"].value:
    option = f"evaluate:model={weights.model},from={weights['from'].value}"
    named = [argv[0], f"--config={option}", *argv[1:]]
  remaining = cli.parse_flags(named, required=("workdir",))
  config = flags.FLAGS["config"]
  if named == argv or config.present > 1:
    given = "--config" if config.present else "none"
    raise errors.InputError("RUN", "RUN or RUN@STEP first", given, "see --help")
  for key in config_flags.get_override_values(config):
    if key == "steps.total" or key.startswith("init."):
      fix = "nothing is trained; leave it out"
      raise errors.InputError(f"--config.{key}", "no value", "one", fix)
  return remaining


if __name__ == "__main__":
  commands.start("evaluate")
