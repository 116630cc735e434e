"""What value has a scalar now? One policy per file; the registry imports the whole folder."""
