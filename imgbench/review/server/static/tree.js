// The hierarchy of the classes as a tree of the ARIA pattern: arrows move,
// open and close; Enter opens a group or picks a class.

export class Tree {
  // `pick` gets a class; it returns false if the page shall handle the key.
  constructor(root, nodes, pick) {
    Object.assign(this, {root, pick, chosen: null, current: null});
    this.nodes = new Map(); // by element
    this.fill(root, nodes);
    this.move(root.firstElementChild, false);
    root.addEventListener("keydown", event => this.press(event));
    root.addEventListener("click", ({target}) => {
      const item = target.closest("[role=treeitem]");
      if (!item) return;
      this.move(item);
      this.toggle(item);
      if (this.nodes.get(item).class !== null) pick(this.nodes.get(item));
    });
  }

  fill(list, nodes) {
    for (const node of nodes) {
      const item = document.createElement("li");
      const line = document.createElement("div");
      const count = node.children.length ? node.count : "";
      line.textContent = node.name;
      line.dataset.count = count;
      item.role = "treeitem";
      item.tabIndex = -1;
      item.title = node.gloss;
      item.ariaLabel = node.name + (count && `, ${count} classes`);
      if (count) item.ariaExpanded = "false";
      item.append(line);
      list.append(item);
      this.nodes.set(item, node);
      this.mark(item, node);
    }
  }

  mark(item, {class: number}) {
    if (number !== null) item.ariaSelected = `${number === this.chosen}`;
  }

  // Opens or closes a group; its items are built when it opens first.
  toggle(item, open = item.ariaExpanded === "false") {
    if (item.ariaExpanded === null) return;
    if (item.children.length === 1) {
      const group = document.createElement("ul");
      group.role = "group";
      item.append(group);
      this.fill(group, this.nodes.get(item).children);
    }
    item.lastElementChild.hidden = !open;
    item.ariaExpanded = `${open}`;
  }

  // Makes an item the one that Tab reaches.
  move(item, focus = true) {
    if (!item) return;
    if (this.current) this.current.tabIndex = -1;
    this.current = item;
    item.tabIndex = 0;
    if (focus) item.focus();
  }

  press(event) {
    const item = event.target;
    const node = this.nodes.get(item);
    const shown = [...this.root.querySelectorAll("[role=treeitem]")]
      .filter(one => !one.closest("[hidden]"));
    const next = shown[shown.indexOf(item) + 1];
    const open = item.ariaExpanded === "true";
    const keys = {
      ArrowDown: () => this.move(next),
      ArrowUp: () => this.move(shown[shown.indexOf(item) - 1]),
      Home: () => this.move(shown[0]),
      End: () => this.move(shown.at(-1)),
      ArrowRight: () => open ? this.move(next) : this.toggle(item),
      ArrowLeft: () => open ? this.toggle(item)
        : this.move(item.parentElement.closest("[role=treeitem]")),
      Enter: () => node?.class == null ? this.toggle(item) : this.pick(node),
    };
    const {key, ctrlKey, metaKey, altKey} = event;
    if (!Object.hasOwn(keys, key) || ctrlKey || metaKey || altKey) return;
    if (keys[key]() !== false) event.preventDefault();
  }

  // Marks a class, opens the groups above it, and scrolls to it.
  show(number) {
    this.chosen = number;
    for (const [item, node] of this.nodes) this.mark(item, node);
    if ([null, this.nodes.get(this.current)?.class].includes(number)) return;
    const holds = node => node.class === number || node.children.some(holds);
    const look = list =>
      [...list.children].find(one => holds(this.nodes.get(one)));
    let item = look(this.root);
    while (item && this.nodes.get(item).class !== number) {
      this.toggle(item, true);
      item = look(item.lastElementChild);
    }
    if (!item) return;
    this.move(item, false);
    this.root.scrollTop += item.getBoundingClientRect().top -
      this.root.getBoundingClientRect().top - this.root.clientHeight / 3;
  }
}
