"""Tests of schedules and optimizers."""

import hypothesis
from hypothesis import strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest

from imgbench import errors
from imgbench import optim
from tests import raising


def values(schedule, *steps):
  return np.array([float(schedule(step)) for step in steps])


def test_constant():
  schedule = optim.build_schedule(
    "constant", peak=2.0, total_steps=10, warmup_steps=4
  )
  np.testing.assert_allclose(
    values(schedule, 0, 1, 2, 4, 9, 30), [0, 0.5, 1, 2, 2, 2]
  )
  flat = optim.build_schedule("constant", peak=2.0, total_steps=10)
  np.testing.assert_allclose(values(flat, 0, 5), [2, 2])


def test_warmup_cosine():
  schedule = optim.build_schedule(
    "warmup_cosine", peak=1.0, total_steps=110, warmup_steps=10, end=0.2
  )
  # Half way the cosine is in the middle of 1.0 and 0.2, at a quarter
  # (1 + cos 45 degrees) / 2 of the way above 0.2.
  quarter = 0.2 + 0.8 * (1 + np.sqrt(0.5)) / 2
  np.testing.assert_allclose(
    values(schedule, 0, 5, 10, 35, 60, 110, 500),
    [0, 0.5, 1, quarter, 0.6, 0.2, 0.2],
    rtol=1e-6,
  )


def test_a_schedule_knows_its_peak():
  schedule = optim.build_schedule("warmup_cosine", peak=0.7, total_steps=9)
  assert schedule.peak == 0.7 and schedule(0) == np.float32(0.7)


def test_piecewise_linear():
  triangle = optim.build_schedule(
    "piecewise_linear", peak=1.0, total_steps=100, warmup_steps=20
  )
  np.testing.assert_allclose(
    values(triangle, 0, 10, 20, 60, 100), [0, 0.5, 1, 0.5, 0], atol=1e-6
  )
  points = ((0.0, 0.2), (0.5, 1.0), (0.75, 0.1))
  schedule = optim.build_schedule(
    "piecewise_linear", peak=10.0, total_steps=100, points=points
  )
  np.testing.assert_allclose(
    values(schedule, 0, 25, 50, 75, 100), [2, 6, 10, 1, 1], rtol=1e-6
  )


def test_schedules_are_the_same_inside_jit():
  for name in optim.SCHEDULES:
    schedule = optim.build_schedule(
      name, peak=0.3, total_steps=7, warmup_steps=2
    )
    inside = [float(jax.jit(schedule)(jnp.int32(s))) for s in range(9)]
    np.testing.assert_allclose(inside, values(schedule, *range(9)), rtol=1e-6)


@pytest.mark.parametrize(
  "points",
  [
    [(0, 0.24), (199, 0.0)],
    [(0, 0.0), (20, 0.3), (199, 0.003)],
    [(0, 0.0), (7, 0.3), (199, 0.3)],
    [(0.1 * 197, 0.02), (0.37 * 197, 1.7), (0.9 * 197, 0.1)],
    [(3.3, 0.1), (11, 0.2), (29.7, 0.9), (61, 0.05), (150, 0.7)],
    [(50, 0.4)],
  ],
)
def test_straight_lines_have_the_bits_of_interp(points):
  schedule = optim._interpolated(points)
  at, values = (jnp.asarray(row, jnp.float32) for row in np.transpose(points))
  interp = jax.jit(lambda step: jnp.interp(jnp.float32(step), at, values))
  inside = jax.jit(schedule)
  text = inside.lower(jnp.int32(0)).as_text()
  assert "while" not in text
  for step in range(210):
    step = jnp.int32(step)
    expected = interp(step)
    assert inside(step) == expected and schedule(step) == expected


