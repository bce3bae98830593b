"""The web chat: a page in the browser, and the process that serves it."""
