// Site-wide behaviour. Without it every link is a link and every form a form.
(() => {
  "use strict";

  const $ = (id) => document.getElementById(id);
  const all = (selector, root = document) => root.querySelectorAll(selector);
  const skew = Date.now() - Date.parse(document.body.dataset.now || new Date());

  // --- Saying things -------------------------------------------------------

  /** Tell people who cannot see the change. The same words twice are still said twice. */
  function announce(text) {
    const live = $("live");
    live.textContent = "";
    setTimeout(() => { live.textContent = text; }, 50);
  }

  function alarm(text) {
    const dialog = $("dialog");
    let line = $("alert");
    if (dialog.open) {
      line = dialog.querySelector(".alert-line") || Object.assign(document.createElement("p"), { className: "alert-line", role: "alert" });
      dialog.prepend(line);
    }
    line.textContent = text;
    if (text) line.scrollIntoView({ block: "nearest" });
  }

  document.addEventListener("announce", (event) => announce(event.detail.text ?? event.detail.value ?? ""));

  // --- What went wrong -----------------------------------------------------

  const REFUSALS = {
    400: "That request could not be read. Reload the page and try again.",
    403: "Your role does not allow this, or the page is too old. Reload it and try again. Nothing was changed.",
    404: "This is no longer here. Reload the page to see how it stands.",
    413: "That is too large to send.",
    429: "Too many requests in a short time. Wait a moment and try again.",
  };
  const UNKNOWN = "Reload the page before you repeat it, to see whether it was done.";

  document.addEventListener("htmx:responseError", ({ detail }) => {
    alarm(REFUSALS[detail.xhr.status] || `Something failed on our side (${detail.xhr.status}). ${UNKNOWN}`);
  });
  document.addEventListener("htmx:timeout", () => alarm(`The answer is taking too long. ${UNKNOWN}`));
  document.addEventListener("htmx:sendError", () => alarm(`The connection was lost. ${UNKNOWN}`));
  document.addEventListener("htmx:beforeRequest", () => { if ($("alert").textContent) alarm(""); });

  // --- Buttons in flight ---------------------------------------------------

  function busy(form, submitter) {
    const button = submitter || form.querySelector("[type=submit]");
    if (!button || button.hasAttribute("data-idle")) return;
    button.dataset.idle = button.textContent;
    button.setAttribute("aria-disabled", "true");
    if (button.dataset.busy) button.textContent = button.dataset.busy;
  }

  function idle(root) {
    for (const button of all("[data-idle]", root)) {
      if (button.dataset.busy) button.textContent = button.dataset.idle;
      button.removeAttribute("aria-disabled");
      button.removeAttribute("data-idle");
    }
  }

  // A second submit of a form in flight is dropped; the first keeps its button's name and value.
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.method === "dialog" || form.method === "get") return;
    if (form.querySelector("[data-idle]")) {
      event.preventDefault();
      event.stopImmediatePropagation();
      return;
    }
    setTimeout(() => busy(form, event.submitter), form.closest("#dialog") || form.hasAttribute("hx-post") ? 150 : 0);
    form.dataset.sending = "";
  }, true);
  document.addEventListener("htmx:afterRequest", (event) => setTimeout(() => idle(event.target.isConnected ? event.target.parentNode : document), 160));
  addEventListener("pageshow", () => idle(document));

  // --- The one dialog ------------------------------------------------------

  let opener = null;
  let typed = false;

  function openDialog(link) {
    opener = link;
    htmx.ajax("GET", link.href, { source: link, target: "#dialog", swap: "innerHTML" });
  }

  function showDialog(dialog) {
    const heading = dialog.querySelector("h1, h2");
    if (heading) {
      heading.id ||= "dialog-title";
      dialog.setAttribute("aria-labelledby", heading.id);
    }
    if (!dialog.open) dialog.showModal();
    (dialog.querySelector("[data-focus], [autofocus]") || dialog.querySelector("input:not([type=hidden]), select, textarea, .button") || dialog).focus();
  }

  function closeDialog() {
    const dialog = $("dialog");
    if (dialog.open) dialog.close();
  }

  function closeUnlessTyped() {
    if (typed) announce("What you typed is kept. Choose Cancel to leave without it.");
    else closeDialog();
  }

  /** Give focus back to what opened the dialog, or to its successor if a swap replaced it. */
  function refocus(lost) {
    if (document.activeElement && document.activeElement !== document.body) return;
    const same = lost && (lost.isConnected ? lost : successor(lost));
    (same || $("main")).focus({ preventScroll: true });
  }

  function successor(lost) {
    if (lost.id && $(lost.id)) return $(lost.id);
    const href = lost.getAttribute("href");
    if (href) return document.querySelector(`a[href="${CSS.escape(href)}"]`);
    return lost.name ? document.querySelector(`[name="${CSS.escape(lost.name)}"][value="${CSS.escape(lost.value)}"]`) : null;
  }

  document.addEventListener("close-dialog", closeDialog);
  document.addEventListener("input", (event) => { if (event.target.closest("#dialog")) typed = true; });

  document.addEventListener("close", (event) => {
    if (event.target.id !== "dialog") return;
    typed = false;
    event.target.replaceChildren();
    setTimeout(() => refocus(opener), 30);
  }, true);
  document.addEventListener("cancel", (event) => {
    if (event.target.id !== "dialog") return;
    event.preventDefault();
    closeUnlessTyped();
  }, true);
  document.addEventListener("pointerdown", (event) => {
    if (event.target.id !== "dialog") return;
    const box = event.target.getBoundingClientRect();
    const inside = event.clientX >= box.left && event.clientX <= box.right && event.clientY >= box.top && event.clientY <= box.bottom;
    if (!inside) closeUnlessTyped();
  });

  // An answer that was redirected is a whole page: go there instead of showing it in the dialog.
  document.addEventListener("htmx:beforeSwap", ({ detail }) => {
    if (detail.target.id !== "dialog") return;
    const asked = new URL(detail.pathInfo.finalRequestPath || detail.pathInfo.requestPath, location.href);
    const answered = new URL(detail.xhr.responseURL || asked);
    if (asked.pathname === answered.pathname) return;
    detail.shouldSwap = false;
    location.assign(answered);
  });

  document.addEventListener("htmx:afterSwap", ({ detail }) => {
    if (detail.target.id !== "dialog") return;
    typed = typed && detail.xhr.status >= 400;
    if (detail.target.children.length) showDialog(detail.target);
    else closeDialog();
  });

  // --- Toasts --------------------------------------------------------------

  function dismiss(toast) {
    const inside = toast.contains(document.activeElement);
    toast.remove();
    if (inside) $("main").focus({ preventScroll: true });
  }

  /** Leave after a while, but never while somebody points at it or stands in it. */
  function retire(toast) {
    const wait = toast.querySelector("form") ? 20000 : 6000;
    const leave = () => {
      if (toast.matches(":hover, :focus-within")) setTimeout(leave, 2000);
      else toast.remove();
    };
    setTimeout(leave, wait);
  }

  function welcome(toast) {
    if (toast.dataset.seen) return;
    toast.dataset.seen = "1";
    announce(toast.querySelector("p").textContent + (toast.querySelector("form") ? " Undo is at the end of the page." : ""));
    if (!toast.matches(".error")) retire(toast);
  }

  new MutationObserver(() => all("#toasts .toast").forEach(welcome)).observe($("toasts"), { childList: true, subtree: true });

  // --- Copy ----------------------------------------------------------------

  async function copy(button) {
    try {
      await navigator.clipboard.writeText(button.dataset.copy);
    } catch {
      announce(`Copying is not allowed here: ${button.dataset.copy}`);
      return;
    }
    button.dataset.copied = "";
    const note = Object.assign(document.createElement("span"), { className: "copied", textContent: "Copied" });
    if (button.matches(".copy")) button.append(note);
    announce(`Copied ${button.dataset.copy}`);
    setTimeout(() => { note.remove(); button.removeAttribute("data-copied"); }, 1500);
  }

  // --- Time left -----------------------------------------------------------

  function count(clock) {
    const left = Math.max(0, Math.round((Date.parse(clock.dataset.until) - (Date.now() - skew)) / 1000));
    const text = `${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}`;
    if (clock.textContent !== text) clock.textContent = text;
    if (left <= 60 && left > 0 && clock.dataset.soon === undefined) {
      clock.dataset.soon = "";
      announce(`${clock.dataset.name || "A hold"} ends in ${left === 60 ? "one minute" : `${left} seconds`}.`);
    }
    if (left === 0 && clock.dataset.over === undefined) {
      clock.dataset.over = "";
      announce(`${clock.dataset.name || "A hold"} has ended.`);
      clock.dispatchEvent(new CustomEvent("hold-expired", { bubbles: true }));
    }
  }

  const tick = () => all("[data-until]").forEach(count);
  setInterval(tick, 1000);
  document.addEventListener("visibilitychange", tick);

  // --- Choosing rows -------------------------------------------------------

  /** Keep the count, the header box and the buttons of a form's bulk bar true. */
  function recount(form) {
    const boxes = [...all("tbody .cell-select input", form)];
    const chosen = boxes.filter((box) => box.checked).length;
    const head = form.querySelector("[data-select-all]");
    if (head) {
      head.checked = chosen > 0 && chosen === boxes.length;
      head.indeterminate = chosen > 0 && chosen < boxes.length;
    }
    for (const output of all("[data-selected]", form)) output.textContent = `${chosen} selected`;
  }

  document.addEventListener("change", ({ target }) => {
    const form = target.closest("form");
    if (!form || !target.closest(".cell-select")) return;
    if (target.matches("[data-select-all]")) all("tbody .cell-select input:not(:disabled)", form).forEach((box) => { box.checked = target.checked; });
    recount(form);
  });

  // --- Clicks and keys -----------------------------------------------------

  const plain = (event) => event.button === 0 && !(event.metaKey || event.ctrlKey || event.shiftKey || event.altKey);

  document.addEventListener("click", (event) => {
    const hit = (selector) => event.target.closest(selector);
    const link = hit("a[data-dialog]");
    if (link && plain(event) && window.htmx) {
      event.preventDefault();
      event.stopImmediatePropagation();
      openDialog(link);
    } else if (hit("#dialog [data-close]")) {
      event.preventDefault();
      event.stopImmediatePropagation();
      closeDialog();
    } else if (hit("[data-dismiss]")) dismiss(hit("[data-dismiss]").closest(".toast"));
    else if (hit("[data-copy]")) copy(hit("[data-copy]"));
    else if (hit("[data-print]")) print();
  }, true);

  document.addEventListener("keydown", (event) => {
    const writing = event.target.closest("input, select, textarea, [contenteditable]");
    if (event.key === "/" && !writing && !event.metaKey && !event.ctrlKey && !event.altKey) {
      const search = document.querySelector("dialog[open] [type=search]") || document.querySelector("main [type=search]");
      if (search) { event.preventDefault(); search.focus(); search.select(); }
    }
    const picker = event.target.closest(".picker");
    if (picker && event.key === "ArrowDown" && event.target.type === "search") {
      const first = picker.querySelector(".options input:not(:disabled)");
      if (first) { event.preventDefault(); first.focus(); }
    }
  });

  // --- Swaps ---------------------------------------------------------------

  // A swap keeps what people held: focus, and a popover that was open.
  let held = null;
  let open = [];

  document.addEventListener("htmx:beforeSwap", ({ detail }) => {
    held = detail.target.contains(document.activeElement) ? document.activeElement : null;
    open = [...all("[popover]:popover-open", detail.target)].map((element) => element.id);
  });
  document.addEventListener("htmx:afterSettle", () => {
    for (const id of open) $(id)?.showPopover?.();
    open = [];
    if (held && !held.isConnected && !$("dialog").open) refocus(held);
    held = null;
    arrive(document);
  });

  function arrive(root) {
    tick();
    all("form", root).forEach((form) => { if (form.querySelector("[data-selected]")) recount(form); });
  }

  arrive(document);
  all("#toasts .toast").forEach(welcome);
  document.querySelector("main [data-focus]")?.focus();
})();
