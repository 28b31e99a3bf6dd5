-- Shared by all scripts that change what readers follow. They call it before they write anything else, for it may fail:
-- somebody may have used up all positions that a stream has.

-- Appends one change to the stream, and trims the stream to about `kept` changes. Each change names its predecessor, so
-- a reader notices when it has missed one. Returns the stream id of the change.
local function append_change(stream, kept, ...)
  local newest = redis.call('XREVRANGE', stream, '+', '-', 'COUNT', 1)
  local previous = newest[1] and newest[1][1] or '0-0'
  return redis.call('XADD', stream, 'MAXLEN', '~', kept, '*', 'previous', previous, ...)
end
