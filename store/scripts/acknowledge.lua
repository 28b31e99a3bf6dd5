-- What one host has programmed. One that has no member of an environment any more, or is forgotten, is no longer asked:
-- what it says late must not stay for ever.
--
-- KEYS  1 environments  2 hosts  then acks:<id> for each
-- ARGV  1 host  2 what stands for the hosts in the place of an id  then id, revision for each

for i = 3, #KEYS do
  local id, revision = ARGV[2 * i - 3], ARGV[2 * i - 2]
  local concerns
  if id == ARGV[2] then
    concerns = redis.call('HEXISTS', KEYS[2], ARGV[1]) == 1
  else
    local entry = redis.call('HGET', KEYS[1], id)
    local hosts = entry and string.match(entry, '^%d+ %S+ (%S+)$')
    -- A release before hosts left them out of its entries: then nobody knows.
    concerns = entry and not string.find(entry, ' deleted$') and (not hosts or split(hosts)[ARGV[1]])
  end
  if concerns then
    redis.call('HSET', KEYS[i], ARGV[1], revision)
  end
end
