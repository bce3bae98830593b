"""Skills: folders of instructions and files that agents may use. Their bytes are the host's."""
