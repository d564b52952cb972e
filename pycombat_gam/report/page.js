"use strict";
(() => {
  const missing = "";
  const collator = new Intl.Collator("en", { numeric: true });

  const toc = document.querySelector("nav details");
  if (toc && window.matchMedia("(max-width: 60rem)").matches) toc.open = false;

  // On paper nothing can be opened.
  window.addEventListener("beforeprint", () => {
    for (const closed of document.querySelectorAll("details:not([open])")) {
      closed.open = true;
      closed.dataset.closed = "";
    }
  });
  window.addEventListener("afterprint", () => {
    for (const opened of document.querySelectorAll("details[data-closed]")) {
      opened.open = false;
      delete opened.dataset.closed;
    }
  });

  const button = (text, label, act) => {
    const made = document.createElement("button");
    made.type = "button";
    made.textContent = text;
    if (label) made.setAttribute("aria-label", label);
    made.addEventListener("click", () => act(made));
    return made;
  };

  // A number where the cell has one, null where it is missing, else text.
  const key = (cell) => {
    const value = cell.dataset.value;
    if (value === undefined) return cell.textContent === "–" ? null : cell.textContent;
    return value === missing ? null : Number(value.replace("inf", "Infinity"));
  };
  const compare = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : collator.compare(a, b));

  const sort = (table, head, at) => {
    const down = head.getAttribute("aria-sort") === "ascending";
    const body = table.tBodies[0];
    const rows = Array.from(body.rows, (row) => [key(row.cells[at]), row]);
    const present = rows.filter(([value]) => value !== null);
    const absent = rows.filter(([value]) => value === null);
    present.sort(([a], [b]) => (down ? compare(b, a) : compare(a, b)));
    body.append(...present.concat(absent).map(([, row]) => row));
    for (const other of table.tHead.querySelectorAll("[aria-sort]")) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
  };

  const quoted = (text) => (/[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const csv = (table) => {
    const heads = Array.from(table.tHead.rows).at(-1).cells;
    const lines = [Array.from(heads, (head) => quoted(head.dataset.name))];
    for (const row of table.tBodies[0].rows) {
      lines.push(Array.from(row.cells, (cell) => cell.dataset.value ?? quoted(key(cell) ?? "")));
    }
    return lines.map((cells) => cells.join(",")).join("\r\n") + "\r\n";
  };
  const download = (name, text) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  };

  for (const place of document.querySelectorAll(".table")) {
    const table = place.querySelector("table");
    Array.from(Array.from(table.tHead.rows).at(-1).cells).forEach((head, at) => {
      head.setAttribute("aria-sort", "none");
      const name = head.textContent;
      head.replaceChildren(button(name, "", () => sort(table, head, at)));
    });
    const title = place.querySelector("h3").textContent;
    place.querySelector(".bar").append(button("CSV", `Download as CSV: ${title}`, () => download(`${place.id}.csv`, csv(table))));
    // Every digit of a number on pointing at it.
    table.addEventListener("mouseover", ({ target }) => {
      if (target.dataset && target.dataset.value) target.title = target.dataset.value;
    });
  }

  const said = document.getElementById("said");
  const select = (from) => {
    const range = document.createRange();
    range.selectNodeContents(from);
    const selection = getSelection();
    selection.removeAllRanges();
    selection.addRange(range);
  };
  const copied = async (from) => {
    try {
      await navigator.clipboard.writeText(from.textContent);
      return true;
    } catch {
      // Without the clipboard's permission, the old way.
      select(from);
      const done = document.execCommand("copy");
      if (done) getSelection().removeAllRanges();
      return done;
    }
  };
  for (const place of document.querySelectorAll("[data-copies]")) {
    const from = document.getElementById(place.dataset.copies);
    place.append(button("Copy", `Copy: ${place.dataset.title}`, async (made) => {
      const done = await copied(from);
      made.textContent = done ? "Copied" : "Selected: press Ctrl+C";
      said.textContent = done ? `Copied: ${place.dataset.title}` : "The text is selected: copy it with Ctrl+C.";
      setTimeout(() => { made.textContent = "Copy"; }, 2500);
    }));
  }
})();
