-- Reads what tells which hosts lag, as of one moment. A script, not MULTI: a server without memory refuses MULTI.
--
-- KEYS  1 environments  2 acks:<id>  then lease:<host> for each host
-- ARGV  1 id  then the hosts
-- Returns {index entry or nil, acknowledged revisions or nil, leases or nil}

return {
  redis.call('HGET', KEYS[1], ARGV[1]),
  redis.call('HMGET', KEYS[2], unpack(ARGV, 2)),
  redis.call('MGET', unpack(KEYS, 3)),
}