@pytest.mark.parametrize(
  ("name", "settings", "setting", "given"),
  [
    ("cosine", {}, "name", "'cosine'"),
    ("constant", {"end": 0.1}, "end", 0.1),
    ("constant", {"peak": 0.0}, "peak", 0.0),
    ("constant", {"total_steps": 0}, "total_steps", 0),
    ("warmup_cosine", {"warmup_steps": 11}, "warmup_steps", 11),
    ("warmup_cosine", {"end": 2.0}, "end", 2.0),
    (
      "piecewise_linear",
      {"points": ((0, 0), (2, 1))},
      "points",
      "((0, 0), (2, 1))",
    ),
    (
      "piecewise_linear",
      {"points": ((0.5, 0), (0.1, 1))},
      "points",
      "((0.5, 0), (0.1, 1))",
    ),
    (
      "piecewise_linear",
      {"points": ((0, 1), (1, 0)), "warmup_steps": 1},
      "warmup_steps",
      1,
    ),
  ],
)
def test_bad_schedules(name, settings, setting, given):
  settings = {"peak": 1.0, "total_steps": 10, **settings}
  check = raising.about(setting, given=given)
  with pytest.raises(errors.InputError, check=check):
    optim.build_schedule(name, **settings)


def make_params():
  keys = jax.random.split(jax.random.key(0), 4)
  return {
    "conv": {"kernel": jax.random.normal(keys[0], (3, 3, 4, 8))},
    "wide": {"kernel": jax.random.normal(keys[1], (1, 1, 4, 16))},
    "norm": {"scale": jnp.ones(8), "bias": jnp.full(8, 0.5)},
    "head": {"dense": {"kernel": jax.random.normal(keys[2], (8, 5))}},
    "stem_bias": jnp.ones(3),
  }


def make_grads(params, seed=1, scale=1.0):
  keys = iter(jax.random.split(jax.random.key(seed), 10))
  return jax.tree.map(
    lambda p: scale * jax.random.normal(next(keys), p.shape), params
  )


def constant(rate):
  return optim.build_schedule("constant", peak=rate, total_steps=10)


def one_update(tx, params, grads):
  return tx.update(grads, tx.init(params), params)[0]


def assert_close(one, other, **tolerance):
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, **tolerance), one, other
  )


@pytest.mark.smoke
def test_sgd_by_hand():
  tx = optim.build_optimizer(
    "sgd", schedule=constant(0.1), momentum=0.5, nesterov=True
  )
  params = {"norm": {"bias": jnp.array([1.0])}}
  grads = {"norm": {"bias": jnp.array([2.0])}}
  state = tx.init(params)
  # m = 2, step 2 + 0.5 * 2; then m = 2 + 0.5 * 2, step 2 + 0.5 * 3.
  for expected in (-0.3, -0.35):
    updates, state = tx.update(grads, state, params)
    np.testing.assert_allclose(updates["norm"]["bias"], [expected], rtol=1e-6)


def test_the_schedule_counts_updates():
  schedule = optim.build_schedule(
    "piecewise_linear", peak=1.0, total_steps=4, warmup_steps=0
  )
  tx = optim.build_optimizer("sgd", schedule=schedule, momentum=0.0)
  params = {"bias": jnp.zeros(1)}
  state = tx.init(params)
  seen = []
  for _ in range(4):
    updates, state = tx.update({"bias": jnp.ones(1)}, state, params)
    seen.append(-float(updates["bias"][0]))
  np.testing.assert_allclose(seen, [1.0, 0.75, 0.5, 0.25], rtol=1e-6)


@pytest.mark.parametrize(
  ("name", "settings", "factor"),
  [
    ("sgd", {"momentum": 0.0}, 0.1 * 0.01),
    ("adamw", {}, 0.1 * 0.01),
  ],
)
def test_weight_decay_is_for_kernels_only(name, settings, factor):
  params = make_params()
  grads = make_grads(params)

  def build(decay):
    return optim.build_optimizer(
      name, schedule=constant(0.1), weight_decay=decay, **settings
    )

  without = one_update(build(0.0), params, grads)
  decayed = one_update(build(0.01), params, grads)
  expected = jax.tree_util.tree_map_with_path(
    lambda path, p: -factor * p if path[-1].key == "kernel" else 0 * p, params
  )
  difference = jax.tree.map(jnp.subtract, decayed, without)
  assert_close(difference, expected, atol=1e-7)


