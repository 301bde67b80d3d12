// Tables whose rows stay where they are: only what has changed is touched.

/** An element with a text. Texts of others come into the page in this way alone, never as HTML. */
export function element(name, text = "", className = "") {
  const made = document.createElement(name);
  made.textContent = text;
  if (className) made.className = className;
  return made;
}

/** Set a text, if it is another one. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/** Show or hide an element. */
export function show(node, isShown) {
  if (node.hidden === isShown) node.hidden = !isShown;
}

/**
 * Have a parent's children be those of some items, in their order.
 *
 * @param known a Map from keys to children; those whose item is gone are taken out.
 * @param make makes an item's child; `update(child, item)` is called each time.
 */
export function keep(parent, known, items, keyOf, make, update) {
  const wanted = new Map(items.map((item) => [keyOf(item), item]));
  // These first: else all behind them would move, and what has the focus would lose it.
  for (const [key, child] of known) {
    if (!wanted.has(key)) {
      child.remove();
      known.delete(key);
    }
  }
  let place = parent.firstElementChild;
  for (const [key, item] of wanted) {
    if (!known.has(key)) known.set(key, make(item));
    const child = known.get(key);
    if (child === place) place = place.nextElementSibling;
    else parent.insertBefore(child, place);
    update(child, item);
  }
}

/**
 * A table; at phone width its rows are cards.
 *
 * A column has a `title`, a `value(row)`, which is a text, and maybe `make(row)`
 * for the element that holds it, once for each row; `isNumber`, and `mark(row)`
 * for the class of its cell.
 */
export class Table {
  constructor(parent, label, columns, keyOf, emptyWords) {
    this.columns = columns;
    this.keyOf = keyOf;
    this.emptyWords = emptyWords;
    this.rows = new Map();
    this.empty = element("p", "", "empty");
    this.more = element("p", "", "empty");
    this.table = element("table");
    // Shown as cards, a table would be none for those who hear it.
    this.table.setAttribute("role", "table");
    this.table.setAttribute("aria-label", label);
    this.body = element("tbody");
    this.body.setAttribute("role", "rowgroup");
    this.table.append(this.head(), this.body);
    parent.append(this.empty, this.table, this.more);
    this.show([]);
  }

  /** Show these rows; `more` says how many there are beside, and `emptyWords` what stands where there are none. */
  show(rows, more = 0, emptyWords = this.emptyWords) {
    keep(this.body, this.rows, rows, this.keyOf, (row) => this.make(row), (tr, row) => this.update(tr, row));
    show(this.table, rows.length > 0);
    say(this.empty, emptyWords);
    show(this.empty, rows.length === 0);
    show(this.more, more > 0);
    say(this.more, `and ${more.toLocaleString()} more`);
  }

  head() {
    const row = element("tr");
    row.setAttribute("role", "row");
    for (const column of this.columns) {
      const cell = element("th", column.title, column.isNumber ? "number" : "");
      cell.scope = "col";
      cell.setAttribute("role", "columnheader");
      row.append(cell);
    }
    const head = element("thead");
    head.setAttribute("role", "rowgroup");
    head.append(row);
    return head;
  }

  make(row) {
    const tr = element("tr");
    tr.setAttribute("role", "row");
    for (const column of this.columns) {
      const cell = element("td");
      cell.setAttribute("role", "cell");
      cell.dataset.title = column.title;
      cell.append(column.make ? column.make(row) : element("span"));
      tr.append(cell);
    }
    return tr;
  }

  update(tr, row) {
    this.columns.forEach((column, index) => {
      const cell = tr.children[index];
      const text = column.value(row);
      const name = `${column.isNumber ? "number" : ""} ${column.mark ? column.mark(row) : ""}`.trim();
      say(cell.firstElementChild, text);
      if (cell.className !== name) cell.className = name;
      show(cell.firstElementChild, text !== "");
    });
  }
}
