"""Tests of weights of other libraries: names, files, bad input."""

import pathlib
import pickle
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imgbench import errors
from imgbench import models
from imgbench.weights import convert
from imgbench.weights import files
from imgbench.weights import maps
from tests import raising
from tests.train import processes

SMALL = dict(width=16, depth=2)
# A model for each map, as small as its settings allow.
MODELS = {
  "resnet": ("resnet50", {"width": 4}),
  "torchvision_convnext": (
    "convnext_t",
    dict(widths=(4, 8, 8, 8), stage_sizes=(1, 2, 1, 1)),
  ),
  "efficientnet": ("efficientnet_b0", {}),
  "mixer": ("mlp_mixer_s16", SMALL),
}
MODELS["timm_convnext"] = MODELS["torchvision_convnext"]


def find_shapes(section: str):
  """Returns name and shapes of a model for a map."""
  name, settings = MODELS.get(section, ("vit_ti16", SMALL | {"num_heads": 2}))
  model = models.build_model(
    name,
    num_classes=5,
    image_shape=(64, 64, 3),
    dtype=jnp.float32,
    **maps.MAPS[section].settings,
    **settings,
  )
  return name, jax.eval_shape(model.init, jax.random.key(0))


def make_arrays(section: str):
  """Returns random variables and the library's arrays of them."""
  rng = np.random.default_rng(0)
  _, shapes = find_shapes(section)
  draw = lambda leaf: rng.normal(size=leaf.shape).astype(np.float32)
  variables = jax.tree.map(draw, shapes)
  arrays = convert.invert(variables, maps.MAPS[section], num_heads=2)
  return variables, arrays


def read(arrays, section: str, **options):
  name, shapes = find_shapes(section)
  names = convert.choose(arrays, name)
  assert names == maps.MAPS[section]
  return convert.convert(arrays, names, shapes, num_heads=2, **options)


@pytest.mark.parametrize("section", maps.MAPS)
def test_every_parameter_has_a_name_and_comes_back(section):
  variables, arrays = make_arrays(section)
  found = read(arrays, section)
  jax.tree.map(np.testing.assert_array_equal, found, variables)
  counted = [a for name, a in arrays.items() if "num_batches" not in name]
  sizes = sum(leaf.size for leaf in jax.tree.leaves(variables))
  assert sum(array.size for array in counted) == sizes


def test_layouts_by_hand():
  """Kernels have outputs first; query, key and value are one array."""
  variables, arrays = make_arrays("timm_vit")
  params = variables["params"]
  attention = params["block2"]["attention"]
  qkv, bias = (arrays[f"blocks.1.attn.qkv.{n}"] for n in ("weight", "bias"))
  for index, name in enumerate(("query", "key", "value")):
    rows = slice(16 * index, 16 * (index + 1))
    np.testing.assert_array_equal(qkv[rows], attention[name]["kernel"].T)
    np.testing.assert_array_equal(bias[rows], attention[name]["bias"])
  patches = params["patches"]["kernel"]
  found = arrays["patch_embed.proj.weight"]
  assert found[3, 1, 5, 7] == patches[5, 7, 1, 3]
  assert arrays["pos_embed"].shape == (1, 17, 16)


