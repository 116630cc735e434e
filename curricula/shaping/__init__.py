"""What reward does a finished rollout get, and how long may it be? One policy per file; the registry imports the whole folder."""
