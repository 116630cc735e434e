"""One curriculum inside other trainers: a module per host, which imports `curricula` and that host's library only.

What hosts have in common (prompt ids, outcomes from rewards, refills, advantages, state beside a checkpoint) is in
`curricula.hosting`; their log in `hosted_log`.
"""
