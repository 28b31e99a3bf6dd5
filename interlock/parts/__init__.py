"""The parts that processes are put together from: the resolver, the agent, the HTTP servers, the store probe."""
