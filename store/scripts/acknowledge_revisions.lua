-- Records the revisions that the agent of one host has programmed. An environment in which the host has no member any
-- more is passed over, and so is a host that was forgotten: nobody waits for such an acknowledgement, and one that
-- comes late would stay in the store for ever.
--
-- KEYS  1 environments  2 hosts  3 lease:<host>  then acks:<id> for each id
-- ARGV  1 host  2 the id that stands for all hosts  3 the incarnation that must hold the lease
--       then id, revision for each id
-- Returns 1 | 0 where the incarnation does not hold the lease

local wrong = wrong_type(KEYS[1], 'hash', KEYS[2], 'hash')
if wrong then
  return wrong
end
if not holds_lease(KEYS[3], ARGV[3]) then
  return 0
end
for i = 4, #KEYS do
  local id, revision = ARGV[2 * i - 4], ARGV[2 * i - 3]
  local concerned
  if id == ARGV[2] then
    concerned = redis.call('HEXISTS', KEYS[2], ARGV[1]) == 1
  else
    local entry = redis.call('HGET', KEYS[1], id)
    local hosts = entry and string.match(entry, '^%d+ %S+ (%S+)$')
    -- A release without hosts wrote no hosts into its index entries. Then the acknowledgement is recorded.
    concerned = entry and not string.find(entry, ' deleted$') and (not hosts or split_hosts(hosts)[ARGV[1]])
  end
  if concerned then
    drop_wrong_acks(KEYS[i])
    redis.call('HSET', KEYS[i], ARGV[1], revision)
  end
end
return 1
