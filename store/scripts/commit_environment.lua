-- Writes one revision of one environment, or its deletion: all of it or nothing. Nothing else changes an environment.
--
-- KEYS  1 epoch  2 environments  3 environment:<id>  4 networks  5 changes  6 acks:<id>  7 damaged:<id>
--       8 deleted  9 deleted:<id>:<revision>, where a deleted document is kept  10 environment:<id>:differences
--       then lease:<host> of each host in whose name it is written
-- ARGV  1 id  2 expected revision (0: never existed)  3 new revision  4 digest  5 network
--       6 document ('' deletes), or the difference to the expected revision where 14 is set
--       7 hosts with a member of it ('h1,h2', '-' for none)  8 epoch to set if there is none
--       9 number of changes to keep
--       10 for an environment that is damaged, '=' and the line that must be in the index; then 2 does not count
--       11 seconds for which the damaged document is kept
--       12 seconds for which the document of a deleted environment is kept (0: not at all)
--       13 '1' if the document is that of 9, which is brought back into the network that it had
--       14 for a difference, the digest that the expected revision must have
--       15 for a difference, how many there are already: each is needed, and nobody else adds or removes one
--       16 the whole document of an environment that is deleted, to be kept
--       then the incarnation that must hold each of the leases
-- Returns {'ok', stream id} | {'lease', the number of the first lease that is not held} | {'revision', actual}
--       | {'network', owner} | {'gone', ''}: there is nothing at 9 to bring back

for i = 11, #KEYS do
  if not holds_lease(KEYS[i], ARGV[i + 6]) then
    return {'lease', tostring(i - 10)}
  end
end
local kept_for, is_undeleted = tonumber(ARGV[12] or '0'), ARGV[13] == '1'
local wrong = wrong_type(KEYS[1], 'string', KEYS[2], 'hash', KEYS[4], 'hash', KEYS[5], 'stream',
  KEYS[8] or KEYS[4], 'hash')
if wrong then
  return wrong
end
local entry = redis.call('HGET', KEYS[2], ARGV[1])
local actual = entry and string.match(entry, '^%d+') or '0'
local is_damaged = (ARGV[10] or '') ~= ''
if is_damaged and ARGV[10] ~= '=' .. (entry or '') or not is_damaged and actual ~= ARGV[2] then
  return {'revision', actual}
end

-- A difference counts for the revision that it was made of alone. Where the document is gone, nothing follows it.
local of = ARGV[14] or ''
if of ~= '' then
  local there = redis.pcall('HLEN', KEYS[10])
  local is_whole = redis.call('EXISTS', KEYS[3]) == 1 and (ARGV[15] == '0' or there == tonumber(ARGV[15]))
  if string.match(entry or '', '^%d+ (%S+)') ~= of or not is_whole then
    return {'revision', actual}
  end
end

if is_undeleted and redis.call('EXISTS', KEYS[9]) == 0 then
  return {'gone', ''}
end

-- A network belongs to its first owner for ever, even after that environment is deleted, so that no stale packet,
-- route or cached answer can reach another environment. A deletion takes none, so no owner is in its way.
local owner = ARGV[6] ~= '' and redis.call('HGET', KEYS[4], ARGV[5])
local created = not entry or string.find(entry, ' deleted$')
if owner and (owner ~= ARGV[1] or created and not is_damaged and not is_undeleted) then
  return {'network', owner}
end

-- The change also names each host that loses its last member by it, and what that host acknowledged is removed.
local before = entry and string.match(entry, '^%d+ %S+ (%S+)$') or '-'
local members, concerned = split_hosts(ARGV[7])
local lost = {}
local _, hosts_before = split_hosts(before)
for _, host in ipairs(hosts_before) do
  if not members[host] then
    concerned[#concerned + 1] = host
    lost[#lost + 1] = host
  end
end

-- From here on nothing is refused, and after the stream nothing can fail.
local change = {'environment', ARGV[1], 'revision', ARGV[3], 'digest', ARGV[4]}
if not is_damaged then  -- else nobody knows which hosts had a member before, and each host looks for itself
  change[7], change[8] = 'hosts', #concerned > 0 and table.concat(concerned, ',') or '-'
end
local position = append_change(KEYS[5], ARGV[9], unpack(change))
redis.call('SET', KEYS[1], ARGV[8], 'NX')
drop_wrong_acks(KEYS[6])
for _, host in ipairs(lost) do
  redis.call('HDEL', KEYS[6], host)
end
-- The revision of a deleted environment stays, so that an environment created again under the same id counts on from it.
local written = ARGV[3] .. ' ' .. ARGV[4]
if is_damaged and redis.call('EXISTS', KEYS[3]) == 1 then
  redis.call('RENAME', KEYS[3], KEYS[7])
  redis.call('EXPIRE', KEYS[7], ARGV[11])
  if KEYS[10] and redis.call('EXISTS', KEYS[10]) == 1 then
    redis.call('RENAME', KEYS[10], KEYS[7] .. ':differences')
    redis.call('EXPIRE', KEYS[7] .. ':differences', ARGV[11])
  end
end
if ARGV[6] == '' and kept_for > 0 and redis.call('EXISTS', KEYS[3]) == 1 then
  redis.call('SET', KEYS[9], ARGV[16], 'EX', kept_for)
  note_deleted(KEYS[8], ARGV[1], ARGV[3], kept_for)
elseif is_undeleted then
  redis.call('DEL', KEYS[9])
end
if KEYS[10] and (of == '' or ARGV[15] == '0') then
  redis.call('DEL', KEYS[10])  -- they are none to the document that lies there now
end
if of ~= '' then
  redis.call('HSET', KEYS[10], ARGV[2], ARGV[6])
end
if ARGV[6] == '' then
  redis.call('DEL', KEYS[3], KEYS[6])
else
  if of == '' then
    redis.call('SET', KEYS[3], ARGV[6])
  end
  redis.call('HSET', KEYS[4], ARGV[5], ARGV[1])
  written = written .. ' ' .. ARGV[7]
end
redis.call('HSET', KEYS[2], ARGV[1], written)
return {'ok', position}
