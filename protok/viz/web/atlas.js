// Sorts the table by the column that is clicked, downwards first; rows without a value come last.
"use strict";
(() => {
  const body = document.querySelector("tbody");
  document.querySelectorAll("thead th").forEach((head, column) => {
    let down = false;
    head.addEventListener("click", () => {
      down = !down;
      const value = row => parseFloat(column ? row.cells[column].textContent : row.id.slice(1));
      const rows = [...body.rows].sort((a, b) => {
        const [x, y] = [value(a), value(b)];
        if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
        return down ? y - x : x - y;
      });
      body.append(...rows);
    });
  });
})();
