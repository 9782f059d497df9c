"""Stages of the accelerator suite: their commands, in order of value.

Every command is a program of this project that also runs alone. Benchmark rows
and CIFAR-10 runs are kept when a command is stopped; the tests and the metric
and input benchmarks start over.
"""

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
import os
import pathlib

import imgbench
from imgbench import run_files
from imgbench.bench import rows

ROOT = pathlib.Path(imgbench.__file__).parents[1]
MODELS = ("resnet50", "vit_s16")
# Measured later if there is time, then in other sizes.
OTHER_MODELS = (
  *("vit_b16", "convnext_t", "efficientnet_b0", "mlp_mixer_b16", "vit_l16"),
  *("resnet18", "vit_ti16", "wide_resnet28_10"),
)
TESTS = "correctness.xml"
METRICS = "metrics"
INPUT = "input_{name}"

Command = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Suite:
  """Settings shared by all stages.

  Attributes:
    work: folder for everything the stages write.
    tiny: whether to rehearse on a CPU, in tiny sizes.
    cifar10_dir, imagenet_dir: `data_dir` of the prepared sets; "": none.
    airbench: path of airbench94_muon.py; "": none.
  """

  work: pathlib.Path
  tiny: bool = False
  cifar10_dir: str = ""
  imagenet_dir: str = ""
  airbench: str = ""

  @property
  def bench(self) -> pathlib.Path:
    """Folder of the benchmark's rows."""
    return self.work / "bench"

  @property
  def bench_cudnn(self) -> pathlib.Path:
    """Folder of the benchmark's rows with cuDNN attention."""
    return self.work / "bench_cudnn"

  @property
  def cifar(self) -> pathlib.Path:
    """Folder of the runs to the target accuracy."""
    return self.work / "cifar"

  @property
  def environment(self) -> dict:
    """The benchmark's environment.json; {} before stage facts."""
    return run_files.read_json(self.bench / rows.ENVIRONMENT) or {}


@dataclasses.dataclass(frozen=True)
class SuiteStage:
  """One stage.

  Attributes:
    name: of its record.
    share: largest share of the budget, in (0, 1].
    commands: (suite, its seconds) -> module and arguments of each.
    missing: (suite) -> why it cannot run; "": it can.
  """

  name: str
  share: float
  commands: Callable[[Suite, float], Sequence[Command]]
  missing: Callable[[Suite], str] = lambda suite: ""


def make_relative(path: pathlib.Path) -> str:
  """Returns a path relative to the repository, where commands run.

  Results record their commands, which should have no absolute paths.
  """
  return os.path.relpath(path, ROOT)


def _plan_bench(suite: Suite, *arguments: str) -> Command:
  option = "rehearsal" if suite.tiny else "accelerator"
  return (
    "imgbench.bench",
    f"--config=configs/bench.py:{option}",
    f"--out={make_relative(suite.bench)}",
    *(f"--config.{argument}" for argument in arguments),
  )


def _plan_facts(suite: Suite, seconds: float) -> list[Command]:
  del seconds
  dtypes = "dtypes=bfloat16,float32"
  return [_plan_bench(suite, "models=()", dtypes, "frameworks=imgbench")]


def _plan_correctness(suite: Suite, seconds: float) -> list[Command]:
  del seconds
  return [
    (
      *("pytest", "-m", "accelerator", "tests/accelerator", "-q"),
      *("-p", "no:cacheprovider", f"--junitxml={suite.work / TESTS}"),
    )
  ]


def _plan_metrics(suite: Suite, seconds: float) -> list[Command]:
  del seconds
  sizes = ("--model=resnet50", "--step_batch=256", "--step_dtype=bfloat16")
  if suite.tiny:
    sizes = ("--model=resnet18", "--step_batch=2")
  rounds = 3 if suite.tiny else 15
  return [
    (
      *("imgbench.bench.metrics", "--examples=1000", "--rounds=1", "--nopeers"),
      *(
        *sizes,
        f"--step_rounds={rounds}",
        f"--out={make_relative(suite.work / METRICS)}",
      ),
    )
  ]


