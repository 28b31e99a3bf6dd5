-- Renews the lease of one host, or takes it where nobody holds it. A lease that another incarnation holds stays as it
-- is, and its holder learns of the claim. So it is while a lease that is gone says nothing, since nobody could renew one
-- until a moment ago (judge_leases.lua sees that): then it is left to the incarnation that had it last, which may live.
-- A host that was down is not down any more, and all readers hear of that by a change: a release that does not know it
-- reads the hosts, and finds nothing new.
--
-- KEYS  1 lease:<host>  2 claim:<host>  3 hosts:down  4 hosts:revision  5 changes  6 hosts:missed
-- ARGV  1 incarnation  2 state ('able' or 'unable')
--       3 milliseconds until the lease ends, and for which it is left to its last holder after an outage
--       4 where the incarnation runs, in words  5 milliseconds for which a refused claim is kept
--       6 host  7 number of changes to keep
--       8 milliseconds between two looks at all leases beyond which nobody could renew
-- Returns {'ok', where the last refused claim came from ('' for none)} | {'held', ''}

local lease = redis.pcall('GET', KEYS[1])
-- A release without incarnations wrote an empty lease. It is anybody's, as is one of a wrong type.
local holder = type(lease) == 'string' and string.match(lease, '^%S+')
local note = '@holder ' .. ARGV[6]
if not holder and redis.pcall('HEXISTS', KEYS[6], '@looked') == 1 then
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  local looked = tonumber(redis.call('HGET', KEYS[6], '@looked') or '') or 0
  local since = tonumber(redis.call('HGET', KEYS[6], '@since') or '') or 0
  if now - looked > tonumber(ARGV[8]) or now - since < tonumber(ARGV[3]) then
    holder = redis.call('HGET', KEYS[6], note)
  end
end
if holder and holder ~= ARGV[1] then
  redis.call('SET', KEYS[2], ARGV[1] .. ' ' .. ARGV[4], 'PX', ARGV[5])
  return {'held', ''}
end
if redis.pcall('HEXISTS', KEYS[3], ARGV[6]) == 1 then
  local wrong = wrong_type(KEYS[4], 'string', KEYS[5], 'stream')
  if wrong then
    return wrong
  end
  append_change(KEYS[5], ARGV[7], 'environment', '', 'revision', redis.call('GET', KEYS[4]) or '0', 'digest', '',
    'host', ARGV[6])
  redis.call('HDEL', KEYS[3], ARGV[6])
end
redis.call('SET', KEYS[1], ARGV[1] .. ' ' .. ARGV[2], 'PX', ARGV[3])
if redis.pcall('HGET', KEYS[6], note) ~= ARGV[1] then
  redis.pcall('HSET', KEYS[6], note, ARGV[1])
end

local claim = redis.pcall('GET', KEYS[2])
local claimant, where = string.match(type(claim) == 'string' and claim or '', '^(%S+) (.*)$')
if claimant == ARGV[1] then
  -- It waited for the lease of its predecessor to end.
  redis.call('DEL', KEYS[2])
  return {'ok', ''}
end
return {'ok', where or ''}
