"""Protocol between the benchmark and its worker processes.

The request is JSON on standard input, the result JSON in a file, so that output
of libraries does not get in between. Standard library only: baselines use it
too.
"""

from collections.abc import Callable
from collections.abc import Mapping
import json
import os
import pathlib
import sys
import traceback
from typing import Any

OK, OUT_OF_MEMORY, CRASHED = "ok", "out_of_memory", "crashed"
REFUSED, TIMEOUT = "refused", "timeout"
# Variable of the environment: pid of the process that started a worker.
PARENT = "IMGBENCH_PARENT"

# Messages of XLA, PyTorch, NumPy and C++.
_OUT_OF_MEMORY = (
  "RESOURCE_EXHAUSTED",
  "out of memory",
  "Out of memory",
  "can't allocate memory",
  "Unable to allocate",
  "std::bad_alloc",
)

Handler = Callable[[dict[str, Any]], dict[str, Any]]


class Refused(Exception):
  """The request cannot be met; the message says why."""


def says_out_of_memory(text: str) -> bool:
  """Returns whether an error or the end of a log reports a lack of memory."""
  return any(words in text for words in _OUT_OF_MEMORY)


def shorten(text: str, most: int = 300) -> str:
  """Returns the text on one line, cut off after `most` characters."""
  text = " ".join(text.split())
  return text if len(text) <= most else text[: most - 3] + "..."


def serve(handlers: Mapping[str, Handler], argv: list[str]) -> None:
  """Answers the one request of this process.

  Args:
    handlers: request["kind"] -> function that takes the request and returns
      the numbers of a result, or raises Refused or any other error.
    argv: of the program: its name and the result file.
  """
  write_result(answer(handlers, json.load(sys.stdin)), argv)


def write_result(result: Mapping[str, Any], argv: list[str]) -> None:
  """Writes the result of this process into its file, see `serve`."""
  path = pathlib.Path(argv[1])
  part = path.with_suffix(".part")
  part.write_text(json.dumps(result), encoding="utf-8")
  part.replace(path)  # Atomic.


def converse(handlers: Mapping[str, Handler]) -> None:
  """Answers requests, one line of JSON each, until the input ends.

  Requests come on standard input, results go to standard output. Output of the
  handlers and their libraries goes to standard error instead.

  Args:
    handlers: as for `serve`.
  """
  with os.fdopen(os.dup(1), "w", encoding="utf-8") as results:
    os.dup2(2, 1)
    for line in sys.stdin:
      result = answer(handlers, json.loads(line))
      print(json.dumps(result), file=results, flush=True)


def answer(
  handlers: Mapping[str, Handler], request: dict[str, Any]
) -> dict[str, Any]:
  """Returns a result: "status", "message" and what the handler returned."""
  try:
    _limit_memory(request.get("memory_bytes", 0))
    numbers = handlers[request["kind"]](request)
    return {"status": OK, "message": ""} | numbers
  except Refused as error:
    return {"status": REFUSED, "message": shorten(str(error))}
  except MemoryError as error:
    return {"status": OUT_OF_MEMORY, "message": shorten(f"{error!r}")}
  except Exception as error:  # It becomes a row.
    traceback.print_exc()
    text = f"{type(error).__name__}: {error}"
    # The type of XLA's exception changes from version to version.
    status = OUT_OF_MEMORY if says_out_of_memory(text) else CRASHED
    return {"status": status, "message": shorten(text)}


def _limit_memory(most_bytes: int) -> None:
  """Limits the address space of this process; 0: no limit."""
  if most_bytes:
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (most_bytes, most_bytes))
