"""The programs: for each of ``interlock up``, ``resolver``, ``admin`` and ``agent``, which parts its process runs."""