def test_clip_norm():
  params = make_params()
  grads = make_grads(params)
  norm = float(optax.tree.norm(grads))

  def build(clip):
    return optim.build_optimizer(
      "sgd", schedule=constant(1.0), momentum=0.0, clip_norm=clip
    )

  free = one_update(build(0.0), params, grads)
  clipped = one_update(build(norm / 4), params, grads)
  assert_close(clipped, jax.tree.map(lambda u: u / 4, free), rtol=1e-5)
  untouched = one_update(build(norm * 2), params, grads)
  assert_close(untouched, free, rtol=1e-6)


def test_the_norm_of_joined_leaves_is_that_of_all():
  tree = make_params() | {"large": jnp.full((70, 70), 0.5)}
  expected = np.sqrt(sum(np.square(x).sum() for x in jax.tree.leaves(tree)))
  for norm in (optim.global_norm, optim._joined_norm):
    np.testing.assert_allclose(norm(tree), expected, rtol=1e-6)


def twin_sgd(params, grads, rates, decay):
  """Nesterov SGD with the decay in the gradient, in float64, by its steps."""
  velocity = {name: 0.0 for name in params}
  for rate, grad in zip(rates, grads, strict=True):
    for name, value in params.items():
      g = grad[name] + (decay * value if name == "kernel" else 0)
      velocity[name] = 0.9 * velocity[name] + g
      params[name] = value - rate * (g + 0.9 * velocity[name])
  return params


def twin_adamw(params, grads, rates, decays):
  """Clipped Adam, a decay of its own for each step, in float64."""
  mean = {name: 0.0 for name in params}
  square = {name: 0.0 for name in params}
  steps = zip(rates, decays, grads, strict=True)
  for count, (rate, decay, grad) in enumerate(steps, 1):
    norm = np.sqrt(sum((g**2).sum() for g in grad.values()))
    for name, value in params.items():
      g = grad[name] * min(1, 1 / norm)
      mean[name] = 0.9 * mean[name] + 0.1 * g
      square[name] = 0.999 * square[name] + 0.001 * g**2
      step = mean[name] / (1 - 0.9**count)
      step = step / (np.sqrt(square[name] / (1 - 0.999**count)) + 1e-8)
      off = decay * value if name == "kernel" else 0
      params[name] = value - rate * step - off
  return params


def run_twelve_steps(tx, twin, *arguments):
  """Parameters after twelve steps, by `tx` and by `twin`."""
  rng = np.random.default_rng(0)
  draw = lambda: {"kernel": rng.normal(size=(3, 4)), "bias": rng.normal(size=4)}
  # Every third gradient is short enough not to be clipped.
  grads = [
    jax.tree.map(lambda g, i=i: g * (1 if i % 3 else 0.05), draw())
    for i in range(12)
  ]
  start = draw()
  params = jax.tree.map(jnp.float32, start)
  state = tx.init(params)
  for grad in grads:
    grad = jax.tree.map(jnp.float32, grad)
    updates, state = tx.update(grad, state, params)
    params = optax.apply_updates(params, updates)
  return params, twin(start, grads, *arguments)


def test_the_resnet_recipe():
  # 90 epochs with 5 of warm-up, in 12 steps.
  schedule = optim.build_schedule(
    "warmup_cosine", peak=0.4, total_steps=12, warmup_steps=2
  )
  tx = optim.build_optimizer(
    "sgd", schedule=schedule, momentum=0.9, nesterov=True, weight_decay=0.05
  )
  rates = [0, 0.2]
  rates += [0.2 * (1 + np.cos(np.pi * i / 10)) for i in range(10)]
  assert_close(*run_twelve_steps(tx, twin_sgd, rates, 0.05), rtol=1e-5)


