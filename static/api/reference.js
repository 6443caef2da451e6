// Draws the API reference from our own document; nothing is fetched from elsewhere.
(() => {
  "use strict";
  const place = document.getElementById("reference");
  SwaggerUIBundle({
    url: place.dataset.document,
    domNode: place,
    deepLinking: true,
    validatorUrl: null,
    persistAuthorization: false,
    tryItOutEnabled: false,
  });
})();
