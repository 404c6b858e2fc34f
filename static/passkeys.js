// Passkeys: hands django-allauth's script what it needs from data attributes, and shows what went wrong.
"use strict";

(() => {
  const WORDS = {
    NotAllowedError: "Nothing was confirmed. Try again, or use another way.",
    InvalidStateError: "This passkey is in use for your account already.",
    SecurityError: "Browsers make and use passkeys only where the portal is reached by a name, over TLS.",
  };
  for (const form of document.querySelectorAll("form[data-passkey]")) {
    const { passkey, options } = form.dataset;
    const id = (name) => form.querySelector(`[name=${name}]`)?.id;
    const button = form.querySelector("[data-passkey-button]").id;
    allauth.webauthn.forms[passkey]({
      ids: { add: button, login: button, authenticate: button, credential: id("credential"), passwordless: id("passwordless") },
      data: options && JSON.parse(options),
    });
  }
  document.addEventListener("allauth.error", (event) => {
    event.preventDefault();
    const place = document.querySelector("[data-passkey-error]");
    const { name, message } = event.detail.exception;
    place.textContent = WORDS[name] || message;
    place.hidden = false;
  });
})();