def make_big_vision(width: int, heads: int, depth: int, section: str):
  """Returns arrays by the names of big_vision's models/vit.py (0b73d7b)."""
  rng = np.random.default_rng(1)
  shapes = {
    "embedding": ((16, 16, 3, width), (width,)),
    "head": ((width, 5), (5,)),
  }
  single = {}
  if section == "big_vision_plain":  # rep_size, posemb="sincos2d"
    shapes["pre_logits"] = ((width, width), (width,))
  else:
    single["pos_embedding"] = (1, 16, width)
  norms = ["Transformer/encoder_norm"]

  def add_block(prefix, norm_count):
    mha = f"{prefix}/MultiHeadDotProductAttention_0"
    apart = (heads, width // heads)
    for name in ("query", "key", "value"):
      shapes[f"{mha}/{name}"] = ((width, *apart), apart)
    shapes[f"{mha}/out"] = ((*apart, width), (width,))
    shapes[f"{prefix}/MlpBlock_0/Dense_0"] = ((width, 64), (64,))
    shapes[f"{prefix}/MlpBlock_0/Dense_1"] = ((64, width), (width,))
    norms.extend(f"{prefix}/LayerNorm_{i}" for i in range(norm_count))

  for index in range(depth):
    add_block(f"Transformer/encoderblock_{index}", 2)
  if section == "big_vision_map":
    add_block("MAPHead_0", 1)
    single["MAPHead_0/probe"] = (1, 1, width)
  for name, (kernel, bias) in shapes.items():
    single |= {f"{name}/kernel": kernel, f"{name}/bias": bias}
  for name in norms:
    single |= {f"{name}/scale": (width,), f"{name}/bias": (width,)}
  return {
    f"params/{name}": rng.normal(size=shape).astype(np.float32)
    for name, shape in single.items()
  }


@pytest.mark.parametrize("scan", [False, True])
@pytest.mark.parametrize(
  "section", [name for name, names in maps.MAPS.items() if not names.torch]
)
def test_big_vision_files_are_used_whole(tmp_path, section, scan):
  arrays = make_big_vision(16, 2, 2, section)
  written = dict(arrays)
  if scan:
    for name in [n for n in written if "encoderblock_0" in n]:
      both = [written.pop(name.replace("_0/", f"_{i}/", 1)) for i in (0, 1)]
      written[name.replace("block_0/", "block/")] = np.stack(both)
  path = tmp_path / "vit.npz"
  np.savez(path, **written, **{"opt/0/count": np.int32(1)})
  found = read(files.read_file(path), section)
  params = found["params"]
  block = "params/Transformer/encoderblock_1"
  kernel = arrays[f"{block}/MultiHeadDotProductAttention_0/value/kernel"]
  np.testing.assert_array_equal(
    params["block2"]["attention"]["value"]["kernel"], kernel.reshape(16, 16)
  )
  total = sum(array.size for array in arrays.values())
  assert sum(leaf.size for leaf in jax.tree.leaves(found)) == total
  # Two heads of 8 features are not four of 4.
  name, shapes = find_shapes(section)
  with pytest.raises(errors.InputError, match="of another shape"):
    convert.convert(
      files.read_file(path),
      maps.MAPS[section],
      shapes,
      4,
    )


def test_a_skipped_head_may_be_missing_or_of_other_classes():
  variables, arrays = make_arrays("resnet")
  del arrays["fc.bias"]
  with pytest.raises(errors.InputError) as caught:
    read(arrays, "resnet")
  assert caught.value.given == "1 missing: fc.bias"
  arrays["fc.weight"] = arrays["fc.weight"][:3]
  found = read(arrays, "resnet", skip=["head/.*"])
  assert set(variables["params"]) - set(found["params"]) == {"head"}


def test_errors_list_missing_surplus_and_misshaped_nearest_first():
  _, arrays = make_arrays("resnet")
  arrays["layer1.0.convolution1.weight"] = arrays.pop("layer1.0.conv1.weight")
  del arrays["bn1.bias"]
  arrays["fc.bias"] = arrays["fc.bias"][:3]
  with pytest.raises(errors.InputError, check=raising.about("weights")) as got:
    read(arrays, "resnet")
  missing, shapes, surplus = got.value.given.split("; ")
  assert re.match(r"2 missing: layer1.0.conv1.weight \(.*\), bn1.bias", missing)
  assert shapes.endswith("fc.bias [3] instead of [5]")
  assert surplus == "1 left over: layer1.0.convolution1.weight"


def test_another_architecture_is_refused():
  _, arrays = make_arrays("timm_vit")
  with pytest.raises(errors.InputError, check=raising.about("weights")) as got:
    convert.choose(arrays, "resnet50")
  assert "conv1.weight" in got.value.expected
  _, shapes = find_shapes("timm_convnext")
  with pytest.raises(errors.InputError):
    convert.invert(shapes, maps.MAPS["resnet"])
  with pytest.raises(errors.InputError):
    convert.choose(arrays, "cnn")


def test_parity_refuses_a_document_before_it_compares(tmp_path):
  path = tmp_path / "weights.md"
  path.write_text("no marks")
  for out in (path, tmp_path / "absent.md"):
    args = ("-m", "imgbench", "weights-parity", f"--out={out}")
    done = processes.run_python(*args)
    assert done.returncode == errors.EXIT_USAGE
    assert str(out) in done.stderr and len(done.stderr.splitlines()) == 1


def test_parameters_of_pytorch_are_read_without_their_gradients(tmp_path):
  torch = pytest.importorskip("torch")
  weight = torch.nn.Parameter(torch.ones(2, 3))
  torch.save({"weight": weight}, tmp_path / "w.pth")
  assert files.read_file(tmp_path / "w.pth")["weight"].shape == (2, 3)


def write_safetensors(path: pathlib.Path, **arrays) -> pathlib.Path:
  package = pytest.importorskip("safetensors.numpy")
  package.save_file(arrays, path)
  return path


class Code:
  """A pickle that runs a command."""

  def __reduce__(self):
    return print, ("run",)


def test_bad_files_are_one_clear_line(tmp_path, monkeypatch):
  good = write_safetensors(
    tmp_path / "model.safetensors", a=np.ones(3, np.float32), n=np.array(0)
  )
  whole = good.read_bytes()
  # Of a folder, the file of a known name is read.
  assert files.read_file(tmp_path)["a"].tolist() == [1, 1, 1]
  bad = {}
  for name, data in (
    ("cut.safetensors", whole[:-3]),
    ("empty.safetensors", b""),
    ("long.safetensors", b"\xff" * 8 + whole),
    ("cut.npz", b"PK\3\4"),
    ("weights.h5", whole),
  ):
    bad[name] = tmp_path / name
    bad[name].write_bytes(data)
  bad["absent"] = tmp_path / "absent.npz"
  np.savez(tmp_path / "code.npz", a=np.array([Code()], object))
  bad["code.npz"] = tmp_path / "code.npz"
  bad["folder"] = tmp_path / "folder"
  bad["folder"].mkdir()
  for dtype in (np.float16, np.float64, jnp.bfloat16):
    path = tmp_path / f"{np.dtype(dtype)}.safetensors"
    bad[path.name] = write_safetensors(path, b=np.ones(3, dtype))
  (tmp_path / "model.pth").write_bytes(pickle.dumps(Code()))
  bad["model.pth"] = tmp_path / "model.pth"
  monkeypatch.setitem(sys.modules, "torch", None)
  for path in bad.values():
    with pytest.raises(
      errors.InputError, check=raising.about(str(path))
    ) as caught:
      files.read_file(path)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
    if path.stem in ("float16", "bfloat16", "float64"):
      assert caught.value.given == f"{path.stem} in b"
    if path.suffix == ".pth":
      assert "torch" in caught.value.expected
