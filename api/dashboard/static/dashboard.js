// The dashboard works as plain pages; this file makes it live: theme without a reload, overlay slider, job events.
(() => {
  "use strict";

  // Theme: the server reads the cookie for the next page, the attribute changes this one.
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-theme-choice]");
    if (!button) return;
    event.preventDefault();
    const choice = button.dataset.themeChoice;
    document.cookie = `theme=${choice}; path=/; max-age=31536000; SameSite=Lax`;
    if (choice === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = choice;
    for (const other of document.querySelectorAll("[data-theme-choice]")) {
      other.setAttribute("aria-pressed", String(other === button));
    }
    document.dispatchEvent(new CustomEvent("themechange"));
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => document.dispatchEvent(new CustomEvent("themechange")));

  // What only works with scripts is hidden without them.
  for (const element of document.querySelectorAll("[data-needs-script]")) element.hidden = false;

  // A sign-in link opened by a person needs no further click.
  const atOnce = document.querySelector("form[data-submit-at-once]");
  if (atOnce) atOnce.requestSubmit();

  // On a phone the sections scroll; bring the present one into sight.
  const nav = document.querySelector(".top nav");
  const here = nav && nav.querySelector("[aria-current]");
  if (here) nav.scrollLeft = here.offsetLeft - nav.offsetLeft - 40;

  document.addEventListener("input", (event) => {
    if (!event.target.matches("[data-overlay-slider]")) return;
    for (const area of document.querySelectorAll("[data-overlay]")) area.dataset.overlay = event.target.value;
  });

  const job = document.querySelector("[data-job]");
  if (job) followJob(job);

  // One stream per page: it tells that something changed, and the page's live part is fetched anew (at most once a second).
  function followJob(element) {
    const live = () => document.getElementById("live");
    if (live().dataset.active !== "true") return;
    let due = null;
    const refresh = () => {
      if (due === null) due = setTimeout(() => { due = null; htmx.trigger(live(), "refresh"); }, 1000);
    };
    const source = new EventSource(`/v1/jobs/${element.dataset.job}/events?after=${element.dataset.lastEvent}`);
    const receive = (message) => {
      const event = JSON.parse(message.data);
      element.dispatchEvent(new CustomEvent("jobevent", { detail: event }));
      if (event.type === "job.state" && ["succeeded", "failed", "cancelled"].includes(event.data.state)) source.close();
      refresh();
    };
    for (const type of ["job.state", "step.state", "step.progress", "sample", "log"]) source.addEventListener(type, receive);
    addEventListener("pagehide", () => source.close());
  }
})();
