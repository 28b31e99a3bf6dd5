-- Reads index lines and documents as of one moment. A script, not MULTI: a server without memory refuses MULTI.
--
-- KEYS  1 environments  then environment:<id> for each id
-- ARGV  1 octets that a document may have; of a larger one only the size is read  then the ids
-- Returns {index lines or nil, sizes (0 for none, -1 for a key of a wrong type), documents or nil}

local most = tonumber(ARGV[1])
local sizes, documents = {}, {}
for i = 2, #KEYS do
  local size = redis.pcall('STRLEN', KEYS[i])
  if type(size) ~= 'number' then
    size = -1
  end
  sizes[i - 1] = size
  documents[i - 1] = size > 0 and size <= most and redis.call('GET', KEYS[i])
end
return {redis.call('HMGET', KEYS[1], unpack(ARGV, 2)), sizes, documents}
