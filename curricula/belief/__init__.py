"""What is the pass rate of a prompt, and how sure are we? One policy per file; the registry imports the whole folder."""
