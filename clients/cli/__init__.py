"""The command line `portway`: one module per command, imported when it is used."""
