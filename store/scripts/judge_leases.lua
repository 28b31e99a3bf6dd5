-- Decides which hosts are down: those whose leases have been gone for the grace, by the store's time. All readers hear of
-- each by a change. Several control planes may ask at any time: what was decided is not decided again.
--
-- That a lease is gone says something of its host only while leases could have been renewed. So time counts from the first
-- look that missed the lease, and it begins anew, and is longer, where
--   nobody has looked for a while      no control plane was there, or the store was not
--   no host at all has a lease         then it is not the hosts that are gone
--
-- KEYS  1 hosts  2 hosts:down  3 hosts:missed  4 hosts:revision  5 changes
-- ARGV  1 what the key of a lease begins with  2 the grace  3 milliseconds between two looks at least
--       4 milliseconds between two looks at most  5 milliseconds for which nobody is down after a break
--       6 number of changes to keep  7 milliseconds between two looks beyond which nobody could renew a lease
-- Returns {the hosts that are down from now on, those that are not any more, hosts without a lease that are not down}

local wrong = wrong_type(KEYS[1], 'hash', KEYS[2], 'hash', KEYS[3], 'hash', KEYS[4], 'string', KEYS[5], 'stream')
if wrong then
  return wrong
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local last = tonumber(redis.call('HGET', KEYS[3], '@looked') or '')
if last and now >= last and now - last < tonumber(ARGV[3]) then
  return {{}, {}, {}}
end
if not last or now < last or now - last > tonumber(ARGV[7]) then
  redis.call('HSET', KEYS[3], '@since', string.format('%.0f', now))
end

local hosts = redis.call('HKEYS', KEYS[1])
local leases, any_lease = {}, false
for from = 1, #hosts, 1000 do  -- unpack has a limit of some thousands
  local keys = {}
  for i = from, math.min(from + 999, #hosts) do
    keys[#keys + 1] = ARGV[1] .. hosts[i]
  end
  for i, lease in ipairs(redis.call('MGET', unpack(keys))) do
    leases[from + i - 1] = lease
    any_lease = any_lease or lease
  end
end
local is_break = not last or now < last or now - last > tonumber(ARGV[4]) or not any_lease

local function announce(host)
  append_change(KEYS[5], ARGV[6], 'environment', '', 'revision', redis.call('GET', KEYS[4]) or '0', 'digest', '',
    'host', host)
end

local down, up, missed = {}, {}, {}
for i, host in ipairs(hosts) do
  local is_down = redis.call('HEXISTS', KEYS[2], host) == 1
  local since = tonumber(redis.call('HGET', KEYS[3], host) or '')
  if leases[i] then
    if is_down then  -- a release that does not know of this has renewed the lease
      announce(host)
      redis.call('HDEL', KEYS[2], host)
      up[#up + 1] = host
    end
    if since then
      redis.call('HDEL', KEYS[3], host)
    end
  elseif not is_down then
    if is_break or not since then
      redis.call('HSET', KEYS[3], host, string.format('%.0f', now + (is_break and tonumber(ARGV[5]) or 0)))
      missed[#missed + 1] = host
    elseif now - since >= tonumber(ARGV[2]) then
      announce(host)
      redis.call('HSET', KEYS[2], host, string.format('%.0f', now))
      redis.call('HDEL', KEYS[3], host)
      down[#down + 1] = host
    else
      missed[#missed + 1] = host
    end
  end
end
redis.call('HSET', KEYS[3], '@looked', string.format('%.0f', now))
return {down, up, missed}
