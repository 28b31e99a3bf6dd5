-- Reads the point in its history at which the data set is. A script, not MULTI: a server without memory refuses MULTI.
--
-- KEYS  1 epoch  2 changes
-- Returns {epoch or nil, stream id of the newest change ('' for none)}

local newest = redis.call('XREVRANGE', KEYS[2], '+', '-', 'COUNT', 1)
return {redis.call('GET', KEYS[1]), newest[1] and newest[1][1] or ''}
