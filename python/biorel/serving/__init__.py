"""The HTTP service: a saved model behind endpoints for sentences and documents, with a page for the browser."""
