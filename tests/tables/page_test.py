"""Tests of pages: escaping, missing variables, and one golden page."""

import base64
import hashlib
import re
import subprocess
import sys

import jinja2
import pytest

import imgbench
from imgbench.tables import page
from imgbench.tables import pictures
from imgbench.tables import table

BASE = "tables/templates/base.html.j2"
EMPTY = {
  "title": "t",
  "kicker": "k",
  "heading": "h",
  "facts": {},
  "sections": [],
  "coverage": "95%",
}
GRID = table.Table(
  "",
  [
    table.Column("name", "Name"),
    table.number(
      "value", table.RichText("Value", help="in %", below=("of all",))
    ),
  ],
  [
    {"name": "a<b", "value": "–"},
    {
      "name": table.RichText("c", badge="new"),
      "value": table.RichText(
        *("1.5", "why", "", "(1, 2)"), ("n 3", table.RichText("note", "more"))
      ),
    },
  ],
  group=lambda row: "first" if row["value"] == "–" else "",
)
GOLDEN = """\
<body>
<main>
<header>
<p class="kicker">k</p>
<h1>run <span class="badge">new</span></h1>
<dl class="facts">
<div><dt>Data</dt><dd>&lt;toy&gt;</dd></div>
</dl>
</header>
<nav>
<a href="#one">First &amp; last</a>
</nav>
<section id="one">
<h2>First &amp; last</h2>
<h3>Grid</h3>
<p class="muted">A &#34;note&#34;.</p>
<div class="scroll"><table>
<thead><tr>
<th scope="col">Name</th>
<th scope="col" class="num" title="in %">Value<span class="below">of all</span></th>
</tr></thead>
<tbody>
<tr class="group"><th scope="rowgroup" colspan="2">first</th></tr>
<tr><th scope="row">a&lt;b</th><td class="num">–</td></tr>
</tbody>
<tbody>
<tr><th scope="row">c <span class="badge">new</span></th><td class="num" title="why"><b>1.5</b> <span class="muted">(1, 2)</span><span class="below">n 3</span><span class="below note" title="more">note</span></td></tr>
</tbody>
</table></div>
<p><code>run --it</code></p>
<details><summary>Config</summary>
<div class="scroll"><table class="keys"><tbody>
<tr><th scope="row"><code>a.b</code></th><td><code>1</code></td></tr>
<tr><th scope="row"><code>c</code></th><td><code>{}</code></td></tr>
</tbody></table></div>
</details>
<figure><picture><source media="screen and (prefers-color-scheme: dark)" srcset="data:image/png;base64,REFSSw=="><img width="66" height="33" alt="a line" src="data:image/png;base64,LIGHT"></picture><figcaption>It rises.</figcaption></figure>
</section>
</main>
"""  # noqa: E501  (lines of HTML)


def png(width: int, height: int) -> bytes:
  """Returns the first bytes of a PNG, which hold its size."""
  sizes = width.to_bytes(4, "big") + height.to_bytes(4, "big")
  return b"\x89PNG\r\n\x1a\n" + b"\0\0\0\rIHDR" + sizes


def test_golden():
  light = png(100, 50)
  blocks = [
    page.Heading("Grid"),
    page.Paragraph('A "note".', muted=True),
    GRID,
    *page.provenance("run --it", {"a": {"b": 1}, "c": {}}, {}),
    pictures.Figure(light, b"DARK", "a line", "It rises."),
  ]
  html = page.render(
    BASE,
    **EMPTY
    | {
      "heading": table.RichText("run", badge="new"),
      "facts": {"Data": "<toy>"},
      "sections": [page.Section("one", "First & last", blocks)],
    },
  )
  body = html[html.index("<body>") : html.index("<footer>")]
  assert body.replace(base64.b64encode(light).decode(), "LIGHT") == GOLDEN
  assert html.startswith("<!doctype html>\n") and html.endswith("</html>\n")
  assert f"imgbench {imgbench.__version__}" in html


def test_the_policy_allows_this_style_alone():
  html = page.render(BASE, **EMPTY)
  (policy,) = re.findall(
    'http-equiv="Content-Security-Policy" content="(.*?)"', html
  )
  style = re.search("<style>(.*?)</style>", html, re.DOTALL)[1]
  assert ".muted {" in style and "&" not in style
  digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
  assert policy == (
    f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'"
  )
  assert "style=" not in html and "<script" not in html


def test_text_is_escaped_and_control_characters_become_spaces():
  html = page.render(BASE, **EMPTY | {"heading": "<a>&\"'\x00\n"})
  assert "<h1>&lt;a&gt;&amp;&#34;&#39;  </h1>" in html


def test_what_a_template_lacks_is_an_error():
  context = {k: v for k, v in EMPTY.items() if k != "coverage"}
  with pytest.raises(jinja2.UndefinedError, match="coverage"):
    page.render(BASE, **context)


def test_tables_elsewhere_have_the_text_alone():
  assert GRID.cells == [["a<b", "–"], ["c", "1.5"]]
  assert GRID.header == ["Name", "Value"]


def test_tables_of_a_terminal_need_no_templates():
  code = (
    "import sys; from imgbench.tables import table;"
    "print(table.from_cells('c', ('a',), (('1',),)).text());"
    "assert 'jinja2' not in sys.modules"
  )
  subprocess.run([sys.executable, "-c", code], check=True)
