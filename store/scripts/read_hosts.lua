-- Reads all hosts as of one moment. A script, not MULTI: a server without memory refuses MULTI.
--
-- KEYS  1 hosts:revision  2 hosts  3 hosts:down
-- Returns {revision or nil, {host, document, …}, the hosts that are down}

local down = redis.pcall('HKEYS', KEYS[3])
return {redis.call('GET', KEYS[1]), redis.call('HGETALL', KEYS[2]), down.err and {} or down}
