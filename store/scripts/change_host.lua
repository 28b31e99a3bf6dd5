-- Writes the document of one host, or removes it. Nothing else changes a host.
-- Who forgets a host ends its credential, and the enrolment that it has not used.
--
-- KEYS  1 epoch  2 hosts  3 hosts:revision  4 changes  5 lease:<host>  6 acks:@hosts  7 credentials  8 enrolments
--       9 hosts:down  10 hosts:missed
-- ARGV  1 host  2 document ('' forgets the host)  3 epoch to set if there is none  4 number of changes to keep
--       5 the document that must be there before ('' for any or none)
--       6 the incarnation that must hold the lease ('' for an administrator, who needs none)
-- Returns {'ok', revision} | {'lease', ''} | {'changed', ''} | {'key', owner} | {'endpoint', owner}

if ARGV[6] ~= '' and not holds_lease(KEYS[5], ARGV[6]) then
  return {'lease', ''}
end
local wrong = wrong_type(KEYS[1], 'string', KEYS[2], 'hash', KEYS[3], 'string', KEYS[4], 'stream',
  KEYS[7], 'hash', KEYS[8], 'hash', KEYS[9], 'hash', KEYS[10], 'hash')
if wrong then
  return wrong
end
local counted = redis.call('GET', KEYS[3]) or '0'
-- 15 digits: a larger number would be rounded here.
if not string.match(counted, '^%d+$') or #counted > 15 then
  return redis.error_reply('WRONGKEY ' .. KEYS[3] .. ' holds no number that could be counted up')
end
local before = redis.call('HGET', KEYS[2], ARGV[1])
local wanted = ARGV[2] ~= '' and ARGV[2]
local ends_credential = not wanted
  and redis.call('HEXISTS', KEYS[7], ARGV[1]) + redis.call('HEXISTS', KEYS[8], ARGV[1]) > 0
if before == wanted and not ends_credential then
  return {'ok', counted}
end
if ARGV[5] ~= '' and ARGV[5] ~= before then
  return {'changed', ''}
end

-- A host keeps its keys and its endpoint while its agent is away: the lease says that the agent lives, the document
-- what belongs to the host. A document that cannot be read reserves nothing.
if wanted then
  local host = cjson.decode(wanted)
  local fields = redis.call('HGETALL', KEYS[2])
  for i = 1, #fields, 2 do
    local readable, other = pcall(cjson.decode, fields[i + 1])
    if fields[i] ~= ARGV[1] and readable and type(other) == 'table' then
      for _, key in ipairs({host.public_key, host.next_public_key}) do
        if key == other.public_key or key == other.next_public_key then
          return {'key', fields[i]}
        end
      end
      if host.endpoint == other.endpoint then
        return {'endpoint', fields[i]}
      end
    end
  end
end

-- From here on nothing is refused, and after the stream nothing can fail.
local revision = string.format('%.0f', tonumber(counted) + 1)
append_change(KEYS[4], ARGV[4], 'environment', '', 'revision', revision, 'digest', '', 'host', ARGV[1])
redis.call('SET', KEYS[1], ARGV[3], 'NX')
redis.call('SET', KEYS[3], revision)
if wanted then
  redis.call('HSET', KEYS[2], ARGV[1], wanted)
else
  drop_wrong_acks(KEYS[6])
  redis.call('HDEL', KEYS[2], ARGV[1])
  redis.call('HDEL', KEYS[6], ARGV[1])
  redis.call('HDEL', KEYS[7], ARGV[1])
  redis.call('HDEL', KEYS[8], ARGV[1])
  redis.call('HDEL', KEYS[9], ARGV[1])
  redis.call('HDEL', KEYS[10], ARGV[1], '@holder ' .. ARGV[1])
  redis.call('DEL', KEYS[5])
end
return {'ok', revision}
