"""Tests that every collective of a program is found once, in every form."""

import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from imgbench.bench.hlo import collectives
from imgbench.bench.hlo import parser
from imgbench.bench.hlo import replay

P = jax.sharding.PartitionSpec
D = 8
HERE = pathlib.Path(__file__).parent
# Shortened by hand to the forms that XLA:GPU writes, and to those of XLA:TPU:
# layouts with tiles, copies of a collective in several fusions, reduce-scatter
# as a fusion, loops that do not say how often they run.
GPU = (HERE / "program_gpu.txt").read_text()
TPU = (HERE / "program_tpu.txt").read_text()


def found_in(function, *shapes, out=None):
  """Collectives of a function of each device's rows [1, ...], on 8 devices."""
  mesh = jax.make_mesh((D,), ("x",), axis_types=(jax.sharding.AxisType.Auto,))
  mapped = jax.jit(
    jax.shard_map(
      function,
      mesh=mesh,
      in_specs=P("x"),
      out_specs=P("x") if out is None else out,
      check_vma=False,
    )
  )
  inputs = [jnp.zeros((D, *shape), jnp.float32) for shape in shapes]
  return collectives.find(mapped.lower(*inputs).compile().as_text())


def test_all_reduce():
  (one,) = found_in(lambda x: jax.lax.psum(x, "x"), (100,), out=P())
  assert (one.kind, one.group_size, one.times) == ("all-reduce", D, 1)
  assert one.elements == 100 and one.num_bytes == 400 and one.dtypes == "f32"
  assert one.sent_bytes == 2 * 400 * 7 / 8


def test_all_gather_counts_what_was_gathered():
  gather = lambda x: jax.lax.all_gather(x, "x", tiled=True)
  (one,) = found_in(gather, (100,))
  assert (one.kind, one.elements) == ("all-gather", 800)
  assert one.sent_bytes == 3200 * 7 / 8


def test_reduce_scatter_counts_what_was_reduced():
  scatter = lambda x: jax.lax.psum_scatter(x[0], "x", tiled=True)[None]
  (one,) = found_in(scatter, (800,))
  assert (one.kind, one.elements) == ("reduce-scatter", 800)
  assert one.sent_bytes == 3200 * 7 / 8


def test_permutation_and_exchange():
  right = [(i, (i + 1) % D) for i in range(D)]
  (one,) = found_in(lambda x: jax.lax.ppermute(x, "x", right), (100,))
  assert (one.kind, one.sent_bytes) == ("collective-permute", 400)
  exchange = lambda x: jax.lax.all_to_all(x, "x", 1, 1, tiled=True)
  (one,) = found_in(exchange, (800,))
  assert (one.kind, one.num_bytes) == ("all-to-all", 3200)
  assert one.sent_bytes == 3200 * 7 / 8


def test_a_loop_counts_as_often_as_it_runs():
  def body(carry, _):
    return jax.lax.psum(carry, "x") * 0.5, None

  loop = lambda x: jax.lax.scan(body, x, length=5)[0]
  (one,) = found_in(loop, (100,))
  assert one.times == 5 and one.elements == 500


def test_groups_of_some_devices():
  mesh = jax.make_mesh(
    (4, 2), ("a", "b"), axis_types=(jax.sharding.AxisType.Auto,) * 2
  )
  mapped = jax.jit(
    jax.shard_map(
      lambda x: jax.lax.psum(x, "b"),
      mesh=mesh,
      in_specs=P(("a", "b")),
      out_specs=P("a"),
      check_vma=False,
    )
  )
  text = mapped.lower(jnp.zeros((8, 16))).compile().as_text()
  (one,) = collectives.find(text)
  assert one.group_size == 2 and one.sent_bytes == 2 * 64 / 2


@pytest.mark.parametrize(
  "attributes, size",
  [
    ("x), replica_groups={{0,1,2},{3,4,5}}, to_apply=%add", 3),
    ("x), replica_groups=[2,4]<=[8], to_apply=%add", 4),
    ("x), replica_groups=[4,2]<=[2,4]T(1,0), to_apply=%add", 2),
    ("x), replica_groups=mesh['data'=4,'fsdp'=2] {'fsdp'}, to", 2),
    ("x), replica_groups=mesh['data'=4,'fsdp'=2] {'data','fsdp'}, to", 8),
    ("x), replica_groups=mesh['a'=2,'b'=4], device_ids=([4,2]T(1,0)) {'a'}", 2),
    ("x), replica_groups=mesh['a'=8] {'a':(2)4}, dimensions={0}", 4),
    ("x), replica_groups={}, to_apply=%add", 16),
    ("x), channel_id=1, source_target_pairs={{0,1},{1,0}}", 16),
  ],
)
def test_forms_of_groups(attributes, size):
  assert collectives.parse_group_size(attributes, 16) == size


def test_pairs_of_start_and_done():
  gather, reduce, scatter = collectives.find(GPU)
  assert (gather.kind, gather.elements) == ("all-gather", 64)
  assert (reduce.kind, reduce.num_bytes) == ("all-reduce", 256 + 32)
  assert reduce.dtypes == "bf16+f32"
  assert (scatter.kind, scatter.elements) == ("reduce-scatter", 64)
  assert all(one.asynchronous for one in (gather, reduce, scatter))


def test_copies_fusions_and_loops_of_tpus():
  gather, permute, other, scatter = collectives.find(TPU)
  assert (gather.kind, gather.elements) == ("all-gather", 384 * 384)
  assert gather.asynchronous and gather.group_size == 8
  assert (permute.times, permute.num_bytes) == (6, 6 * 16)
  assert (scatter.kind, scatter.num_bytes) == ("reduce-scatter", 2 * 384 * 384)
  assert scatter.sent_bytes == 2 * 384 * 384 * 7 / 8
  # Two of one channel that are no copies.
  assert other == scatter


def test_a_loop_that_nobody_can_count_is_refused():
  text = TPU.replace("direction=LT", "direction=NE")
  with pytest.raises(ValueError, match="counts to"):
    collectives.find(text)


def test_groups_of_one_are_none():
  text = GPU.replace("[1,4]<=[4]", "[4,1]<=[4]")
  assert collectives.find(text) == []


def test_what_is_no_program_is_refused():
  with pytest.raises(ValueError, match="'hello'"):
    collectives.find("hello")


def test_types():
  assert parser.parse_type("bf16[2,3]{1,0:T(8,128)(2,1)S(1)}").num_bytes == 12
  assert parser.parse_type("pred[]").num_bytes == 1
  assert parser.parse_type("s4[3]").num_bytes == 2
  assert parser.parse_type("token[]") is None
  nested = parser.parse_type("((f32[2], /*index=1*/s32[]), u32[4]{0})")
  assert [a.shape for a in parser.list_arrays(nested)] == [(2,), (), (4,)]


def test_collectives_run_by_themselves():
  """What is replayed is what was found."""
  right = [(i, (i + 1) % D) for i in range(D)]

  def step(x, y):
    total = jax.lax.psum(x, "x")
    wide = jax.lax.all_gather(y, "x", tiled=True)
    return total + wide.sum(), jax.lax.ppermute(y, "x", right)

  found = found_in(step, (100,), (40,), out=(P(), P("x")))
  mesh = jax.sharding.Mesh(np.array(jax.devices()), ("x",))
  program, inputs = replay.build(found, mesh)
  again = collectives.find(program.as_text())
  facts = lambda some: sorted((o.kind, o.elements, o.group_size) for o in some)
  assert facts(again) == facts(found)
  assert np.asarray(program(*inputs)).shape == (D,)
