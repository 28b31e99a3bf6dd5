-- Confirms that what the store does not hold any more is to be withdrawn, up to the newest change. All readers hear of it
-- by a change. An older release takes that change for one of no environment.
--
-- KEYS  1 epoch  2 guard  3 changes
-- ARGV  1 epoch to set if there is none  2 number of changes to keep
-- Returns the confirmation, as the field '*' of `guard` and the field `guard` of the change hold it:
-- '<epoch, - for none> <newest change before it> <its own change>'

local wrong = wrong_type(KEYS[1], 'string', KEYS[2], 'hash', KEYS[3], 'stream')
if wrong then
  return wrong
end
local epoch = redis.call('GET', KEYS[1]) or '-'
local newest = redis.call('XREVRANGE', KEYS[3], '+', '-', 'COUNT', 1)
local after = newest[1] and newest[1][1] or '0-0'
local change = append_change(KEYS[3], ARGV[2], 'environment', '', 'revision', 0, 'digest', '', 'hosts', '-',
  'guard', epoch .. ' ' .. after)
redis.call('SET', KEYS[1], ARGV[1], 'NX')
local confirmation = epoch .. ' ' .. after .. ' ' .. change
redis.call('HSET', KEYS[2], '*', confirmation)
return confirmation
