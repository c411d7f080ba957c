for (const table of document.querySelectorAll("table.sortable")) {
  const search = table.classList.contains("filtered");
  const widget = new DataTable(table, {
    autoWidth: false,
    info: search,
    language: { search: "Filter:", info: "_TOTAL_ lines", infoEmpty: "no line", infoFiltered: "of _MAX_" },
    layout: { topStart: search ? "info" : null, topEnd: search ? "search" : null, bottomStart: null, bottomEnd: null },
    order: [],
    paging: false,
  });
  if (table.id === "table-runs") document.addEventListener("show-all-runs", () => widget.search("").draw());
}
if (location.hash) follow();  // the widgets have moved what is below them
document.documentElement.dataset.tables = "ready";
