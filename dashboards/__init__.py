"""The farm's web pages: rendered here, brought up to date by htmx, readable without any script."""
