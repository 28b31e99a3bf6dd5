"""`interlock doctor`: what keeps a host, a name, a workload or a pair from working, as one cause and its fix.

    sources    each is asked, with a deadline                            agent, admin API, resolver, upstreams
    gather     all of them beside each other, and their marks together
    judge      facts → marks, one function for each check                host, peers, workloads, names, plane, machine
    marks      the order of causes, and the report

The judgements are pure. The admin API and `interlock explain` show the same marks.
"""