@pytest.mark.parametrize("independent", [False, True])
def test_the_vit_recipe(independent):
  schedule = optim.build_schedule(
    "warmup_cosine", peak=0.02, total_steps=12, warmup_steps=4
  )
  tx = optim.build_optimizer(
    "adamw",
    schedule=schedule,
    weight_decay=0.05,
    independent_decay=independent,
    clip_norm=1.0,
  )
  shape = [0, 0.25, 0.5, 0.75]
  shape += [(1 + np.cos(np.pi * i / 8)) / 2 for i in range(8)]
  rates = 0.02 * np.array(shape)
  decays = 0.05 * (np.array(shape) if independent else rates)
  got, expected = run_twelve_steps(tx, twin_adamw, rates, decays)
  assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_independent_decay_does_not_follow_the_peak():
  params = make_params()
  grads = jax.tree.map(jnp.zeros_like, params)
  moved = [
    one_update(
      optim.build_optimizer(
        "adamw",
        schedule=constant(peak),
        weight_decay=0.1,
        independent_decay=True,
      ),
      params,
      grads,
    )
    for peak in (1e-3, 1.0)
  ]
  assert_close(*moved, rtol=1e-6)
  expected = -0.1 * params["conv"]["kernel"]
  np.testing.assert_allclose(moved[0]["conv"]["kernel"], expected, rtol=1e-5)


def singular_values(update):
  matrix = np.asarray(update).reshape(-1, update.shape[-1])
  return np.linalg.svd(matrix, compute_uv=False)


def test_muon_updates_are_nearly_orthogonal():
  params = make_params()
  grads = make_grads(params, scale=1e-3)
  # A gradient of nearly one direction: its singular values span decades.
  grads["conv"]["kernel"] += 1.0
  tx = optim.build_optimizer("muon", schedule=constant(0.5))
  updates = one_update(tx, params, grads)
  raw = singular_values(grads["conv"]["kernel"])
  assert raw[0] / raw[-1] > 100
  # Newton-Schulz with five steps ends between 0.5 and 1.5, and what is still
  # smaller than that was below 1 percent of the largest.
  done = singular_values(updates["conv"]["kernel"]) / 0.5
  assert done.max() < 1.5 and done[raw > 0.01 * raw[0]].min() > 0.5
  # A matrix with more outputs (16) than inputs (4) gets twice as much.
  wide = singular_values(updates["wide"]["kernel"]) / 0.5 / 2
  assert wide.max() < 1.5 and wide.min() > 0.5


def test_muon_leaves_all_but_hidden_kernels_to_sgd():
  params = make_params()
  grads = make_grads(params)
  tx = optim.build_optimizer(
    "muon", schedule=constant(0.5), other_ratio=0.1, other_momentum=0.6
  )
  sgd = optim.build_optimizer("sgd", schedule=constant(0.05), momentum=0.6)
  updates = one_update(tx, params, grads)
  expected = one_update(sgd, params, grads)
  for name in ("norm", "head", "stem_bias"):
    assert_close(updates[name], expected[name], rtol=1e-6)
  assert abs(updates["conv"]["kernel"] - expected["conv"]["kernel"]).max() > 0.1


def test_muon_normalizes_kernels_before_the_update():
  params = make_params()
  grads = make_grads(params)

  def build(normalize):
    return optim.build_optimizer(
      "muon", schedule=constant(0.5), normalize_kernels=normalize
    )

  plain = one_update(build(False), params, grads)
  normalized = one_update(build(True), params, grads)
  start = params["conv"]["kernel"] + (
    normalized["conv"]["kernel"] - plain["conv"]["kernel"]
  )
  assert np.linalg.norm(start) == pytest.approx(np.sqrt(8), rel=1e-5)
  cosine = jnp.vdot(start, params["conv"]["kernel"]) / (
    jnp.linalg.norm(start) * jnp.linalg.norm(params["conv"]["kernel"])
  )
  assert cosine == pytest.approx(1, abs=1e-5)
  assert_close(normalized["head"], plain["head"], rtol=1e-6)


def iterate(kernel, steps=5):
  """Newton-Schulz on one matrix, in float64, with the rows it has."""
  x = np.asarray(kernel, np.float64).reshape(-1, kernel.shape[-1])
  x = x / np.linalg.norm(x)
  for _ in range(steps):
    a = x @ x.T
    x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
  return x.reshape(kernel.shape)


