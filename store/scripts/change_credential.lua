-- Writes the credential of one host, and appends that as a change of the host: all control planes hear of it.
--
-- KEYS  1 epoch  2 credentials  3 hosts:revision  4 changes  5 enrolments  6 lease:<host>
-- ARGV  1 host  2 the credential  3 the credential that must be there before ('' for any or none)
--       4 the enrolment that must be there, and is used up ('' where none is needed)
--       5 the incarnation that must hold the lease ('' where none is needed)
--       6 epoch to set if there is none  7 number of changes to keep
-- Returns 'ok' | 'changed' | 'lease'

if ARGV[5] ~= '' and not holds_lease(KEYS[6], ARGV[5]) then
  return 'lease'
end
local wrong = wrong_type(KEYS[1], 'string', KEYS[2], 'hash', KEYS[3], 'string', KEYS[4], 'stream', KEYS[5], 'hash')
if wrong then
  return wrong
end
if ARGV[3] ~= '' and redis.call('HGET', KEYS[2], ARGV[1]) ~= ARGV[3] then
  return 'changed'
end
if ARGV[4] ~= '' and redis.call('HGET', KEYS[5], ARGV[1]) ~= ARGV[4] then
  return 'changed'
end

-- From here on nothing is refused, and after the stream nothing can fail.
append_change(KEYS[4], ARGV[7], 'environment', '', 'revision', redis.call('GET', KEYS[3]) or '0', 'digest', '',
  'host', ARGV[1])
redis.call('SET', KEYS[1], ARGV[6], 'NX')
redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])
if ARGV[4] ~= '' then
  redis.call('HDEL', KEYS[5], ARGV[1])
end
return 'ok'
