-- Reads how far the hosts are with an environment, as of one moment. A script, not MULTI: a server without memory
-- refuses MULTI.
--
-- KEYS  1 environments  2 acks:<id>  3 hosts
-- ARGV  1 id  2 the id that stands for all hosts  3 what the key of a lease begins with
-- Returns {hosts, {host, acknowledged revision, …}, leases or nil}

local hosts = {}
if ARGV[1] == ARGV[2] then
  hosts = redis.call('HKEYS', KEYS[3])
else
  local entry = redis.call('HGET', KEYS[1], ARGV[1])
  local listed = entry and string.match(entry, '^%d+ %S+ (%S+)$')
  if listed then
    local _
    _, hosts = split_hosts(listed)
  end
end
local leases = {}
for i, host in ipairs(hosts) do
  leases[i] = redis.pcall('GET', ARGV[3] .. host)
  if type(leases[i]) ~= 'string' then
    leases[i] = false
  end
end
local acks = redis.pcall('HGETALL', KEYS[2])
return {hosts, acks.err and {} or acks, leases}