@hypothesis.given(
  shapes=st.lists(
    st.tuples(st.integers(1, 40), st.integers(1, 40))
    | st.tuples(st.just(3), st.just(3), st.integers(1, 6), st.integers(1, 30)),
    min_size=1,
    max_size=5,
  ),
  seed=st.integers(0, 99),
)
@hypothesis.settings(max_examples=8)
def test_batched_iterations_are_those_of_each_matrix(shapes, seed):
  """Tall and wide matrices, padded to one shape or in several batches."""
  rng = np.random.default_rng(seed)
  kernels = [np.float32(rng.normal(size=shape)) for shape in shapes]
  batched = jax.jit(lambda x: optim._orthogonalize(x, 5, jnp.float32))(kernels)
  # Singular values are about 1. Small ones grow 400 times on the way, and
  # rounding errors with them.
  assert_close(batched, [iterate(kernel) for kernel in kernels], atol=2e-4)


def test_batched_updates_are_those_of_optax():
  params = make_params()
  grads = [make_grads(params, seed) for seed in range(3)]
  settings = dict(beta=0.9, nesterov=True)
  ours = optim._scale_by_muon(5, "bfloat16", **settings)
  tx = optax.contrib.scale_by_muon(
    weight_dimension_numbers=optim._matrix_axes, **settings
  )
  kernels = lambda tree: {name: tree[name] for name in ("conv", "wide")}
  state, expected_state = ours.init(kernels(params)), tx.init(kernels(params))
  for grad in map(kernels, grads):
    updates, state = ours.update(grad, state)
    expected, expected_state = tx.update(grad, expected_state)
  assert_close(state, expected_state, rtol=1e-6)
  for name in expected:
    one, other = updates[name]["kernel"], expected[name]["kernel"]
    assert one.dtype == jnp.float32
    difference = jnp.linalg.norm(one - other) / jnp.linalg.norm(other)
    assert 0 < difference < 0.03


def test_matrices_share_a_batch_unless_padding_doubles_the_work():
  shapes = [(288, 64), (576, 64), (576, 256), *3 * [(2304, 256)]]
  assert len(optim._groups(shapes)) == 1
  assert optim._groups([(64, 64), (640, 640), (64, 32)]) == [[1, 0], [2]]


def test_iterations_are_in_bfloat16_on_accelerators():
  params = make_params()

  def products(platform, **settings):
    tx = optim.build_optimizer("muon", schedule=constant(0.5), **settings)
    traced = jax.jit(tx.update).trace(params, tx.init(params), params)
    text = traced.lower(lowering_platforms=(platform,)).as_text()
    lines = [x for x in text.splitlines() if "stablehlo.dot_general" in x]
    return len(lines), sum("bf16" in line for line in lines)

  assert products("cuda") == products("tpu") == (15, 15)
  assert products("cuda", ns_dtype="float32") == (15, 0)
  assert products("cpu", ns_dtype="bfloat16") == (15, 15)
  assert products("cpu") == products("cpu", ns_dtype="float32")
  assert products("cpu")[1] == 0


@pytest.mark.parametrize("name", sorted(optim.OPTIMIZERS))
def test_every_optimizer_lowers_a_loss(name):
  params = make_params()
  target = make_grads(params, seed=7, scale=0.3)

  def loss(params):
    return optax.tree.norm(jax.tree.map(jnp.subtract, params, target))

  schedule = optim.build_schedule("warmup_cosine", peak=0.1, total_steps=60)
  tx = optim.build_optimizer(name, schedule=schedule, clip_norm=1.0)

  @jax.jit
  def step(params, state):
    updates, state = tx.update(jax.grad(loss)(params), state, params)
    return optax.apply_updates(params, updates), state

  state = tx.init(params)
  shapes = jax.tree.map(jnp.shape, state)
  before = float(loss(params))
  for _ in range(60):
    params, state = step(params, state)
  assert float(loss(params)) < 0.6 * before
  assert jax.tree.map(jnp.shape, state) == shapes


