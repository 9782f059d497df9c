"""Scripts that look for faults of a page in a browser."""

# Returns what is wrong with the page, all details unfolded.
FIND_FAULTS = r"""
async () => {
  for (const folded of document.querySelectorAll("details"))
    folded.open = true;
  const style = element => getComputedStyle(element);
  const scrolls = element =>
    element !== null &&
    (/auto|scroll/.test(style(element).overflowX) ||
      scrolls(element.parentElement));
  const name = element =>
    `${element.tagName} ${element.className} ` +
    element.textContent.trim().slice(0, 60);
  const root = document.scrollingElement;
  const found = {
    width: root.scrollWidth, wide: [], unmarked: [], broken: [], images: [],
    scrolling: 0, background: style(document.body).backgroundColor,
  };
  for (const element of document.body.querySelectorAll("*")) {
    const box = element.getBoundingClientRect();
    const outside = box.left < -0.5 || box.right > root.clientWidth + 0.5;
    if (box.width && outside && !scrolls(element.parentElement))
      found.wide.push(name(element));
    if (element.scrollWidth > element.clientWidth && scrolls(element)) {
      const table = element.querySelector(":scope > table");
      found.scrolling += table !== null;
      if (table && style(element).backgroundImage === "none")
        found.unmarked.push(name(element));
    }
  }
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const range = document.createRange();
  const top = (node, place) => {
    range.setStart(node, place);
    range.setEnd(node, place + 1);
    return range.getBoundingClientRect().top;
  };
  while (texts.nextNode()) {
    const node = texts.currentNode;
    for (const word of node.data.matchAll(/[\p{L}\p{N}]+/gu)) {
      range.setStart(node, word.index);
      range.setEnd(node, word.index + word[0].length);
      if (range.getClientRects().length < 2) continue;
      const last = word.index + word[0].length - 1;
      if (top(node, word.index) !== top(node, last)) found.broken.push(word[0]);
    }
  }
  for (const image of document.images) {
    await image.decode().catch(() => found.images.push(image.alt));
    if (!image.naturalWidth) found.images.push(image.alt);
  }
  return found;
}
"""

# Returns texts whose contrast with the background behind them is below 4.5,
# WCAG 2.1, success criterion 1.4.3, with the ratio.
FIND_FAINT = r"""
() => {
  const parts = color => color.match(/[\d.]+/g).map(Number);
  const luminance = ([r, g, b]) => [r, g, b]
    .map(c => c / 255)
    .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = element => {
    if (!element) return [255, 255, 255];
    const color = parts(getComputedStyle(element).backgroundColor);
    const alpha = color[3] ?? 1;
    if (alpha === 0) return behind(element.parentElement);
    const below = alpha < 1 ? behind(element.parentElement) : color;
    return [0, 1, 2].map(i => color[i] * alpha + below[i] * (1 - alpha));
  };
  const found = [];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const element = texts.currentNode.parentElement;
    const shown = texts.currentNode.data.trim() && element.checkVisibility();
    if (!shown || /SCRIPT|STYLE/.test(element.tagName)) continue;
    const [high, low] = [parts(getComputedStyle(element).color),
      behind(element)].map(luminance).sort((a, b) => b - a);
    const ratio = (high + 0.05) / (low + 0.05);
    if (ratio < 4.5)
      found.push(`${texts.currentNode.data.trim().slice(0, 40)} ${ratio}`);
  }
  return found;
}
"""
