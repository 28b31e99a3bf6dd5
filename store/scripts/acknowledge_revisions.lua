-- Records the revisions that the agents of hosts have programmed. An environment in which a host has no member any more
-- is passed over, and so is a host that was forgotten: nobody waits for such an acknowledgement, and one that comes late
-- would stay in the store for ever.
--
-- KEYS  1 environments  2 hosts  then for each acknowledgement: lease:<host>, and acks:<id> for each of its ids
-- ARGV  1 the id that stands for all hosts
--       then for each acknowledgement
--       host, the incarnation that must hold the lease, the number of its ids, and id, revision for each
-- Returns for each acknowledgement 1 | 0 where the incarnation does not hold the lease

local wrong = wrong_type(KEYS[1], 'hash', KEYS[2], 'hash')
if wrong then
  return wrong
end

local entries = {}  -- by id: whether it is there, and the hosts that have a member of it; those are nil where nobody knows
local function entry_of(id)
  if not entries[id] then
    local entry = redis.call('HGET', KEYS[1], id)
    local hosts = entry and string.match(entry, '^%d+ %S+ (%S+)$')
    -- A release without hosts wrote no hosts into its index entries. Then each acknowledgement is recorded.
    entries[id] = {entry and not string.find(entry, ' deleted$'), hosts and split_hosts(hosts)}
  end
  return unpack(entries[id], 1, 2)
end

local function is_concerned(host, id)
  if id == ARGV[1] then
    return redis.call('HEXISTS', KEYS[2], host) == 1
  end
  local is_there, hosts = entry_of(id)
  return is_there and (not hosts or hosts[host])
end

local outcomes = {}
local key, argument = 3, 2  -- of the next acknowledgement
while key <= #KEYS do
  local host, incarnation, count = ARGV[argument], ARGV[argument + 1], tonumber(ARGV[argument + 2])
  local holds = holds_lease(KEYS[key], incarnation)
  for i = 1, count do
    local acks, id, revision = KEYS[key + i], ARGV[argument + 2 * i + 1], ARGV[argument + 2 * i + 2]
    if holds and is_concerned(host, id) then
      drop_wrong_acks(acks)
      redis.call('HSET', acks, host, revision)
    end
  end
  outcomes[#outcomes + 1] = holds and 1 or 0
  key, argument = key + 1 + count, argument + 3 + 2 * count
end
return outcomes
