"""The accelerator benchmark: what is measured, and how.

Command: imgbench bench --config=configs/bench.py:quick --out=DIR
Options (after a colon): `quick`, two small models at 32 pixels; `full`, ten
models in two dtypes and three batch sizes, with PyTorch where it is installed;
`accelerator`, what the accelerator suite measures first (docs/accelerator.md);
`rehearsal`, the same on a CPU in tiny sizes; `cudnn`, beside `accelerator`:
ViT-S/16 with attention by cuDNN.
Without one: ResNet-50 and ViT-S/16 at 224 pixels in batches of 32.
Hardware and time: any that JAX runs on; `quick` is made for 5 minutes on 2 CPU
cores, `full` for some hours on an accelerator.
Result: rows.jsonl, rows.csv, environment.json and config.json in DIR, which
`imgbench.bench.report` and `imgbench.bench.compare` read; see docs/bench.md.

Points are all combinations of the lists at the top; where a model has an entry
in `per_model`, its lists stand in their place. Several names are given on the
command line as --config.models=resnet18,vit_ti16.
"""

import ml_collections

from imgbench.configs import common

IMAGENET_MODELS = (
  "resnet18",
  "resnet50",
  "vit_ti16",
  "vit_s16",
  "vit_b16",
  "vit_l16",
  "convnext_t",
  "efficientnet_b0",
  "mlp_mixer_b16",
)


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  options = common.parse_options(
    arg,
    quick=False,
    full=False,
    accelerator=False,
    rehearsal=False,
    cudnn=False,
  )
  config = ml_collections.ConfigDict()
  config.plugins = ()  # modules that register models, imported first
  # What is measured: each combination is a point.
  config.models = ("resnet50", "vit_s16")
  config.tasks = ("train", "infer", "eval")
  config.batch_sizes = (32,)  # global
  config.image_sizes = (224,)
  config.dtypes = ("float32",)
  # As jax_default_matmul_precision. bfloat16 has "default" only.
  config.matmul_precisions = ("default",)
  # "same": as the matrix products; of JAX both have one setting.
  config.conv_precisions = ("same",)
  config.strategies = ("jit",)  # pmap; fsdp: jit with the state cut
  config.devices = (0,)  # 0: all there are
  config.data = ("device",)  # host: from its memory; tfds: decoded
  # torch-eager, torch-compile: one device, train and infer, data on it.
  config.frameworks = ("imgbench", "torch-eager")
  # model -> other values of the lists batch_sizes, image_sizes, tasks, dtypes.
  config.per_model = ml_collections.ConfigDict()
  config.fit_batch = False  # halve a batch until it fits into memory
  config.recipe = _recipe()
  # Seconds and counts of one process, see imgbench.bench.measure.Plan.
  config.timing = dict(
    warmup_steps=2,
    latency_s=2.0,
    least_steps=5,
    most_steps=200,
    round_s=1.0,
    rounds=3,
    in_flight=8,
  )
  # A point is measured in `processes` fresh processes, and then in more until
  # its interval is no wider than `relative_width` of the median, or there are
  # `most_processes`, or row_s seconds are over.
  config.sampling = dict(
    processes=5,
    most_processes=15,
    relative_width=0.05,
    row_s=600.0,
    process_s=900.0,  # a process that takes longer is ended
    memory_bytes=0,  # address space that a process may have; 0: no limit
    stopped_processes=0,  # that make a row of a point that is stopped; 0: none
  )
  # Compiled programs are kept for the processes of a point, so that compiling
  # is measured without and with them; False: each process compiles.
  config.compile_cache = True
  # Sizes: 0 chooses by platform.
  config.micro = dict(
    names=(
      "matmul",
      "memory_copy",
      "host_to_device",
      "device_to_host",
      "all_reduce",
      "dispatch",
    ),
    matmul_size=0,
    copy_mib=0,
    transfer_mib=0,
  )
  # Another config file (options after a colon) that is trained `runs` times,
  # with seeds from `seed` on, until `metric` reaches `target`; "": none.
  config.time_to_accuracy = dict(
    config="",
    metric="test/top1_accuracy",
    target=0.0,
    runs=5,
    seed=0,
    run_s=86400.0,  # a run that takes longer is ended
    overrides=(),  # of that config, such as "data.data_dir=DIR"
  )
  if options.quick:
    _make_quick(config)
  if options.full:
    _make_full(config)
  if options.accelerator or options.rehearsal:
    _make_accelerator(config)
  if options.rehearsal:
    _make_rehearsal(config)
  if options.cudnn:
    config.models = ("vit_s16",)
    config.frameworks = ("imgbench",)
    config.recipe.model_settings.vit_s16 = dict(attention="cudnn")
    config.micro.names = ()
  return config


