"""Programs of several processes: who feeds what."""

from imgbench import errors


def share(batch_size: int, process: int, processes: int) -> slice:
  """Returns the part of every global batch that a process feeds.

  The shares of all processes are disjoint and are the batch together, so the
  stream of examples does not depend on how many processes there are.

  Args:
    batch_size: of the global batch.
    process: in [0, processes).
    processes: how many there are.

  Raises:
    InputError: the processes do not divide the batch.
  """
  if not 0 <= process < processes or batch_size % processes:
    raise errors.InputError(
      f"global_batch_size: expected a multiple of the {processes} processes,"
      f" got {batch_size} (process {process})"
    )
  size = batch_size // processes
  return slice(process * size, (process + 1) * size)
