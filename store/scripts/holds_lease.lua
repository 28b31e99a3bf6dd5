-- Shared by the scripts that change something for the agent of a host.

-- Whether the lease at `key` is held by `incarnation`. The lease holds '<incarnation> <state>'.
local function holds_lease(key, incarnation)
  local lease = redis.pcall('GET', key)
  return type(lease) == 'string' and string.match(lease, '^%S+') == incarnation
end
