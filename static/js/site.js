// Site-wide behaviour. Without it every link is a link and every form a form.
(() => {
  "use strict";

  const $ = (id) => document.getElementById(id);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const on = (name, listener, capture = false) => document.addEventListener(name, listener, capture);
  const dialog = $("dialog");
  const skew = Date.now() - Date.parse(document.body.dataset.now);

  // --- Saying things -----------------------------------------

  /** Tell people who cannot see the change. The same words twice are still said twice. */
  function announce(text) {
    $("live").textContent = "";
    setTimeout(() => { $("live").textContent = text; }, 50);
  }

  /** Show what went wrong, in the open dialog or on top of the page; nothing clears the line. */
  function alarm(text) {
    let line = dialog.querySelector(".alert-line");
    if (!dialog.open) line = $("alert");
    else if (!line) {
      line = Object.assign(document.createElement("p"), { className: "alert-line", role: "alert" });
      dialog.prepend(line);
    }
    line.textContent = text;
    if (text) line.scrollIntoView({ block: "nearest" });
  }

  on("announce", ({ detail }) => announce(detail.text ?? detail.value));

  // --- What went wrong ---------------------------------------

  const UNKNOWN = "Reload the page before you repeat it, to see whether it was done.";
  const REFUSALS = {
    400: "That request could not be read. Reload the page and try again.",
    403: "Your role does not allow this, or the page is too old: reload it. Nothing was changed.",
    404: "This is no longer here. Reload the page to see how it stands.",
    429: "Too many requests. Wait a moment and try again.",
  };

  on("htmx:responseError", ({ detail: { xhr } }) => {
    alarm(REFUSALS[xhr.status] ?? `Something failed on our side (${xhr.status}). ${UNKNOWN}`);
  });
  on("htmx:timeout", () => alarm(`The answer is taking too long. ${UNKNOWN}`));
  on("htmx:sendError", () => alarm(`The connection was lost. ${UNKNOWN}`));
  on("htmx:beforeRequest", () => alarm(""));

  // --- Forms in flight ---------------------------------------

  function busy(form, button) {
    if (!button || form.dataset.sending === undefined) return;
    button.dataset.idle = button.textContent;
    button.setAttribute("aria-disabled", "true");
    if (button.dataset.busy) button.textContent = button.dataset.busy;
  }

  function idle(form) {
    delete form.dataset.sending;
    for (const button of all("[data-idle]", form)) {
      if (button.dataset.busy) button.textContent = button.dataset.idle;
      button.removeAttribute("aria-disabled");
      delete button.dataset.idle;
    }
  }

  // A second submit in flight is dropped. A button changes after its name and value were read,
  // for a swap only when the answer takes a while.
  on("submit", (event) => {
    const form = event.target;
    if (form.method !== "post") return;
    if (form.dataset.sending !== undefined) {
      event.preventDefault();
      event.stopImmediatePropagation();
      return;
    }
    form.dataset.sending = "";
    const swaps = form.closest("#dialog") || form.hasAttribute("hx-post");
    setTimeout(() => busy(form, event.submitter ?? form.querySelector("[type=submit]")), swaps ? 150 : 0);
    setTimeout(() => idle(form), 20000);
  }, true);
  on("htmx:afterRequest", ({ detail }) => { if (detail.elt.matches("form")) idle(detail.elt); });
  addEventListener("pageshow", () => all("form").forEach(idle));

  // --- Focus -------------------------------------------------

  /** Give focus back to what had it, or to its successor if a swap replaced it. */
  function refocus(lost) {
    if (document.activeElement !== document.body) return;
    let next = (lost?.isConnected ? lost : lost && successor(lost)) || null;
    const menu = next?.closest("[popover]:not(:popover-open)");
    if (menu) next = document.querySelector(`[popovertarget="${menu.id}"]`) ?? next;
    (next ?? $("main")).focus({ preventScroll: true });
  }

  function successor({ id, name, value, attributes: { href } }) {
    if (id) return $(id);
    if (href) return all("a").find((link) => link.getAttribute("href") === href.value);
    return name && all("input, select, button").find((field) => field.name === name && field.value === value);
  }

  // --- The one dialog ----------------------------------------

  let opener = null;
  let typed = false;

  function openDialog(link) {
    opener = link;
    htmx.ajax("GET", link.href, { source: link, target: "#dialog", swap: "innerHTML" });
  }

  function showDialog() {
    const heading = dialog.querySelector("h1, h2");
    if (heading) {
      heading.id ||= "dialog-title";
      dialog.setAttribute("aria-labelledby", heading.id);
    }
    if (!dialog.open) dialog.showModal();
    // What loses something is never one Enter away.
    const first = ["[data-focus], [autofocus]", "input:not([type=hidden]), select, textarea", ".button:not(.danger)"];
    const field = first.map((selector) => dialog.querySelector(selector)).find(Boolean);
    (field ?? dialog).focus();
  }

  function leaveDialog(event) {
    event.preventDefault();
    if (!typed || confirm("Leave and lose this?")) dialog.close();
  }

  on("close-dialog", () => dialog.close());
  on("input", ({ target }) => { typed ||= dialog.contains(target); });
  on("close", ({ target }) => {
    if (target !== dialog) return;
    typed = false;
    target.replaceChildren();
    setTimeout(() => refocus(opener), 30);
  }, true);
  on("cancel", (event) => { if (event.target === dialog) leaveDialog(event); }, true);
  on("pointerdown", ({ target, clientX: x, clientY: y }) => {
    if (target !== dialog || typed) return;
    const box = target.getBoundingClientRect();
    if (x < box.left || x > box.right || y < box.top || y > box.bottom) target.close();
  });

  // An answer that was redirected is a whole page: go there.
  on("htmx:beforeSwap", ({ detail }) => {
    if (detail.target !== dialog || !detail.xhr.responseURL) return;
    const asked = new URL(detail.pathInfo.finalRequestPath, location.href);
    const answered = new URL(detail.xhr.responseURL);
    if (asked.pathname === answered.pathname) return;
    detail.shouldSwap = false;
    location.assign(answered);
  });
  // What happens in the dialog is not a page: boosted forms and links leave the address alone.
  on("htmx:beforeHistoryUpdate", ({ detail: { target, history } }) => {
    if (target === dialog) Object.assign(history, { type: "replace", path: location.pathname + location.search });
  });
  on("htmx:afterSwap", ({ detail: { target, xhr } }) => {
    if (target !== dialog) return;
    typed = (typed && xhr.status >= 400) || !!target.querySelector(".once");
    if (!target.children.length) target.close();
  });

  // --- Toasts ------------------------------------------------

  function dismiss(toast) {
    toast.remove();
    refocus(null);
  }

  /** Leave after a while, but never while somebody points at it or stands in it. */
  function retire(toast) {
    if (toast.matches(":hover, :focus-within")) setTimeout(() => retire(toast), 2000);
    else toast.remove();
  }

  function welcome(toast) {
    if (toast.dataset.seen) return;
    toast.dataset.seen = "1";
    const undo = toast.querySelector("form");
    announce(toast.querySelector("p").textContent + (undo ? " Undo is at the end of the page." : ""));
    if (!toast.matches(".error")) setTimeout(() => retire(toast), undo ? 20000 : 6000);
  }

  const welcomeAll = () => all("#toasts .toast").forEach(welcome);
  new MutationObserver(welcomeAll).observe($("toasts"), { childList: true });

  // --- Copy --------------------------------------------------

  async function copy(button) {
    const { copy: text, copyName = text } = button.dataset;
    let word = "Copied";
    try {
      await navigator.clipboard.writeText(text);
      typed &&= !button.closest(".once");
    } catch {
      word = "Not allowed here";
    }
    const note = Object.assign(document.createElement("span"), { className: "copied", textContent: word });
    button.dataset.copied = "";
    button.append(note);
    announce(`${word}: ${copyName}`);
    setTimeout(() => { note.remove(); delete button.dataset.copied; }, 1500);
  }

  // --- Time left ---------------------------------------------

  function count(clock) {
    const left = Math.max(0, Math.round((Date.parse(clock.dataset.until) - Date.now() + skew) / 1000));
    const name = clock.dataset.name ?? "A hold";
    clock.textContent = `${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}`;
    if (left <= 60 && left > 0 && !("soon" in clock.dataset)) {
      clock.dataset.soon = "";
      announce(`${name} ends in ${left} seconds.`);
    }
    if (left === 0 && !("over" in clock.dataset)) {
      clock.dataset.over = "";
      announce(`${name} has ended.`);
      clock.dispatchEvent(new CustomEvent("hold-expired", { bubbles: true }));
    }
  }

  const tick = () => all("[data-until]").forEach(count);
  setInterval(tick, 1000);
  on("visibilitychange", tick);

  // --- Choosing rows -----------------------------------------

  /** Keep the count and the header box of a form's table true. */
  function recount(form) {
    const boxes = all("tbody .cell-select input", form);
    const chosen = boxes.filter((box) => box.checked).length;
    for (const head of all("[data-select-all]", form)) {
      head.checked = chosen > 0 && chosen === boxes.length;
      head.indeterminate = chosen > 0 && !head.checked;
    }
    for (const output of all("[data-selected]", form)) output.textContent = `${chosen} selected`;
  }

  on("change", ({ target }) => {
    const form = target.closest(".cell-select") && target.form;
    if (!form) return;
    if (target.matches("[data-select-all]")) {
      for (const box of all("tbody .cell-select input:enabled", form)) box.checked = target.checked;
    }
    recount(form);
  });

  // --- Clicks and keys ---------------------------------------

  on("click", (event) => {
    const hit = (selector) => event.target.closest(selector);
    const plain = event.button === 0 && !(event.metaKey || event.ctrlKey || event.shiftKey || event.altKey);
    const taken = (plain && window.htmx && hit("a[data-dialog]")) || hit("#dialog [data-close]");
    if (taken) {
      event.preventDefault();
      event.stopImmediatePropagation();
      if (taken.matches("[data-close]")) dialog.close();
      else openDialog(taken);
    } else if (hit("[data-dismiss]")) dismiss(hit(".toast"));
    else if (hit("[data-copy]")) copy(hit("[data-copy]"));
    else if (hit("[data-print]")) print();
  }, true);

  on("keydown", (event) => {
    const { key, target } = event;
    let next = null;
    // Chromium does not ask each time before Escape closes a dialog.
    if (key === "Escape" && dialog.open) leaveDialog(event);
    else if (key === "/" && !target.closest("input, select, textarea") && !event.metaKey && !event.ctrlKey && !event.altKey) {
      next = (dialog.open ? dialog : $("main")).querySelector("[type=search]");
    } else if (key === "ArrowDown" && target.matches(".picker [type=search]")) {
      next = target.closest(".picker").querySelector(".options input:enabled");
    }
    if (!next) return;
    event.preventDefault();
    next.focus();
  });

  // --- Swaps -------------------------------------------------

  // A swap keeps what people held: focus, and a popover that was open.
  let held = null;
  let open = [];

  on("htmx:beforeSwap", ({ detail: { target } }) => {
    held = target.contains(document.activeElement) ? document.activeElement : null;
    open = all("[popover]:popover-open", target).map((element) => element.id);
  });
  on("htmx:afterSettle", ({ detail: { target } }) => {
    // Only now htmx hears its forms: one sent before would leave the page.
    if (target === dialog && target.children.length) showDialog();
    for (const id of open) $(id)?.showPopover();
    if (held && !dialog.open) refocus(held);
    open = [];
    held = null;
    arrive();
  });

  function arrive() {
    tick();
    all("form:has([data-selected])").forEach(recount);
  }

  arrive();
  welcomeAll();
  document.querySelector("main [data-focus]")?.focus();
})();