def _plan_networks(suite: Suite, seconds: float) -> list[Command]:
  del seconds
  # Microbenchmarks have been measured by stage facts.
  found = [
    (*_plan_bench(suite, "tasks=train"), "--profile"),
    _plan_bench(suite, "tasks=infer"),
  ]
  if suite.environment.get("platform") == "gpu" and not suite.tiny:
    # Rows of a folder share the settings of their models.
    found.append(
      (
        "imgbench.bench",
        "--config=configs/bench.py:accelerator,cudnn",
        f"--out={make_relative(suite.bench_cudnn)}",
      )
    )
  return found


def _plan_cifar(suite: Suite, seconds: float) -> list[Command]:
  return [
    (
      "imgbench.experiments.accelerator.cifar",
      f"--data_dir={suite.cifar10_dir}",
      # It stops itself; its clock starts after the imports.
      f"--budget_s={max(seconds - 10, 10):.0f}",
      f"--airbench={suite.airbench}",
      f"--out={make_relative(suite.cifar)}",
      *(("--tiny", "--runs=2", "--target=0.1") if suite.tiny else ()),
    )
  ]


def _plan_input(
  suite: Suite, name: str, steps: int, config: str, *arguments: str
) -> Command:
  rounds, steps = (2, 2) if suite.tiny else (3, steps)
  return (
    "imgbench.bench.step",
    f"--config=configs/{config}",
    *(f"--rounds={rounds}", f"--steps={steps}", "--starts=0"),
    f"--out={make_relative(suite.work / INPUT.format(name=name))}",
    *(f"--config.{argument}" for argument in arguments),
  )


def _plan_input_cifar10(suite: Suite, seconds: float) -> list[Command]:
  del seconds
  config = "cifar10_fast.py" + ("" if suite.tiny else ":wide")
  return [
    _plan_input(
      suite, "cifar10", 200, config, f"data.data_dir={suite.cifar10_dir}"
    )
  ]


def _plan_input_imagenet(suite: Suite, seconds: float) -> list[Command]:
  del seconds
  data = f"data.data_dir={suite.imagenet_dir}"
  sizes = ("global_batch_size=256",)
  if suite.tiny:
    sizes = ("global_batch_size=4", "input.size=32", "model.name=resnet18")
  steps = ("steps.total=1000 steps", "schedule.warmup=10 percent")
  return [
    _plan_input(
      suite, "imagenet", 48, "imagenet_resnet50.py", data, *sizes, *steps
    )
  ]


def _plan_rest(suite: Suite, seconds: float) -> list[Command]:
  del seconds
  ours = "frameworks=imgbench"
  if suite.tiny:
    return [_plan_bench(suite, "models=resnet18", "tasks=eval", ours)]
  models = f"models={','.join(OTHER_MODELS)}"
  everything = f"models={','.join((*MODELS, *OTHER_MODELS))}"
  found = []
  if suite.environment.get("num_devices", 1) > 1:
    found.append(_plan_bench(suite, ours, "devices=0", "strategies=jit,fsdp"))
  return [
    *found,
    _plan_bench(suite, everything, ours, "tasks=eval"),
    _plan_bench(suite, models, ours),
    _plan_bench(suite, models),
    _plan_bench(suite, everything, "dtypes=float32"),
    _plan_bench(suite, everything, "batch_sizes=64,8"),
  ]


def _needs_device(suite: Suite) -> str:
  if suite.environment:
    return ""
  return "unknown device: stage facts wrote no environment.json"


def _needs_cifar10(suite: Suite) -> str:
  return "" if suite.cifar10_dir else "no CIFAR-10: give --cifar10_dir or --kit"


def _needs_imagenet(suite: Suite) -> str:
  if suite.imagenet_dir:
    return ""
  return "no prepared ImageNet: give --imagenet_dir, or a --kit that has one"


STAGES = (
  SuiteStage("facts", 0.15, _plan_facts),
  SuiteStage("correctness", 0.15, _plan_correctness, _needs_device),
  SuiteStage("metrics", 0.12, _plan_metrics),
  SuiteStage("networks", 0.45, _plan_networks),
  SuiteStage("cifar", 0.35, _plan_cifar, _needs_cifar10),
  SuiteStage("input_cifar10", 0.12, _plan_input_cifar10, _needs_cifar10),
  SuiteStage("input_imagenet", 0.18, _plan_input_imagenet, _needs_imagenet),
  SuiteStage("rest", 1.0, _plan_rest),
)
