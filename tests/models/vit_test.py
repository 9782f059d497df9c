"""Tests of Vision Transformers: counts, a NumPy twin, types, symmetries."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imgbench import errors
from imgbench import models
from imgbench import optim
from imgbench import parallel
from imgbench.models import base
from imgbench.models import vit
from tests import raising

TINY = dict(width=16, depth=2, num_heads=2, patch_size=4, zero_head=False)


def build(name="vit_s16", dtype=jnp.float32, shape=(8, 12, 3), **settings):
  return models.build_model(
    name,
    num_classes=5,
    image_shape=shape,
    dtype=dtype,
    **{**TINY, **settings},
  )


def make_images(batch=3, shape=(8, 12, 3), dtype=jnp.float32):
  return jax.random.normal(jax.random.key(1), (batch, *shape), dtype)


def make_variables(model, seed=0):
  """Noise on every number: the zeros of an initial state hide mistakes."""
  rng = np.random.default_rng(seed)

  def fill(path, leaf):
    noise = rng.normal(scale=0.4, size=leaf.shape)
    return jnp.asarray(noise + (path[-1].key == "scale"), jnp.float32)

  shapes = jax.eval_shape(model.init, jax.random.key(0))
  return jax.tree_util.tree_map_with_path(fill, shapes)


def evaluate(model, variables, images):
  return jax.jit(model.apply, static_argnums=2)(variables, images, False)[0]


def num_params(name, **settings):
  model = models.build_model(
    name,
    num_classes=1000,
    image_shape=(224, 224, 3),
    dtype=jnp.float32,
    **settings,
  )
  return base.num_params(jax.eval_shape(model.init, jax.random.key(0)))


# Those of the first paper's networks at 224 pixels and 1,000 classes, as timm
# and torchvision (B and L) state them.
@pytest.mark.parametrize(
  ("name", "width", "depth", "published"),
  [
    ("vit_ti16", 192, 12, 5_717_416),
    ("vit_s16", 384, 12, 22_050_664),
    ("vit_b16", 768, 12, 86_567_656),
    ("vit_l16", 1024, 24, 304_326_632),
  ],
)
def test_parameter_counts_are_those_published(name, width, depth, published):
  linear = lambda inputs, outputs: (inputs + 1) * outputs
  block = (
    4 * linear(width, width)
    + linear(width, 4 * width)
    + linear(4 * width, width)
    + 2 * 2 * width
  )
  patches, head = linear(16 * 16 * 3, width), linear(width, 1000)
  plain = patches + depth * block + 2 * width + head
  learned = (14 * 14 + 1) * width
  assert plain + width + learned == published
  assert num_params(name, pooling="token", posemb="learn") == published
  # The default has neither a class token nor trained positions.
  assert num_params(name) == plain
  assert num_params(name, pre_logits=True) == plain + linear(width, width)


def twin(params, images, num_heads, patch_size, pooling, posemb):
  """The network in float64, an image and a head after the other."""
  params = jax.tree.map(lambda p: np.asarray(p, np.float64), params)
  dense = lambda p, x: x @ p["kernel"] + p["bias"]

  def norm(p, x):
    centred = x - x.mean(-1, keepdims=True)
    scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
    return scaled * p["scale"] + p["bias"]

  def attention(p, x, queries=None):
    size = x.shape[-1] // num_heads
    parts = [dense(p[name], x) for name in ("query", "key", "value")]
    if queries is not None:
      parts[0] = dense(p["query"], queries)
    result = []
    for start in range(0, x.shape[-1], size):
      q, k, v = (part[:, start : start + size] for part in parts)
      weight = np.exp(q @ k.T / math.sqrt(size))
      result.append(weight / weight.sum(-1, keepdims=True) @ v)
    return dense(p["out"], np.concatenate(result, -1))

  def gelu(x):
    return x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))

  def positions(rows, cols):
    quarter = params["norm"]["scale"].size // 4
    frequencies = 1e4 ** (-np.arange(quarter) / (quarter - 1))
    return [
      [f(p * frequencies) for p in (col, row) for f in (np.sin, np.cos)]
      for row in range(rows)
      for col in range(cols)
    ]

  logits = []
  for image in np.asarray(images, np.float64):
    rows, cols = (side // patch_size for side in image.shape[:2])
    kernel = params["patches"]["kernel"]
    tokens = []
    for row in range(rows):
      for col in range(cols):
        top, left = row * patch_size, col * patch_size
        patch = image[top : top + patch_size, left : left + patch_size]
        tokens.append(np.tensordot(patch, kernel, 3))
    x = np.stack(tokens) + params["patches"]["bias"]
    if posemb == "sincos2d":
      x = x + np.reshape(positions(rows, cols), x.shape)
    if pooling == "token":
      x = np.concatenate([params["token"][0], x])
    if posemb == "learn":
      x = x + params["posemb"][0]
    for index in range(TINY["depth"]):
      p = params[f"block{index + 1}"]
      x = x + attention(p["attention"], norm(p["norm1"], x))
      hidden = gelu(dense(p["mlp"]["in"], norm(p["norm2"], x)))
      x = x + dense(p["mlp"]["out"], hidden)
    x = norm(params["norm"], x)
    if pooling == "map":
      p = params["pool"]
      x = attention(p["attention"], x, p["probe"][0])
      x = x + dense(
        p["mlp"]["out"], gelu(dense(p["mlp"]["in"], norm(p["norm"], x)))
      )
    x = x.mean(0) if pooling == "gap" else x[0]
    if "pre_logits" in params:
      x = np.tanh(dense(params["pre_logits"], x))
    logits.append(dense(params["head"]["dense"], x))
  return np.stack(logits)


@pytest.mark.parametrize("pooling", vit.POOLINGS)
@pytest.mark.parametrize("posemb", vit.POSITIONS)
def test_agrees_with_numpy(pooling, posemb):
  pre_logits = pooling == "gap" and posemb == "learn"
  settings = dict(pooling=pooling, posemb=posemb)
  model = build(**settings, pre_logits=pre_logits)
  variables = make_variables(model)
  images = make_images()
  got = evaluate(model, variables, images)
  expected = twin(variables["params"], images, 2, 4, **settings)
  np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)
  if pooling == "token":
    return
  # Half precision follows, within its 8 bits.
  half = build(**settings, pre_logits=pre_logits, dtype=jnp.bfloat16)
  rounded = evaluate(half, variables, images.astype(jnp.bfloat16))
  assert rounded.dtype == jnp.float32
  np.testing.assert_allclose(rounded, expected, atol=0.06 * np.ptp(expected))


def test_norms_of_weak_tokens():
  # Variances near 1e-6 show the norms' epsilon.
  model = build(posemb="learn")
  params = make_variables(model)["params"]
  for name in ("patches", "posemb"):
    params[name] = jax.tree.map(lambda leaf: 1e-3 * leaf, params[name])
  images = make_images()
  got = evaluate(model, {"params": params}, images)
  expected = twin(params, images, 2, 4, "gap", "learn")
  np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


def test_positions_by_hand():
  table = vit.sincos2d(2, 3, 8)
  assert table.shape == (6, 8) and table.dtype == np.float32
  # Row 1, column 2, at the frequencies 1 and 1e-4.
  waves = [
    f(p * w) for p in (2, 1) for f in (np.sin, np.cos) for w in (1, 1e-4)
  ]
  np.testing.assert_allclose(table[5], waves, rtol=1e-6)
  np.testing.assert_array_equal(table[0], [0, 0, 1, 1, 0, 0, 1, 1])


def shuffled_patches(images, size, order):
  batch, height, width, channels = images.shape
  rows, cols = height // size, width // size
  x = images.reshape(batch, rows, size, cols, size, channels)
  x = x.transpose(0, 1, 3, 2, 4, 5).reshape(batch, rows * cols, -1)[:, order]
  x = x.reshape(batch, rows, cols, size, size, channels)
  return x.transpose(0, 1, 3, 2, 4, 5).reshape(images.shape)


def test_only_positions_tell_the_order_of_patches():
  order = np.array([3, 1, 5, 0, 2, 4])
  images = make_images()
  shuffled = shuffled_patches(images, 4, order)
  for pooling in vit.POOLINGS:
    model = build(pooling=pooling, posemb="learn")
    variables = make_variables(model)

    def differ(model, variables):
      return np.abs(
        evaluate(model, variables, shuffled)
        - evaluate(model, variables, images)
      )

    assert differ(model, variables).max(axis=1).min() > 1e-2
    params = variables["params"]
    params = {**params, "posemb": jnp.zeros_like(params["posemb"])}
    assert differ(model, {"params": params}).max() < 1e-4
  fixed = build()
  assert differ(fixed, make_variables(fixed)).max(axis=1).min() > 1e-2


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_shapes_and_types_at_full_size(dtype):
  model = models.build_model(
    "vit_s16", num_classes=1000, image_shape=(224, 224, 3), dtype=dtype
  )
  variables = jax.eval_shape(model.init, jax.random.key(0))
  assert set(variables) == {"params"}
  assert {p.dtype for p in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
  images = jax.ShapeDtypeStruct((4, 224, 224, 3), dtype)
  for train in (False, True):
    logits, state = jax.eval_shape(
      lambda v, x, train=train: model.apply(v, x, train), variables, images
    )
    assert logits.shape == (4, 1000) and logits.dtype == jnp.float32
    assert state == {}


def test_softmax_is_in_float32_and_products_in_half_precision():
  model = build(depth=1, dtype=jnp.bfloat16)
  variables = jax.eval_shape(model.init, jax.random.key(0))
  images = jax.ShapeDtypeStruct((3, 8, 12, 3), jnp.bfloat16)
  text = str(
    jax.make_jaxpr(lambda v, x: model.apply(v, x, False))(variables, images)
  )
  exponentials = [line for line in text.splitlines() if "= exp " in line]
  products = [line for line in text.splitlines() if "dot_general[" in line]
  assert exponentials and all(":f32[" in line for line in exponentials)
  # Patches, and nine in the block: query, key and value are there in both
  # forms. The head is the only product in float32; those of queries and keys
  # are summed in it.
  halves = [line for line in products if ":bf16[" in line]
  assert len(products) == 1 + 9 + 1 and len(halves) == 1 + 8


def attention_gradients(dtype, attend=vit.attend):
  """Gradients of query, key and value, float32, of values rounded to dtype."""
  rng = np.random.default_rng(0)
  draw = lambda: jnp.asarray(rng.normal(size=(2, 3, 5, 4)), dtype)
  weight = jnp.cos(jnp.arange(4.0))[None, None, None]
  loss = lambda *x: (attend(*x).astype(jnp.float32) * weight).sum()
  grads = jax.jit(jax.grad(loss, (0, 1, 2)))(draw(), draw(), draw())
  assert all(grad.dtype == dtype for grad in grads)
  return [np.asarray(grad, np.float32) for grad in grads]


def test_no_gradient_of_half_precision_is_a_product_in_float32():
  array = jax.ShapeDtypeStruct((2, 3, 5, 4), jnp.bfloat16)
  loss = lambda *x: vit.attend(*x).astype(jnp.float32).sum()
  jaxpr = jax.make_jaxpr(jax.grad(loss, (0, 1, 2)))(array, array, array)
  products = [e for e in jaxpr.eqns if e.primitive.name == "dot_general"]
  dtypes = {v.aval.dtype for e in products for v in e.invars}
  assert len(products) == 6 and dtypes == {jnp.dtype("bfloat16")}


def test_gradients_of_attention():
  def plain(query, key, value):
    logits = jnp.einsum("bhqd,bhkd->bhqk", query, key) / 2
    return jax.nn.softmax(logits) @ value

  expected = attention_gradients(jnp.float32, plain)
  for dtype, tolerance in ((jnp.float32, 1e-5), (jnp.bfloat16, 0.02)):
    for got, wanted in zip(attention_gradients(dtype), expected, strict=True):
      error = np.linalg.norm(got - wanted) / np.linalg.norm(wanted)
      assert error < tolerance


def test_attention_by_cudnn_is_refused_without_a_gpu(monkeypatch):
  model = build(attention="cudnn", dtype=jnp.bfloat16)
  check = raising.about("attention", given="'cudnn'")
  with pytest.raises(errors.InputError, match="cpu", check=check):
    jax.eval_shape(model.init, jax.random.key(0))
  with pytest.raises(errors.InputError, match="cpu", check=check):
    model.attention()
  # Nor by JAX, on a GPU without cuDNN; "auto" takes the plain form there.
  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  no_library = "not (detected|found)"
  with pytest.raises(errors.InputError, match=no_library, check=check):
    model.attention()
  monkeypatch.setattr(vit, "_ON_GPUS", vit.CUDNN)
  assert build(dtype=jnp.bfloat16).attention() == "plain"
  # Where JAX lowers it, cuDNN is taken for half precision only.
  monkeypatch.setattr(
    vit, "_attend_by_cudnn", lambda q, k, v: _half_only(q) + k + v
  )
  assert build(dtype=jnp.bfloat16).attention() == "cudnn"
  assert build(dtype=jnp.float32).attention() == "plain"
  assert build(attention="plain", dtype=jnp.bfloat16).attention() == "plain"


def _half_only(x):
  if x.dtype != jnp.bfloat16:
    raise NotImplementedError(f"Q must be bf16,\ngot {x.dtype}")
  return x


@pytest.mark.parametrize(
  ("dtype", "tolerance"), [(jnp.float32, 1e-5), (jnp.bfloat16, 0.03)]
)
def test_forms_of_gpus_agree_with_those_of_cpus(monkeypatch, dtype, tolerance):
  """Joined query, key and value, and a barrier before GELU's gradient."""
  model = build(dtype=dtype)
  variables, images = make_variables(model), make_images(dtype=dtype)

  def results():
    logits = evaluate(model, variables, images)
    return [logits, *jax.tree.leaves(gradients(model, variables, images))]

  expected = results()
  jax.clear_caches()
  choose = lambda *args, cuda, default: cuda(*args)
  monkeypatch.setattr(jax.lax, "platform_dependent", choose)
  for got, wanted in zip(results(), expected, strict=True):
    error = np.linalg.norm(got - wanted)
    assert error <= tolerance * max(1.0, np.linalg.norm(wanted))


