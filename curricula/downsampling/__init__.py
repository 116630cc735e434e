"""Which rollouts of the kept groups carry gradient? One policy per file; the registry imports the whole folder."""
