"""`interlock doctor`: what keeps a host, a name, a workload or a pair from working, as one cause and its fix.

    gather     each source beside the others, each with a deadline       agent, admin API, resolver, upstreams
    judge      facts → marks, one function for each check                host, peers, workloads, names, plane, machine
    marks      the order of causes, and the report

The judgements are pure. The admin API and `interlock explain` show the same marks.
"""