def test_evaluation_is_deterministic_and_each_image_its_own():
  model = build(dropout=0.5, drop_path=0.5)
  variables = make_variables(model)
  images = make_images(batch=6)
  whole = evaluate(model, variables, images)
  np.testing.assert_array_equal(whole, evaluate(model, variables, images))
  part = evaluate(model, variables, images[2:4])
  np.testing.assert_allclose(part, whole[2:4], rtol=1e-4, atol=1e-5)
  # Dropping has no parameters and no say in evaluation.
  np.testing.assert_array_equal(whole, evaluate(build(), variables, images))


def gradients(model, variables, images, *key):
  def loss(params):
    logits, _ = model.apply({"params": params}, images, True, *key)
    return jnp.sum(jnp.sin(logits + jnp.arange(5.0)[None]))

  return jax.jit(jax.grad(loss))(variables["params"])


@pytest.mark.parametrize("pooling", vit.POOLINGS)
def test_gradients_reach_every_parameter(pooling):
  model = build(depth=1, pooling=pooling, posemb="learn", pre_logits=True)
  grads = gradients(model, make_variables(model), make_images())
  largest = jax.tree_util.tree_map(lambda g: float(abs(g).max()), grads)
  # A key's bias adds the same to all scores of a query: no effect.
  for part in {"block1", "pool"} & set(largest):
    assert largest[part]["attention"]["key"].pop("bias") < 1e-5
  assert all(1e-4 < size < np.inf for size in jax.tree.leaves(largest))