def _recipe() -> ml_collections.ConfigDict:
  """Returns the recipe of all steps, ours and the baselines'."""
  recipe = ml_collections.ConfigDict()
  recipe.seed = 0
  recipe.num_classes = 1000
  # model -> settings of its builder; peers have no counterpart to them.
  recipe.model_settings = ml_collections.ConfigDict()
  recipe.augment = dict(
    mean=common.IMAGENET_MEAN, std=common.IMAGENET_STD, flip="random"
  )
  recipe.loss = dict(name="softmax", label_smoothing=0.1)
  recipe.ema = dict(decay=0.0)
  recipe.optim = dict(
    name="sgd", momentum=0.9, nesterov=True, weight_decay=5e-5
  )
  recipe.schedule = dict(name="constant", peak=1e-3)
  recipe.parallel = dict(batch_norm="global", microbatches=1)
  # Of data=tfds: a prepared set of images of many sizes.
  recipe.tfds = dict(name="", split="train", data_dir="", options={})
  return recipe


def _make_quick(config: ml_collections.ConfigDict) -> None:
  config.models = ("resnet18", "vit_ti16")
  config.image_sizes = (32,)
  config.batch_sizes = (16,)
  config.per_model.resnet18 = dict(tasks=("train", "eval"))
  config.per_model.vit_ti16 = dict(tasks=("train", "infer"))
  config.timing.update(
    latency_s=0.25, least_steps=4, most_steps=50, round_s=0.2, warmup_steps=1
  )
  config.sampling.update(
    most_processes=5, relative_width=0.1, row_s=60.0, process_s=120.0
  )
  config.micro.update(copy_mib=64, transfer_mib=32)


def _make_full(config: ml_collections.ConfigDict) -> None:
  config.models = (*IMAGENET_MODELS, "wide_resnet28_10")
  config.batch_sizes = (8, 64, 256)
  config.dtypes = ("float32", "bfloat16")
  config.frameworks = ("imgbench", "torch-eager", "torch-compile")
  config.per_model.wide_resnet28_10 = dict(image_sizes=(32,))
  config.fit_batch = True


def _make_accelerator(config: ml_collections.ConfigDict) -> None:
  """Few processes and short rounds: device time is what is scarce."""
  config.batch_sizes = (256,)
  config.dtypes = ("bfloat16",)
  config.tasks = ("train", "infer")
  config.devices = (1,)  # as PyTorch's
  config.frameworks = ("imgbench", "torch-compile")
  config.fit_batch = True
  config.timing.update(latency_s=0.5, most_steps=50, round_s=0.7)
  config.sampling.update(
    processes=2, most_processes=2, process_s=240.0, stopped_processes=1
  )
  config.per_model.wide_resnet28_10 = dict(image_sizes=(32,))


def _make_rehearsal(config: ml_collections.ConfigDict) -> None:
  config.models = ("resnet18", "vit_ti16")
  config.batch_sizes = (2,)
  config.image_sizes = (32,)
  config.dtypes = ("float32",)
  config.frameworks = ("imgbench", "torch-eager")
  config.timing.update(
    latency_s=0.05, least_steps=2, most_steps=4, round_s=0.05, warmup_steps=1
  )
  config.micro.update(copy_mib=8, transfer_mib=8, matmul_size=256)
