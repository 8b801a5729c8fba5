"""`taco run`: starts the ranks of a job, shows what they print, and ends all when one dies.

docs/lightcc_run.md tells of the command. From the bottom up: `keeper` holds one rank on its host,
`worker` starts a keeper and reads what comes from it, `pool` watches all of them, `static` and
`elastic` decide what happens when one ends, `options` and `launcher` read the command line.
"""
