"use strict";
// Before the first paint, so that nothing flashes.
(function () {
  var kept = null;
  try { kept = localStorage.getItem("theme"); } catch (refused) { kept = null; }
  var light = window.matchMedia("(prefers-color-scheme: light)").matches;
  document.documentElement.dataset.theme = kept === "light" || kept === "dark" ? kept : light ? "light" : "dark";
})();
