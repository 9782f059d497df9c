r"""Serves a review database to annotators in a browser.

imgbench review serve --db=reviews.db

Prints the address, and a one-time link for an admin if none can log in. Ends on
Ctrl-C and SIGTERM. docs/review.md describes the pages and roles.
"""

from collections.abc import Iterator
import contextlib
import fcntl
import socket
import sqlite3

from absl import flags

from imgbench import commands
from imgbench import errors
from imgbench import interrupts
from imgbench.review import store

REQUIRED = ("db",)


def define_flags(flag_values: flags.FlagValues) -> None:
  """Defines the flags of the program."""
  text = "Review database, see imgbench review init."
  flags.DEFINE_string("db", None, text, flag_values=flag_values)
  text = "Address to listen on."
  flags.DEFINE_string("host", "127.0.0.1", text, flag_values=flag_values)
  text = "Port; 0: any free one."
  flags.DEFINE_integer("port", 8080, text, flag_values=flag_values)


@contextlib.contextmanager
def lock(path: str) -> Iterator[None]:
  """Holds the lock of a database for one server. Raises InputError."""
  expected = "a database that no other server has open"
  try:
    with open(f"{path}.lock", "ab") as file:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
      yield
  except BlockingIOError as error:
    raise errors.InputError("--db", expected, path) from error


def listen(host: str, port: int) -> socket.socket:
  """Returns a socket that listens. Raises InputError."""
  family = socket.AF_INET6 if ":" in host else socket.AF_INET
  try:
    return socket.create_server((host, port), family=family, backlog=256)
  except (OSError, OverflowError) as error:
    given = f"{host}, {port}: {errors.find_reason(error)}"
    expected, fix = "a free address", "--port=0 takes any free port"
    raise errors.InputError("--host, --port", expected, given, fix) from error


def run(
  connection: sqlite3.Connection, path: str, bound: socket.socket, host: str
) -> None:
  """Answers requests until a signal comes. Raises InputError."""
  try:
    import uvicorn

    from imgbench.review.server import app
    from imgbench.review.server import auth
    from imgbench.review.server import web
  except ModuleNotFoundError as error:
    expected, fix = "the extra review", 'run pip install "imgbench[review]"'
    raise errors.InputError("imgbench", expected, f"{error}", fix) from error

  class Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self):
      with interrupts.caught(lambda *_: setattr(self, "should_exit", True)):
        yield

  shown = f"[{host}]" if ":" in host else host
  address = f"http://{shown}:{bound.getsockname()[1]}"
  names = ("localhost", host.lower(), socket.gethostname().lower())
  site = web.Site(connection, path, names)
  quiet = {"log_level": "warning", "access_log": False, "server_header": False}
  config = uvicorn.Config(
    app.create_app(site), lifespan="off", timeout_graceful_shutdown=5, **quiet
  )
  print(address, flush=True)
  with site.writing():
    if not auth.count_admins(connection):
      link = auth.invite(connection, "admin", "admin")
      # Such as those of the demo, which is made before there is a user.
      connection.execute(
        "INSERT INTO task_user (task, user) SELECT task.id, user.id FROM task,"
        " user WHERE user.name = 'admin' AND task.id NOT IN (SELECT task FROM"
        " task_user)"
      )
      print(f"set the password of admin: {address}{link}", flush=True)
  with contextlib.closing(site):
    Server(config).run(sockets=[bound])


def main(argv: list[str]) -> int:
  """Serves the database that the flags name."""
  del argv
  values = flags.FLAGS
  with contextlib.ExitStack() as stack:
    opened = contextlib.closing(store.open_database(values.db))
    connection = stack.enter_context(opened)
    stack.enter_context(lock(values.db))
    bound = stack.enter_context(listen(values.host, values.port))
    run(connection, values.db, bound, values.host)
  return errors.EXIT_DONE


if __name__ == "__main__":
  commands.start("review serve")
