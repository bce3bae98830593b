"""What tools, knowledge engines, parsers and event listeners must do: suites for plugins in any language."""
