"""A soak: mixed load for minutes or hours, in which each answer is judged and each process is watched for leaks.

    make soak ARGS="--minutes 60"

Two installations run side by side: ``interlock up`` with its embedded store; a resolver and an admin API on a Redis.
Writers commit all the time, clients query all the time, and the stores are frozen, killed or cut off now and then.
The exit status is 1 if an answer was wrong, an acknowledged write was lost, or a process grew.
"""
