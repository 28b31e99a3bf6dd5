-- Reads all hosts as of one moment. A script, not MULTI: a server without memory refuses MULTI.
--
-- KEYS  1 hosts:revision  2 hosts
-- Returns {revision or nil, {host, document, …}}

return {redis.call('GET', KEYS[1]), redis.call('HGETALL', KEYS[2])}
