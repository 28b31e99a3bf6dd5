-- Puts what was restored in place: all of it or nothing. Nothing else replaces a whole data set.
--
-- KEYS  1 epoch  2 changes  then those that must not be there  then the hashes  then where each of them lies aside
--       then the strings
-- ARGV  1 the epoch of the data set  2 number of keys that must not be there  3 number of hashes
--       then the value of each string
-- Returns 'ok' | 'taken': somebody has written meanwhile

local wrong = wrong_type(KEYS[2], 'stream')
if wrong then
  return wrong
end
local first, hashes = 3 + tonumber(ARGV[2]), tonumber(ARGV[3])
for i = 3, first - 1 do
  if redis.call('EXISTS', KEYS[i]) == 1 then
    return 'taken'
  end
end
-- No writer of changes makes one like this: whoever follows the store takes it for a gap, and compares all.
redis.call('XADD', KEYS[2], '*', 'restored', ARGV[1])
redis.call('SET', KEYS[1], ARGV[1])
for i = first, first + hashes - 1 do
  redis.call('DEL', KEYS[i])
  if redis.call('EXISTS', KEYS[i + hashes]) == 1 then
    redis.call('RENAME', KEYS[i + hashes], KEYS[i])
  end
end
local strings = first + 2 * hashes
for i = strings, #KEYS do
  redis.call('SET', KEYS[i], ARGV[4 + i - strings])
end
return 'ok'
