"""The dashboard: pages from templates, live by a hint and a second look, acted on through the same engine as the API."""
