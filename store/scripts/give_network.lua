-- Gives a network to the environment that is in it, unless its owner has changed meanwhile.
--
-- KEYS  1 networks
-- ARGV  1 network  2 the environment that is to own it  3 the owner that was found ('' for none)
-- Returns 1, or 0 if another owner was found now

if (redis.call('HGET', KEYS[1], ARGV[1]) or '') ~= ARGV[3] then
  return 0
end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 1
