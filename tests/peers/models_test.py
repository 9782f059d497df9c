"""Tests that models equal torchvision's and timm's: same weights, same logits.

This detects an extra layer, or another size, stride, padding or epsilon. The
other models get our tanh form of GELU.
"""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imgbench import models

pytestmark = [
  pytest.mark.peers,
  # The libraries' own warnings.
  pytest.mark.filterwarnings("ignore:.*torch:DeprecationWarning"),
]

INOUT = {"1": "in", "2": "out"}
STAGE = lambda m: f"stage{int(m[1])}_block{int(m[2]) + 1}/"


def convnext_block(match):
  part = {"0": "depthwise", "2": "norm", "3": "mlp/in", "5": "mlp/out"}
  block = f"stage{(int(match[1]) + 1) // 2}_block{int(match[2]) + 1}/"
  return block + (part[match[4]] if match[4] else "branch")


def convnext_between(match):
  return f"stage{int(match[1]) // 2 + 1}_" + ("norm", "patches")[int(match[2])]


def efficientnet_block(match):
  # The first stage does not widen.
  parts = ["expand", "depthwise", "squeeze", "project"][match[1] == "1" :]
  part, rest = parts[int(match[3])], match[4]
  if part == "squeeze":
    return STAGE(match) + "squeeze/" + {"fc1": "in", "fc2": "out"}[rest]
  conv = "depthwise" if part == "depthwise" else f"{part}_conv"
  return STAGE(match) + (conv, f"{part}_norm")[int(rest)]


RESNET = [
  (r"conv1", "stem_conv"),
  (r"bn1", "stem_norm"),
  (r"layer(\d)\.(\d+)\.conv(\d)", lambda m: f"{STAGE(m)}conv{m[3]}"),
  (r"layer(\d)\.(\d+)\.bn(\d)", lambda m: f"{STAGE(m)}norm{m[3]}"),
  (
    r"layer(\d)\.(\d+)\.downsample\.(\d)",
    lambda m: STAGE(m) + ("shortcut_conv", "shortcut_norm")[int(m[3])],
  ),
  (r"fc", "head/dense"),
]
CONVNEXT = [
  (r"features\.0\.0", "stem"),
  (r"features\.0\.1", "stem_norm"),
  (r"features\.([1357])\.(\d+)(\.block\.(\d))?", convnext_block),
  (r"features\.([246])\.(\d)", convnext_between),
  (r"classifier\.0", "norm"),
  (r"classifier\.2", "head/dense"),
]
EFFICIENTNET = [
  (r"features\.0\.(\d)", lambda m: ("stem_conv", "stem_norm")[int(m[1])]),
  (r"features\.8\.(\d)", lambda m: ("last_conv", "last_norm")[int(m[1])]),
  (r"features\.(\d)\.(\d)\.block\.(\d)\.(\w+)", efficientnet_block),
  (r"classifier\.1", "head/dense"),
]
MIXER = [
  (r"stem\.proj", "patches"),
  (r"blocks\.(\d+)\.norm(\d)", lambda m: f"block{int(m[1]) + 1}/norm{m[2]}"),
  (
    r"blocks\.(\d+)\.mlp_(token|channel)s\.fc(\d)",
    lambda m: f"block{int(m[1]) + 1}/{m[2]}_mlp/{INOUT[m[3]]}",
  ),
  (r"norm", "norm"),
  (r"head", "head/dense"),
]
SIDE = 64
# Our name -> library, name there, rules for names, settings there.
CASES = {
  "resnet18": ("torchvision", "resnet18", RESNET, {}),
  "resnet50": ("torchvision", "resnet50", RESNET, {}),
  "convnext_t": ("torchvision", "convnext_tiny", CONVNEXT, {}),
  "efficientnet_b0": ("torchvision", "efficientnet_b0", EFFICIENTNET, {}),
  "mlp_mixer_b16": (
    "timm",
    "mixer_b16_224",
    MIXER,
    dict(img_size=SIDE),
  ),
}


@pytest.fixture(name="torch", scope="module")
def torch_module():
  """PyTorch, with the operators that torchvision's import asks for."""
  torch = pytest.importorskip("torch")
  library = torch.library.Library("torchvision", "FRAGMENT")
  for name in ("nms", "qnms"):
    library.define(
      f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
    )
  yield torch
  del library


def make_variables(model):
  """Noise on every number: ones and zeros would hide mistakes."""
  rng = np.random.default_rng(0)

  def fill(path, leaf):
    name = path[-1].key
    if name == "var":
      return rng.uniform(0.5, 2.0, leaf.shape)
    scale = 0.2 if name != "kernel" else np.prod(leaf.shape[:-1]) ** -0.5
    return rng.normal(scale=scale, size=leaf.shape) + (name == "scale")

  shapes = jax.eval_shape(model.init, jax.random.key(0))
  filled = jax.tree_util.tree_map_with_path(fill, shapes)
  return jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), filled)


def by_path(tree):
  leaves = jax.tree_util.tree_leaves_with_path(tree)
  return {"/".join(p.key for p in path): leaf for path, leaf in leaves}


def translate(name, rules):
  """Returns our module for a tensor of the other model, and its last part."""
  module, _, leaf = name.rpartition(".")
  for pattern, to in rules:
    if re.fullmatch(pattern, module):
      return re.sub(pattern, to, module), leaf
  raise AssertionError(f"no rule for {name}")


def weights(variables, peer, rules, torch):
  """Returns our variables as the other model's state, each used once."""
  ours = by_path(variables["params"]) | by_path(
    variables.get("batch_stats", {})
  )
  state = {}
  for name, tensor in peer.state_dict().items():
    module, leaf = translate(name, rules)
    if leaf == "num_batches_tracked":
      state[name] = tensor
      continue
    names = {"layer_scale": ["_scale"], "weight": ["/kernel", "/scale"]}
    names |= {"bias": ["/bias"], "running_mean": ["/mean"]}
    names |= {"running_var": ["/var"]}
    (path,) = [module + end for end in names[leaf] if module + end in ours]
    array = np.array(ours.pop(path))
    if path.endswith("kernel"):  # Outputs and inputs come first.
      array = np.moveaxis(array, (-1, -2), (0, 1))
    array = np.ascontiguousarray(array).reshape(tuple(tensor.shape))
    state[name] = torch.from_numpy(array)
  assert not ours
  return state


@pytest.mark.parametrize("name", sorted(CASES))
def test_same_weights_give_the_same_logits(name, torch):
  library, peer_name, rules, settings = CASES[name]
  library = pytest.importorskip(library)
  build = (
    library.create_model
    if library.__name__ == "timm"
    else library.models.get_model
  )
  peer = build(peer_name, num_classes=7, **settings)
  for module in peer.modules():
    if isinstance(module, torch.nn.GELU):
      module.approximate = "tanh"
  model = models.build_model(
    name,
    num_classes=7,
    image_shape=(SIDE, SIDE, 3),
    dtype=jnp.float32,
  )
  variables = make_variables(model)
  peer.load_state_dict(weights(variables, peer, rules, torch))
  images = np.random.default_rng(1).normal(size=(2, SIDE, SIDE, 3))
  images = images.astype(np.float32)
  got, _ = jax.jit(model.apply, static_argnums=2)(variables, images, False)
  with torch.inference_mode():
    peer.eval()
    expected = peer(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
  expected = expected.numpy()
  # Float32 on both sides, through up to 80 layers.
  atol = 1e-3 * np.ptp(expected)
  np.testing.assert_allclose(got, expected, rtol=0, atol=atol)
