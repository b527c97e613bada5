"use strict";

window.ui = SwaggerUIBundle({
  dom_id: "#swagger-ui",
  url: "openapi.json",
  deepLinking: true,
  displayOperationId: true,
  tryItOutEnabled: true,
  // A token that was pasted is forgotten with the page.
  persistAuthorization: false,
  // The badge that it would show comes from another origin.
  validatorUrl: null,
});
