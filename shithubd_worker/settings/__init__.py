"""What the operator decided: flags, variables and files, checked whole."""
