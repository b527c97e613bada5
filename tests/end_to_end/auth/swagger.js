"use strict";

// Does in the documentation page what a person does: pastes a token, reads a message, and tells the test what came of it.

const tell = (type, data) => fetch("/events", {
  method: "POST",
  body: JSON.stringify({ origin: location.origin, type, data }),
});

const found = (selector) => new Promise((resolve) => {
  const look = () => {
    const element = document.querySelector(selector);
    element ? resolve(element) : setTimeout(look, 50);
  };
  look();
});

// React hears of a value only by the event of the input; the page waits for a pause in typing, or for the focus to leave.
const enter = (input, text) => {
  const { set } = Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value");
  set.call(input, text);
  input.dispatchEvent(new Event("input", { bubbles: true }));
  input.dispatchEvent(new FocusEvent("focusout", { bubbles: true }));
};

const run = async () => {
  (await found(".auth-wrapper .btn.authorize")).click();
  enter(await found("#auth-bearer-value"), "TOKEN");
  (await found(".modal-ux .btn.authorize[type=submit]")).click();
  await found(".modal-ux [aria-label='Remove authorization']");
  (await found(".modal-ux .close-modal")).click();
  const operation = "#operations-messages-readMessage";
  (await found(`${operation} .opblock-summary-control`)).click();
  enter(await found(`${operation} tr[data-param-name=id] input`), "MESSAGE");
  (await found(`${operation} .btn.execute`)).click();
  const status = await found(`${operation} .live-responses-table tbody .response-col_status`);
  await tell("response", {
    status: status.innerText.trim(),
    body: (await found(`${operation} .live-responses-table tbody .response-col_description`)).innerText,
    kept: JSON.stringify([{ ...localStorage }, { ...sessionStorage }]),
  });
};

run().catch((error) => tell("failed", String(error)));
