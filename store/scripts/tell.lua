-- What the scripts that write have in common. It stands before each of them.

-- The hosts of an index entry or an argument, 'h1,h2' or '-' for none, as a set and a list.
local function split(text)
  local set, list = {}, {}
  for host in string.gmatch(text, '[^,]+') do
    if host ~= '-' then
      set[host] = true
      list[#list + 1] = host
    end
  end
  return set, list
end

-- Adds a change to the stream. Every change names the one before it: a reader that misses one knows.
local function tell(stream, kept, ...)
  local last = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)
  local previous = last[1] and last[1][1] or '0-0'
  return redis.call('XADD', stream, 'MAXLEN', '~', kept, '*', 'previous', previous, ...)
end
