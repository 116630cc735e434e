"""Which groups enter the update, and are the others replaced? One policy per file; the registry imports the whole folder."""
