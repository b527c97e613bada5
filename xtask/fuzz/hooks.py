"""Checks for schemathesis that the OpenAPI document alone cannot express."""

import schemathesis
from schemathesis.specs.openapi.checks import positive_data_acceptance


@schemathesis.check
def valid_data_is_accepted(ctx, response, case):
    """`positive_data_acceptance`, except for a request that is valid alone, but not after another one:
    the same sender and Idempotency-Key with another body (422, key-reused)."""
    if response.status_code == 422 and response.json().get("type") == "/problems/key-reused":
        return None
    return positive_data_acceptance(ctx, response, case)
