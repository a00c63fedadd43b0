"""What the operator decided: flags, variables and files, all checked together."""
