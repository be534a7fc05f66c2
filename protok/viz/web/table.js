// Every table in a `.wide` box sorts by the column that is clicked, and of many rows shows those with all
// words that are typed. Words are looked for in the first column and in cells of text.
"use strict";
(() => {
  const MANY = 8;  // rows from which on a field is worth its place
  // A number with what may come behind it: "0.81 ± 0.02", "98%"; but not "3di".
  const NUMBER = /^[-+−]?[\d,]*\.?\d+(e[-+]?\d+)?(?=$|[\s%])/i;
  const text = cell => cell.textContent.trim();
  const number = cell => {
    const match = text(cell).match(NUMBER);
    return match ? parseFloat(match[0].replaceAll(",", "").replace("−", "-")) : NaN;
  };

  function sortable(table) {
    const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      const sort = () => {
        const rows = [...body.rows], cell = row => row.cells[column];
        const filled = rows.filter(row => text(cell(row)));
        const numbers = filled.every(row => !Number.isNaN(number(cell(row))));
        // Numbers come largest first, texts from A on; the second click turns round.
        const before = head.getAttribute("aria-sort");
        const down = before ? before === "ascending" : numbers;
        const order = new Intl.Collator(undefined, { numeric: true }).compare;
        const compare = numbers ? (a, b) => number(cell(a)) - number(cell(b)) : (a, b) => order(text(cell(a)), text(cell(b)));
        filled.sort((a, b) => down ? compare(b, a) : compare(a, b));
        body.append(...filled, ...rows.filter(row => !text(cell(row))));
        heads.forEach(other => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
      };
      head.tabIndex = 0;
      head.addEventListener("click", sort);
      head.addEventListener("keydown", event => { if (event.key === "Enter") sort(); });
    });
  }

  function filterable(table, box) {
    const rows = [...table.tBodies[0].rows];
    if (rows.length < MANY) return;
    const words = rows.map(row => [...row.cells].filter((cell, i) => !i || cell.matches(".text"))
      .map(text).join(" ").toLowerCase());
    const bar = document.createElement("div"), field = document.createElement("input"), count = document.createElement("output");
    Object.assign(field, { type: "search", placeholder: "filter rows", ariaLabel: "filter rows" });
    bar.className = "filter";
    bar.append(field, count);
    box.before(bar);
    const filter = () => {
      const wanted = field.value.toLowerCase().split(/\s+/).filter(Boolean);
      rows.forEach((row, i) => { row.hidden = !wanted.every(word => words[i].includes(word)); });
      count.textContent = `${rows.filter(row => !row.hidden).length} of ${rows.length} rows`;
    };
    field.addEventListener("input", filter);
    // A link to a row shows it, whatever is typed.
    window.addEventListener("hashchange", () => {
      const row = rows.find(row => row.id && `#${row.id}` === location.hash);
      if (!row || !row.hidden) return;
      field.value = "";
      filter();
      row.scrollIntoView();
    });
    filter();
  }

  for (const box of document.querySelectorAll(".wide")) {
    const table = box.querySelector("table");
    sortable(table);
    filterable(table, box);
  }
})();
