"""Dispatches compiled training steps."""

import collections
from collections.abc import Callable
from collections.abc import Iterable
from typing import Any

import jax

from imgbench.train import feeds
from imgbench.train import setup
from imgbench.train import state as state_lib

# Dispatches in flight: enough to hide the host, few enough to stop quickly.
IN_FLIGHT = 2

# Called with the number of steps of a finished dispatch, and its loss: a scalar
# for one step, [S] for S of them.
OnSteps = Callable[[int, jax.Array], None]


class Stepper:
  """The compiled steps of a run.

  Several steps may go into one dispatch. Dispatches start at multiples of their
  size, so that a resumed run makes the same calls as an unbroken one.

  Args:
    training: what steps need.
    state: at the step where the run starts.
    stops: steps at which `advance` will be asked to end, or periods of such;
      they decide which dispatch sizes are compiled.
  """

  def __init__(
    self,
    training: setup.Training,
    state: state_lib.TrainState,
    stops: Iterable[int],
  ):
    self._training = training
    self._strategy = training.strategy
    many = training.steps_per_dispatch
    sizes = {many} | ({1} if any(stop % many for stop in stops) else set())
    self._compiled = {size: self._compile(state, size) for size in sizes}

  def _compile(self, state: state_lib.TrainState, size: int) -> Any:
    fed = self._on_devices(self._training.feed.make_template(size), size)
    # Ahead of the first step, so that compiling is timed separately.
    return self._training.compute.lower(
      state, self._training.data, fed, size
    ).compile()

  def _on_devices(self, arrays: feeds.Arrays, count: int) -> dict:
    if count == 1:
      return self._strategy.shard_batch(arrays)
    arrays = {
      k: v.reshape(count, len(v) // count, *v.shape[1:])
      for k, v in arrays.items()
    }
    return self._strategy.shard_batches(arrays)

  def advance(
    self,
    state: state_lib.TrainState,
    step: int,
    end: int,
    should_stop: Callable[[], bool] = lambda: False,
    on_steps: OnSteps = lambda count, loss: None,
  ) -> tuple[state_lib.TrainState, int]:
    """Trains from `step` to `end`, or less if asked to stop; blocks at the end.

    Args:
      state: at `step`; its memory is reused.
      step: steps done.
      end: steps to have done.
      should_stop: called before each dispatch.
      on_steps: called when a dispatch has finished.

    Returns:
      The new state and the steps done.
    """
    many = self._training.steps_per_dispatch
    in_flight: collections.deque[tuple[int, jax.Array]] = collections.deque()
    while step < end and not should_stop():
      whole = step % many == 0 and step + many <= end
      count = many if whole else 1
      fed = self._on_devices(self._training.feed.batch_at(step, count), count)
      # Profilers tell steps apart by it; free where none runs.
      with jax.profiler.StepTraceAnnotation("train", step_num=step):
        state, loss = self._compiled[count](state, self._training.data, fed)
      step += count
      in_flight.append((count, loss))
      if len(in_flight) > IN_FLIGHT:
        on_steps(*jax.block_until_ready(in_flight.popleft()))
    for done in in_flight:
      on_steps(*jax.block_until_ready(done))
    return jax.block_until_ready(state), step