def test_initial_scales():
  model = build(
    width=64,
    depth=1,
    num_heads=4,
    posemb="learn",
    pooling="token",
    zero_head=True,
  )
  params = jax.jit(model.init)(jax.random.key(0))["params"]
  std = lambda leaf: float(jnp.std(leaf))
  # Xavier's uniform has the variance 2 / (inputs + outputs).
  block = params["block1"]
  assert std(block["attention"]["query"]["kernel"]) == pytest.approx(
    math.sqrt(2 / 128), rel=0.05
  )
  assert std(block["mlp"]["in"]["kernel"]) == pytest.approx(
    math.sqrt(2 / 320), rel=0.05
  )
  assert std(params["patches"]["kernel"]) == pytest.approx(
    math.sqrt(1 / 48), rel=0.1
  )
  assert std(params["posemb"]) == pytest.approx(1 / 8, rel=0.15)
  assert (
    not params["token"].any() and not params["head"]["dense"]["kernel"].any()
  )


def test_dropping_needs_a_key_and_follows_it():
  model = build(dropout=0.2, drop_path=0.2)
  variables = make_variables(model)
  images = make_images()
  check = raising.about("dropout, drop_path, noise")
  with pytest.raises(errors.InputError, check=check):
    model.apply(variables, images, True)
  train = jax.jit(lambda key: model.apply(variables, images, True, key)[0])
  one, again = train(jax.random.key(0)), train(jax.random.key(0))
  np.testing.assert_array_equal(one, again)
  assert (one != train(jax.random.key(1))).any()


