-- Reads index entries and documents as of one moment. A script, not MULTI: a server without memory refuses MULTI.
--
-- KEYS  1 environments  then environment:<id> for each id
-- ARGV  the ids
-- Returns {index entries or nil, documents or nil}

return {redis.call('HMGET', KEYS[1], unpack(ARGV)), redis.call('MGET', unpack(KEYS, 2))}
