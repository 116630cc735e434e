"""`curricula replay`: a log, read by other recipes. ``source`` finds the log and how its run went on, ``command`` does the rest."""
