"""Erasing the data of a user, a conversation or a whole workspace, to its end, also after a kill."""
