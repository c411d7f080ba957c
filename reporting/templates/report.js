"use strict";

// A run's page waits unread inside <noscript>; it is put in its place when the run is opened for the first time.
function fill(run) {
  const page = run.querySelector(":scope > noscript");
  if (page) page.outerHTML = page.textContent;
}

// A link to a run opens it; a link to a variant's runs shows them even where a filter had taken them off the page.
function follow() {
  const name = decodeURIComponent(location.hash.slice(1));
  if (name.startsWith("runs-of-")) document.dispatchEvent(new Event("show-all-runs"));
  const target = document.getElementById(name);
  if (!target) return;
  if (target.matches("details.run")) {
    fill(target);  // at once, so that there is a page's length to scroll through
    target.open = true;
  }
  target.scrollIntoView();
}

document.addEventListener("toggle", (event) => event.target.matches("details.run") && fill(event.target), true);
document.addEventListener("click", (event) => {
  const link = event.target.closest('a[href^="#"]');
  if (link && link.hash === location.hash) follow();  // the address does not change, so no hashchange will tell
});
window.addEventListener("hashchange", follow);
if (location.hash) follow();