def test_drop_path_drops_whole_branches_of_examples():
  # The first of two blocks never skips; the last one skips each branch with
  # probability 1/2, and what stays counts scaled.
  model = build(drop_path=0.5)
  params = make_variables(model)["params"]
  images = jnp.repeat(make_images(batch=1), 64, axis=0)
  train = jax.jit(
    lambda p, key: model.apply({"params": p}, images, True, key)[0]
  )
  logits = train(params, jax.random.key(0))
  scaled = lambda tree, factor: jax.tree.map(lambda p: p * factor, tree)
  near = []
  for times in ((0, 0), (0, 2), (2, 0), (2, 2)):
    block = dict(params["block2"])
    for name, factor in zip(("attention", "mlp"), times, strict=True):
      block[name] = {**block[name], "out": scaled(block[name]["out"], factor)}
    fixed = {"params": {**params, "block2": block}}
    expected = evaluate(build(), fixed, images[:1])
    near.append(np.abs(logits - expected).max(axis=1) < 1e-3)
  assert (np.sum(near, axis=0) == 1).all()
  # 16 of 64 each; less than 5 is beyond three standard deviations.
  assert np.sum(near, axis=1).min() >= 5


def test_decay_is_for_kernels_only():
  model = build(pooling="token", posemb="learn", pre_logits=True)
  params = jax.eval_shape(model.init, jax.random.key(0))["params"]
  mask = jax.tree_util.tree_leaves_with_path(optim.decay_mask(params))
  decayed = {path[-1].key: value for path, value in mask}
  assert decayed.pop("kernel") and not any(decayed.values())
  assert set(decayed) == {"bias", "scale", "token", "posemb"}


