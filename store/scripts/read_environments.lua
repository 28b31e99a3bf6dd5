-- Reads index lines and documents as of one moment. A script, not MULTI: a server without memory refuses MULTI.
--
-- KEYS  1 environments  then environment:<id>, environment:<id>:differences for each id
-- ARGV  1 octets that a document may have, and its differences together; of a larger one only the size is read
--       then id, revision, digest for each id: what the reader has of it; '' if nothing
-- Returns {index lines or nil, sizes (0 for none, -1 for a key of a wrong type), documents or nil, differences}
--   Where the reader has a revision that others follow, these alone are read: the document is nil, and the differences
--   are those to what the reader has, in their order; there are none where that is the newest. Else they are those to
--   the document, as revision and difference in turn, in any order. Whether they lead to the digest in the line is for
--   the reader to find out.

local FOLLOWED = 1000  -- differences that are read one by one; a reader that is further behind reads the document

-- The differences after `revision` of an environment whose line is `line`; nil where not all of them are there.
local function following(key, line, revision, digest)
  local newest = revision .. ' ' .. digest
  if line == newest or string.sub(line, 1, #newest + 1) == newest .. ' ' then
    return {}
  end
  local found, last = {}, string.match(line, '^%d+')
  for at = 1, FOLLOWED do
    local each = redis.pcall('HGET', key, revision)
    revision = type(each) == 'string' and string.match(each, '^{"id":"[^"]*","before":%d+,"revision":(%d+)')
    if not revision then
      return nil
    end
    found[at] = each
    if revision == last then
      return found
    end
  end
end

local most = tonumber(ARGV[1])
local lines, sizes, documents, differences = {}, {}, {}, {}
for n = 1, (#KEYS - 1) / 2 do
  local document, key = KEYS[2 * n], KEYS[2 * n + 1]
  local id, revision, digest = ARGV[3 * n - 1], ARGV[3 * n], ARGV[3 * n + 1]
  local line = redis.call('HGET', KEYS[1], id)
  local size = redis.pcall('STRLEN', document)
  if type(size) ~= 'number' then
    size = -1
  end
  local found = revision ~= '' and line and size > 0 and following(key, line, revision, digest)
  local read = false
  if not found then
    found = {}
    if size > 0 and size <= most then
      read = redis.call('GET', document)
      found = redis.pcall('HGETALL', key)
      local octets = 0
      for _, each in ipairs(found) do
        octets = octets + #each
      end
      if found.err or octets > most then
        found = {}
      end
    end
  end
  lines[n], sizes[n], documents[n], differences[n] = line, size, read, found
end
return {lines, sizes, documents, differences}