@pytest.mark.parametrize(
  ("name", "settings", "setting", "given"),
  [
    ("adam", {}, "name", "'adam'"),
    ("sgd", {"b1": 0.9}, "b1", 0.9),
    ("sgd", {"momentum": 1.0}, "momentum", 1.0),
    ("sgd", {"weight_decay": -1.0}, "weight_decay", -1.0),
    ("adamw", {"eps": 0.0}, "eps", 0.0),
    ("muon", {"ns_steps": 0}, "ns_steps", 0),
    ("muon", {"ns_dtype": "half"}, "ns_dtype", "'half'"),
    ("sgd", {"clip_norm": -1.0}, "clip_norm", -1.0),
  ],
)
def test_bad_optimizers(name, settings, setting, given):
  check = raising.about(setting, given=given)
  with pytest.raises(errors.InputError, check=check):
    optim.build_optimizer(name, schedule=constant(0.1), **settings)


def step_once(tx, params, grads):
  updates, _ = tx.update(grads, tx.init(params), params)
  return optax.apply_updates(params, updates)


@pytest.mark.parametrize(
  ("name", "settings", "theirs"),
  [
    ("optax.sgd", {}, lambda rate: optax.sgd(rate)),
    (
      "optax.sgd",
      {"momentum": 0.5, "nesterov": True},
      lambda rate: optax.sgd(rate, momentum=0.5, nesterov=True),
    ),
    (
      "optax.lion",
      {"b1": 0.8, "weight_decay": 0.1},
      lambda rate: optax.lion(
        rate, b1=0.8, weight_decay=0.1, mask=optim.decay_mask
      ),
    ),
    (
      "optax.lars",
      {"weight_decay": 0.1},
      lambda rate: optax.lars(rate, 0.1, weight_decay_mask=optim.decay_mask),
    ),
    ("optax.contrib.prodigy", {}, lambda rate: optax.contrib.prodigy(rate)),
  ],
)
def test_optimizers_of_optax_are_those_of_optax(name, settings, theirs):
  schedule = optim.build_schedule("constant", peak=0.1, total_steps=9)
  params = {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}
  grads = jax.tree.map(lambda x: 0.1 + x, params)
  tx = optim.build_optimizer(name, schedule=schedule, **settings)
  ours = step_once(tx, params, grads)
  expected = step_once(theirs(schedule), params, grads)
  jax.tree.map(np.testing.assert_array_equal, ours, expected)


def test_optimizers_of_optax_decay_kernels_only():
  schedule = optim.build_schedule("constant", peak=0.1, total_steps=9)
  params = {"kernel": jnp.ones((2, 3)), "bias": jnp.ones(3)}
  zero = jax.tree.map(jnp.zeros_like, params)
  tx = optim.build_optimizer("optax.lion", schedule=schedule, weight_decay=0.5)
  after = step_once(tx, params, zero)
  np.testing.assert_allclose(after["kernel"], 1 - 0.1 * 0.5)
  np.testing.assert_array_equal(after["bias"], 1)


@pytest.mark.parametrize(
  ("name", "settings", "setting"),
  [
    ("optax.lyon", {}, "name"),
    ("optax", {}, "name"),
    ("optax.", {}, "name"),
    ("optax.tree.norm", {}, "name"),
    ("optax.scale_by_learning_rate", {}, "name"),
    ("optax.lbfgs", {}, "name"),  # It needs the loss.
    ("optax.rprop", {}, "name"),  # Its learning rate is a number.
    ("optax.lion", {"b3": 0.9}, "b3"),
    ("optax.lion", {"mask": True}, "mask"),
    ("optax.lion", {"learning_rate": 1.0}, "learning_rate"),
    ("optax.contrib.dpsgd", {}, "name"),  # It needs gradients by example.
    ("optax.contrib.schedule_free_sgd", {}, "name"),  # It trains others.
    ("optax.lion", {"mu_dtype": "much"}, "name"),
  ],
)
def test_what_optax_does_not_take_is_refused(name, settings, setting):
  schedule = optim.build_schedule("constant", peak=0.1, total_steps=9)
  with pytest.raises(errors.InputError, check=raising.about(setting)) as raised:
    optim.build_optimizer(name, schedule=schedule, **settings)
  assert raised.value.fix or raised.value.given == "none"


def test_unknown_optimizers_suggest_those_of_optax():
  with pytest.raises(errors.InputError) as raised:
    optim.OPTIMIZERS.describe("lion")
  assert "optax.lion" in raised.value.fix
