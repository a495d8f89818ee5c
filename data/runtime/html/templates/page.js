"use strict";

// Tables: a click on a heading sorts by that column, highest number first; a second click turns it round.
// Cells without a number (a dash) stay last.
function sortBy(heading) {
  const table = heading.closest("table");
  const column = heading.cellIndex;
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  const isNumber = rows.some((row) => row.cells[column].dataset.value !== undefined);
  const before = heading.getAttribute("aria-sort");
  const descending = before ? before === "ascending" : isNumber;
  const value = (row) => {
    const cell = row.cells[column];
    if (!isNumber) return cell.textContent;
    return cell.dataset.value === undefined ? null : Number(cell.dataset.value);
  };
  rows.sort((one, other) => {
    const a = value(one), b = value(other);
    if (a === null || b === null) return (a === null) - (b === null);
    const order = isNumber ? a - b : a.localeCompare(b);
    return descending ? -order : order;
  });
  for (const other of heading.parentElement.cells) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
  body.append(...rows);
}

// Filters: an item stays while every choice that is made about it stands in its list.
function filter(target) {
  const choices = Array.from(document.querySelectorAll(`select[data-filters="${target}"]`));
  let count = 0;
  for (const item of document.querySelectorAll(`#${target} .item`)) {
    item.hidden = choices.some(
      (choice) => choice.value && !JSON.parse(item.dataset[choice.dataset.key]).includes(choice.value)
    );
    count += !item.hidden;
  }
  for (const output of document.querySelectorAll(`[data-counts="${target}"]`)) output.textContent = `${count} shown`;
}

for (const button of document.querySelectorAll("table.sortable thead button")) {
  button.addEventListener("click", () => sortBy(button.closest("th")));
}
for (const choice of document.querySelectorAll("select[data-filters]")) {
  choice.addEventListener("change", () => filter(choice.dataset.filters));
}
