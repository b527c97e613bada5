"use strict";

window.ui = SwaggerUIBundle({
  dom_id: "#swagger-ui",
  url: "openapi.json",
  deepLinking: true,
  displayOperationId: true,
  tryItOutEnabled: true,
  // The badge that it would show comes from another origin.
  validatorUrl: null,
});
