-- Renews leases, or takes them where nobody holds them: each as if it were the only one here. An error ends the script
-- at the first lease that has one; the leases before it are renewed then, and renewing them again changes nothing more.
--
-- A lease that another incarnation holds stays as it is, and its holder learns of the claim. So it is while a lease that
-- is gone says nothing, since nobody could renew one until a moment ago (judge_leases.lua sees that): then it is left to
-- the incarnation that had it last, which may live.
-- A host that was down is not down any more, and all readers hear of that by a change: a release that does not know it
-- reads the hosts, and finds nothing new.
--
-- KEYS  1 hosts:down  2 hosts:revision  3 changes  4 hosts:missed
--       then lease:<host>, claim:<host> for each lease
-- ARGV  1 number of changes to keep  2 milliseconds for which a refused claim is kept
--       3 milliseconds between two looks at all leases beyond which nobody could renew
--       then for each lease
--       host, incarnation, state ('able' or 'unable'), milliseconds until it ends, and for which it is left to its last
--       holder after an outage, where the incarnation runs, in words
-- Returns for each lease {'ok', where the last refused claim came from ('' for none)} | {'held', ''}

-- Whether leases that are gone are left to those who had them last, for `milliseconds` after an outage.
local function is_outage(milliseconds)
  if redis.pcall('HEXISTS', KEYS[4], '@looked') ~= 1 then
    return false
  end
  local time = redis.call('TIME')
  local now = time[1] * 1000 + math.floor(time[2] / 1000)
  local looked = tonumber(redis.call('HGET', KEYS[4], '@looked') or '') or 0
  local since = tonumber(redis.call('HGET', KEYS[4], '@since') or '') or 0
  return now - looked > tonumber(ARGV[3]) or now - since < tonumber(milliseconds)
end

-- The outcome of one lease, and an error if there is one.
local function renew(lease_key, claim_key, host, incarnation, state, milliseconds, where)
  local lease = redis.pcall('GET', lease_key)
  -- A release without incarnations wrote an empty lease. It is anybody's, as is one of a wrong type.
  local holder = type(lease) == 'string' and string.match(lease, '^%S+')
  local note = '@holder ' .. host
  if not holder and is_outage(milliseconds) then
    holder = redis.call('HGET', KEYS[4], note)
  end
  if holder and holder ~= incarnation then
    redis.call('SET', claim_key, incarnation .. ' ' .. where, 'PX', ARGV[2])
    return {'held', ''}
  end
  if redis.pcall('HEXISTS', KEYS[1], host) == 1 then
    local wrong = wrong_type(KEYS[2], 'string', KEYS[3], 'stream')
    if wrong then
      return nil, wrong
    end
    append_change(KEYS[3], ARGV[1], 'environment', '', 'revision', redis.call('GET', KEYS[2]) or '0', 'digest', '',
      'host', host)
    redis.call('HDEL', KEYS[1], host)
  end
  redis.call('SET', lease_key, incarnation .. ' ' .. state, 'PX', milliseconds)
  if redis.pcall('HGET', KEYS[4], note) ~= incarnation then
    redis.pcall('HSET', KEYS[4], note, incarnation)
  end

  local claim = redis.pcall('GET', claim_key)
  local claimant, claimed_from = string.match(type(claim) == 'string' and claim or '', '^(%S+) (.*)$')
  if claimant == incarnation then
    -- It waited for the lease of its predecessor to end.
    redis.call('DEL', claim_key)
    return {'ok', ''}
  end
  return {'ok', claimed_from or ''}
end

local outcomes = {}
for i = 1, (#KEYS - 4) / 2 do
  local outcome, wrong = renew(KEYS[2 * i + 3], KEYS[2 * i + 4], unpack(ARGV, 5 * i - 1, 5 * i + 3))
  if wrong then
    return wrong
  end
  outcomes[i] = outcome
end
return outcomes
