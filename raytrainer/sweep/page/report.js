"use strict";
const figures = JSON.parse(document.getElementById("figures").textContent);

// A figure names its colours as the style sheet does: var(--best).
function coloured(value, style) {
  if (typeof value === "string") {
    const name = /^var\((--[a-z0-9]+)\)$/.exec(value);
    return name ? style.getPropertyValue(name[1]).trim() : value;
  }
  if (Array.isArray(value)) return value.map((entry) => coloured(entry, style));
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([key, entry]) => [key, coloured(entry, style)]));
}

function draw() {
  const style = getComputedStyle(document.documentElement);
  const axis = { gridcolor: "var(--line)", linecolor: "var(--line)", zerolinecolor: "var(--line)", automargin: true,
    exponentformat: "power" };
  for (const [id, figure] of Object.entries(figures)) {
    const layout = {
      paper_bgcolor: "rgba(0,0,0,0)", margin: { l: 56, r: 16, t: 10, b: 46 }, hovermode: "closest",
      dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",  // a finger scrolls the page
      ...figure.layout, plot_bgcolor: "rgba(0,0,0,0)",
      font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: "var(--ink)" },
      hoverlabel: { bgcolor: "var(--card)", bordercolor: "var(--line)", font: { color: "var(--ink)" } },
      legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0, ...(figure.layout.legend || {}) },
    };
    for (const name of ["xaxis", "yaxis"]) layout[name] = { ...axis, ...(figure.layout[name] || {}) };
    const settings = { responsive: true, displayModeBar: false };
    Plotly.react(id, coloured(figure.data, style), coloured(layout, style), settings);
  }
}

function sortable(table) {
  const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending";
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const key = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
    const compare = (a, b) => {
      const one = key(a), other = key(b), x = parseFloat(one), y = parseFloat(other);
      if (one === "" || other === "") return (one === "") - (other === "");  // nothing is last, either way
      const order = Number.isNaN(x) || Number.isNaN(y) ? one.localeCompare(other) : x - y;
      return down ? -order : order;
    };
    body.append(...[...body.rows].sort(compare));
  }));
}

document.querySelectorAll("table.sortable").forEach(sortable);
draw();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
