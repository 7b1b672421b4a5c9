"""Nothing: array_api_compat imports it."""