def test_what_is_dropped_does_not_depend_on_the_devices():
  model = build(depth=1, drop_path=0.5, dropout=0.1)
  variables = make_variables(model)
  results = []
  for devices in (1, 8):
    strategy = parallel.create_strategy("jit", devices)
    train = strategy.jit(lambda v, x, key: model.apply(v, x, True, key)[0])
    images = strategy.shard_batch(np.asarray(make_images(batch=16)))
    variables = strategy.replicate(variables)
    results.append(train(variables, images, jax.random.key(0)))
  # Half a batch's products may be summed in another order.
  np.testing.assert_allclose(*results, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
  "settings, setting, given",
  [
    ({"patch_size": 5}, "patch_size", 5),
    ({"shape": (8, 10, 3)}, "patch_size", 4),
    ({"patch_size": 0}, "patch_size", 0),
    ({"pooling": "cls"}, "pooling", "'cls'"),
    ({"posemb": "rope"}, "posemb", "'rope'"),
    ({"attention": "x"}, "attention", "'x'"),
    ({"num_heads": 3}, "num_heads", 3),
    ({"width": 6}, "width", 6),
    ({"depth": 0}, "depth", 0),
    ({"mlp_ratio": 0}, "mlp_ratio", 0),
    ({"dropout": 1.0}, "dropout", 1.0),
    ({"drop_path": -0.1}, "drop_path", -0.1),
  ],
)
def test_bad_settings(settings, setting, given):
  check = raising.about(setting, given=given)
  with pytest.raises(errors.InputError, check=check):
    build(**settings)
