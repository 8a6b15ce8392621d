"use strict";
// a column is sorted by a click on its heading: numbers the largest first, words from A to Z, and back again
for (const heading of document.querySelectorAll(".sorts thead th")) {
  heading.tabIndex = 0;
  const sort = () => {
    const body = heading.closest("table").tBodies[0];
    const text = (row) => row.cells[heading.cellIndex].textContent.trim();
    const numbers = [...body.rows].every((row) => text(row) !== "" && !isNaN(text(row)));
    const up = heading.ariaSort ? heading.ariaSort === "descending" : !numbers;
    const compare = (a, b) => (numbers ? text(a) - text(b) : text(a).localeCompare(text(b)));
    body.append(...[...body.rows].sort((a, b) => (up ? compare(a, b) : compare(b, a))));
    for (const other of heading.parentNode.cells) other.ariaSort = null;
    heading.ariaSort = up ? "ascending" : "descending";
  };
  heading.addEventListener("click", sort);
  heading.addEventListener("keydown", (event) => event.key === "Enter" && sort());
}
// what does not hold the words that are looked for is hidden
for (const field of document.querySelectorAll("[data-find]")) {
  field.addEventListener("input", () => {
    const words = field.value.toLowerCase().split(/\s+/);
    for (const each of document.querySelectorAll(field.dataset.find)) {
      const text = each.textContent.toLowerCase();
      each.hidden = !words.every((word) => text.includes(word));
    }
  });
}
// titles appear at once, and on touch
const tip = document.getElementById("tip");
for (const title of document.querySelectorAll("svg title")) {
  title.parentNode.dataset.tip = title.textContent;
  title.remove();
}
document.addEventListener("pointerover", (event) => {
  const said = event.target.closest("[data-tip]");
  tip.hidden = !said;
  if (!said) return;
  tip.textContent = said.dataset.tip;
  const width = document.documentElement.clientWidth;
  tip.style.left = Math.max(8, Math.min(event.clientX + 12, width - tip.offsetWidth - 8)) + "px";
  tip.style.top = (event.clientY + 20 + tip.offsetHeight < innerHeight ? event.clientY + 16 : event.clientY - tip.offsetHeight - 12) + "px";
});
document.documentElement.classList.add("scripted");
