"""Serves a copy of a review database and gets every page that an admin can.

python -m tests.review.demo_check FILE.db; `make review-demo-check`. Ends with
an error if a page is not answered with 200, or the server not stopped with 0.
"""

import contextlib
import pathlib
import re
import sqlite3
import sys
import tempfile

from imgbench.review import store
from imgbench.review.server import auth
from tests.review import sites


def list_pages(connection: sqlite3.Connection) -> list[str]:
  """Returns paths of all kinds of pages, and of the first image and class."""
  read = lambda query: [str(row[0]) for row in connection.execute(query)]
  (campaign,) = read("SELECT min(id) FROM campaign")
  images = read(
    "SELECT public_id FROM image JOIN item ON item.image = image.id LIMIT 1"
  )
  (wnid,) = read("SELECT wnid FROM class LIMIT 1")
  models = read("SELECT id FROM model")
  # The class mean needs images of each class.
  sides = f"a={models[0]}&b={models[-1]}&definition=lenient_mean"
  return [
    *("/", "/help", "/history", "/panel", "/admin", "/metrics", "/problematic"),
    *("/categories", "/releases", f"/grid/{campaign}", "/search?q=a"),
    *("/study", "/api/classes"),
    *(f"/api/study/{task}" for task in read("SELECT id FROM task")),
    *(f"/class/{wnid}", f"/grid/{campaign}/0", f"/metrics/compare?{sides}"),
    *(f"/metrics/{model}" for model in models),
    *(f"/review/{campaign}/{image}" for image in images),
    *(f"/images/{image}" for image in images),
    *("/api/metrics", *(f"/api/review/{campaign}/{image}" for image in images)),
  ]


def find_linked(body: str) -> set[str]:
  """Returns the pages and files of the server that a page names."""
  found = re.findall(r'(?:href|src)="(/[^"#]*)"', body)
  return {path.replace("&amp;", "&") for path in found}


def check(path: str) -> int:
  """Returns the number of pages; an AssertionError names one that failed."""
  with contextlib.closing(store.open_database(path)) as connection:
    # The invitation of the demo's first admin stays unused.
    query = "INSERT INTO user (name, role, password, created) VALUES (?,?,?,0)"
    row = ("demo check", "admin", auth.hash_password(sites.PASSWORD))
    with store.transaction(connection):
      connection.execute(query, row)
    pages = list_pages(connection)
  server = sites.Server(path).start()
  try:
    browser = sites.Browser(server.address)
    browser.get("/login")
    form = {"name": "demo check", "password": sites.PASSWORD}
    assert browser.post("/login", form)[0] == 303
    seen = set()
    while pages:
      page = pages.pop()
      if page in seen or page.startswith("/review/") and page.count("/") == 2:
        continue  # The latter leads to the next image.
      seen.add(page)
      status, headers, body = browser.get(page)
      assert status == 200, (page, status)
      if headers.get_content_type() == "text/html" and len(seen) < 200:
        pages += sorted(find_linked(body.decode()) - seen)
  finally:
    code = server.stop()
  assert code == 0, code
  return len(seen)


def main() -> None:
  """Checks a copy of the database that the command line names."""
  source = pathlib.Path(sys.argv[1])
  with tempfile.TemporaryDirectory() as folder:
    copy = str(pathlib.Path(folder) / source.name)
    with (
      contextlib.closing(sqlite3.connect(source)) as old,
      contextlib.closing(sqlite3.connect(copy)) as new,
    ):
      old.backup(new)
    print(f"{check(copy)} pages and files were answered with 200")


if __name__ == "__main__":
  main()
