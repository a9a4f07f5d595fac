// What the pages share: say so when the answers stop; keep a table's place when its numbers are replaced.
"use strict";
(() => {
  const stale = document.getElementById("stale");
  const say = (old) => { if (stale) stale.hidden = !old; };
  document.addEventListener("htmx:afterRequest", (event) => say(!event.detail.successful));
  document.addEventListener("htmx:sendError", () => say(true));
  document.addEventListener("htmx:beforeSwap", (event) => {
    // Refusals of what a person asked for are shown where the answer would have been.
    if ([400, 403, 404, 409].includes(event.detail.xhr.status)) event.detail.shouldSwap = true;
  });
  let places = [];
  document.addEventListener("htmx:beforeSwap", (event) => {
    places = [...event.detail.target.querySelectorAll(".scroll")].map((box) => [box.scrollLeft, box.scrollTop]);
  });
  document.addEventListener("htmx:afterSwap", (event) => {
    event.detail.target.querySelectorAll(".scroll").forEach((box, index) => {
      if (places[index]) [box.scrollLeft, box.scrollTop] = places[index];
    });
  });
  // A page that nobody looks at asks nothing.
  document.addEventListener("htmx:beforeRequest", (event) => {
    if (document.hidden && event.detail.requestConfig.verb === "get") event.preventDefault();
  });
})();
